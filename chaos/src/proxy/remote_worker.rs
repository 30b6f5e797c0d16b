//! The blocking half of the remote proxy: calls, and reading back what they did.
//!
//! `toxiproxy_rust` does what it can; what it lacks (`reset_peer`, names of one's own, changing or removing a single
//! toxic) goes through small calls whose status is checked. Either way, only what is read back counts.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Map, Value, json};
use toxiproxy_rust::client::Client;
use toxiproxy_rust::proxy::{Proxy, ProxyPack};
use toxiproxy_rust::toxic::ToxicPack;

use super::toxic::default_name;
use super::{ProxyError, ProxyInfo, Stream, Toxic, ToxicKind};

/// Longest wait for one answer of the server.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) struct Worker {
    server: SocketAddr,
    client: Client,
    http: ureq::Agent,
    created: BTreeSet<String>,
    /// What is being done, for error messages.
    pub(super) action: String,
}

impl Worker {
    pub(super) fn new(server: SocketAddr) -> Self {
        let http = ureq::Agent::config_builder()
            .proxy(None)
            .http_status_as_error(false)
            .timeout_global(Some(CALL_TIMEOUT))
            .build()
            .new_agent();
        Self {
            server,
            client: Client::new(server),
            http,
            created: BTreeSet::new(),
            action: String::new(),
        }
    }

    pub(super) fn renew_client(&mut self) {
        self.client = Client::new(self.server);
    }

    pub(super) fn version(&mut self) -> Result<(), ProxyError> {
        let body = self.http("GET", "version", None)?;
        // Something else may listen there and answer 200 to everything.
        match serde_json::from_str::<Value>(&body) {
            Ok(answer) if answer.get("version").is_some_and(Value::is_string) => Ok(()),
            _ => Err(self.garbled(format!("its version is {body:?}"))),
        }
    }

    pub(super) fn create(
        &mut self,
        name: &str,
        listen: &str,
        upstream: &str,
    ) -> Result<SocketAddr, ProxyError> {
        if self.find(name)?.is_some() {
            return Err(ProxyError::ProxyExists {
                proxy: name.to_owned(),
            });
        }
        // There is no call to create one proxy; populating with one does it, as none of that name is there.
        let pack = ProxyPack::new(name.to_owned(), listen.to_owned(), upstream.to_owned());
        let said = self.client.populate(vec![pack]).err();
        // From here on it may exist, whatever the answer was.
        self.created.insert(name.to_owned());
        let Some(info) = self.find(name)?.map(|proxy| self.info(&proxy)).transpose()? else {
            self.created.remove(name);
            return Err(self.not_in_force(format!("no such proxy ({})", said.unwrap_or_default())));
        };
        if !info.enabled || info.upstream != upstream || !info.toxics.is_empty() {
            return Err(self.not_in_force(format!("{info:?}")));
        }
        info.listen
            .parse()
            .map_err(|error| self.garbled(format!("it listens on `{}`: {error}", info.listen)))
    }

    pub(super) fn set_enabled(&mut self, name: &str, enabled: bool) -> Result<(), ProxyError> {
        let proxy = self.need(name)?;
        let said = if enabled { proxy.enable() } else { proxy.disable() };
        let found = self.proxy(name)?;
        self.expect(found.enabled == enabled, || {
            format!("enabled: {} ({said:?})", found.enabled)
        })
    }

    pub(super) fn add_toxic(&mut self, proxy: &str, toxic: &Toxic) -> Result<(), ProxyError> {
        let found = self.need(proxy)?;
        if self.toxics(&found)?.iter().any(|there| there.name == toxic.name) {
            return Err(ProxyError::ToxicExists {
                proxy: proxy.to_owned(),
                toxic: toxic.name.clone(),
            });
        }
        if !add_through_client(&found, toxic) {
            let body = json!({
                "name": toxic.name,
                "type": toxic.kind.type_name(),
                "stream": toxic.stream.as_str(),
                "toxicity": toxic.toxicity,
                "attributes": attributes(&toxic.kind),
            });
            self.http("POST", &format!("proxies/{proxy}/toxics"), Some(&body))?;
        }
        self.expect_toxic(&found, toxic)
    }

    pub(super) fn update_toxic(&mut self, proxy: &str, toxic: &Toxic) -> Result<(), ProxyError> {
        let found = self.need(proxy)?;
        let there = self.need_toxic(&found, &toxic.name)?;
        if there.stream != toxic.stream || there.kind.type_name() != toxic.kind.type_name() {
            return Err(ProxyError::Invalid {
                what: format!(
                    "toxic `{}` of proxy `{proxy}` is a {} {} and stays so; remove it and add another",
                    toxic.name,
                    there.stream,
                    there.kind.type_name()
                ),
            });
        }
        let body = json!({ "toxicity": toxic.toxicity, "attributes": attributes(&toxic.kind) });
        self.http(
            "POST",
            &format!("proxies/{proxy}/toxics/{}", toxic.name),
            Some(&body),
        )?;
        self.expect_toxic(&found, toxic)
    }

    pub(super) fn remove_toxic(&mut self, proxy: &str, toxic: &str) -> Result<(), ProxyError> {
        let found = self.need(proxy)?;
        self.need_toxic(&found, toxic)?;
        self.http("DELETE", &format!("proxies/{proxy}/toxics/{toxic}"), None)?;
        let left = self.toxics(&found)?;
        self.expect(left.iter().all(|there| there.name != toxic), || {
            format!("{left:?}")
        })
    }

    pub(super) fn proxy(&mut self, name: &str) -> Result<ProxyInfo, ProxyError> {
        let proxy = self.need(name)?;
        self.info(&proxy)
    }

    pub(super) fn proxies(&mut self) -> Result<Vec<ProxyInfo>, ProxyError> {
        let all = self.client.all().map_err(|why| self.failed(why))?;
        let mut infos = all
            .values()
            .map(|proxy| self.info(proxy))
            .collect::<Result<Vec<_>, _>>()?;
        infos.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(infos)
    }

    pub(super) fn reset(&mut self, name: &str) -> Result<(), ProxyError> {
        let proxy = self.need(name)?;
        let said = (proxy.delete_all_toxics(), proxy.enable());
        let found = self.proxy(name)?;
        self.expect(found.enabled && found.toxics.is_empty(), || {
            format!("{found:?} ({said:?})")
        })
    }

    pub(super) fn reset_all(&mut self) -> Result<(), ProxyError> {
        let said = self.client.reset();
        let found = self.proxies()?;
        let whole = |info: &ProxyInfo| info.enabled && info.toxics.is_empty();
        self.expect(found.iter().all(whole), || format!("{found:?} ({said:?})"))
    }

    pub(super) fn delete(&mut self, name: &str) -> Result<(), ProxyError> {
        let said = self.need(name)?.delete();
        let gone = self.find(name)?.is_none();
        self.expect(gone, || format!("it is still there ({said:?})"))?;
        self.created.remove(name);
        Ok(())
    }

    /// Goes on after a failure, so that as little as possible is left behind; tells the first.
    pub(super) fn delete_created(&mut self) -> Result<(), ProxyError> {
        let mut result = Ok(());
        for name in self.created.clone() {
            result = result.and(match self.delete(&name) {
                // Somebody else has deleted it: that is what was wanted.
                Err(ProxyError::ProxyNotFound { .. }) => {
                    self.created.remove(&name);
                    Ok(())
                }
                other => other,
            });
        }
        result
    }

    pub(super) fn panicked(&self, why: String) -> ProxyError {
        ProxyError::ClientPanicked {
            server: self.server.to_string(),
            action: self.action.clone(),
            why,
        }
    }

    /// By way of the list, because looking for one that is not there gives no clear answer.
    fn find(&self, name: &str) -> Result<Option<Proxy>, ProxyError> {
        let mut all = self.client.all().map_err(|why| self.failed(why))?;
        Ok(all.remove(name))
    }

    fn need(&self, name: &str) -> Result<Proxy, ProxyError> {
        self.find(name)?.ok_or_else(|| ProxyError::ProxyNotFound {
            proxy: name.to_owned(),
        })
    }

    fn need_toxic(&self, proxy: &Proxy, toxic: &str) -> Result<Toxic, ProxyError> {
        let found = self.toxics(proxy)?.into_iter().find(|there| there.name == toxic);
        found.ok_or_else(|| ProxyError::ToxicNotFound {
            proxy: proxy.proxy_pack.name.clone(),
            toxic: toxic.to_owned(),
        })
    }

    fn toxics(&self, proxy: &Proxy) -> Result<Vec<Toxic>, ProxyError> {
        let packs = proxy.toxics().map_err(|why| self.failed(why))?;
        packs.iter().map(toxic_of).collect()
    }

    fn info(&self, proxy: &Proxy) -> Result<ProxyInfo, ProxyError> {
        let pack = &proxy.proxy_pack;
        Ok(ProxyInfo {
            name: pack.name.clone(),
            listen: pack.listen.clone(),
            upstream: pack.upstream.clone(),
            enabled: pack.enabled,
            toxics: pack.toxics.iter().map(toxic_of).collect::<Result<_, _>>()?,
        })
    }

    fn expect_toxic(&self, proxy: &Proxy, toxic: &Toxic) -> Result<(), ProxyError> {
        let found = self.toxics(proxy)?;
        self.expect(found.contains(toxic), || format!("{found:?}"))
    }

    fn expect(&self, holds: bool, found: impl FnOnce() -> String) -> Result<(), ProxyError> {
        if holds {
            Ok(())
        } else {
            Err(self.not_in_force(found()))
        }
    }

    fn not_in_force(&self, found: String) -> ProxyError {
        ProxyError::NotInForce {
            server: self.server.to_string(),
            action: self.action.clone(),
            found,
        }
    }

    fn garbled(&self, what: String) -> ProxyError {
        ProxyError::Garbled {
            server: self.server.to_string(),
            action: self.action.clone(),
            what,
        }
    }

    /// The client's errors are strings; what could not be parsed was at least answered.
    fn failed(&self, why: String) -> ProxyError {
        if why.contains("deserialize") {
            self.garbled(why)
        } else {
            ProxyError::Unreachable {
                server: self.server.to_string(),
                why,
            }
        }
    }

    fn http(&self, method: &str, path: &str, body: Option<&Value>) -> Result<String, ProxyError> {
        let unreachable = |error: ureq::Error| ProxyError::Unreachable {
            server: self.server.to_string(),
            why: error.to_string(),
        };
        let url = format!("http://{}/{path}", self.server);
        let sent = match (method, body) {
            ("POST", Some(body)) => self.http.post(&url).send_json(body),
            ("DELETE", _) => self.http.delete(&url).call(),
            _ => self.http.get(&url).call(),
        };
        let mut response = sent.map_err(unreachable)?;
        let text = response.body_mut().read_to_string().map_err(unreachable)?;
        let status = response.status();
        if status.is_success() {
            return Ok(text);
        }
        Err(ProxyError::Refused {
            server: self.server.to_string(),
            action: self.action.clone(),
            status: status.as_u16(),
            body: text.trim().to_owned(),
        })
    }
}

/// Adds the toxic with `toxiproxy_rust` if that can express it. Whether it worked is not known from this.
fn add_through_client(proxy: &Proxy, toxic: &Toxic) -> bool {
    let Toxic {
        name,
        stream,
        toxicity,
        kind,
    } = toxic;
    if *name != default_name(kind.type_name(), *stream) {
        return false;
    }
    let values: Option<Vec<u32>> = kind
        .attributes()
        .into_iter()
        .map(|(_, value)| u32::try_from(value).ok())
        .collect();
    let (Some(values), stream, toxicity) = (values, stream.to_string(), *toxicity) else {
        return false;
    };
    match (kind, values.as_slice()) {
        (ToxicKind::Latency { .. }, &[latency, jitter]) => {
            proxy.with_latency(stream, latency, jitter, toxicity)
        }
        (ToxicKind::Bandwidth { .. }, &[rate]) => proxy.with_bandwidth(stream, rate, toxicity),
        (ToxicKind::SlowClose { .. }, &[delay]) => proxy.with_slow_close(stream, delay, toxicity),
        (ToxicKind::Timeout { .. }, &[timeout]) => proxy.with_timeout(stream, timeout, toxicity),
        (ToxicKind::Slicer { .. }, &[average, variation, delay]) => {
            proxy.with_slicer(stream, average, variation, delay, toxicity)
        }
        (ToxicKind::LimitData { .. }, &[bytes]) => proxy.with_limit_data(stream, bytes, toxicity),
        _ => return false,
    };
    true
}

fn attributes(kind: &ToxicKind) -> Value {
    let pairs = kind.attributes().into_iter();
    Value::Object(
        pairs
            .map(|(name, value)| (name.to_owned(), Value::from(value)))
            .collect::<Map<_, _>>(),
    )
}

fn toxic_of(pack: &ToxicPack) -> Result<Toxic, ProxyError> {
    let mut kind = ToxicKind::zero(&pack.r#type).ok_or_else(|| ProxyError::UnknownToxicType {
        given: pack.r#type.clone(),
    })?;
    for (name, attribute) in kind.attributes_mut() {
        *attribute = pack.attributes.get(name).copied().map_or(0, u64::from);
    }
    let stream: Stream = pack.stream.parse()?;
    Ok(Toxic {
        name: pack.name.clone(),
        stream,
        toxicity: pack.toxicity,
        kind,
    })
}
