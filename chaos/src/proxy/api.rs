//! Toxiproxy's HTTP API over the embedded proxies.
//!
//! Status codes, defaults and error bodies are those that a Toxiproxy 2.12.0 server was seen to give, down to its
//! habit of sending JSON errors as plain text, so that existing clients work unchanged. Two things differ because
//! they would be untrue or are noise: the version says who is answering, and there is no empty `Logger` object.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::embedded::{ProxyChange, Registry};
use super::toxic::default_name;
use super::{ProxyError, ProxyInfo, Stream, Toxic, ToxicKind};

/// The API this follows, and who follows it.
const VERSION_BODY: &str = r#"{"version": "2.12.0+whitewater"}"#;

/// A client that keeps a request open is not waited for longer than this.
const GRACE: Duration = Duration::from_secs(2);

/// A running API server; dropping it stops it.
#[derive(Debug)]
pub(super) struct ApiTask {
    stop: oneshot::Sender<()>,
    task: JoinSet<()>,
}

impl ApiTask {
    pub(super) fn start(listener: TcpListener, registry: Arc<Registry>) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let mut task = JoinSet::new();
        task.spawn(async move {
            // Graceful, because only then does the server wait for the tasks of its connections.
            let served = axum::serve(listener, router(registry))
                .with_graceful_shutdown(async move {
                    let _ = stopped.await;
                })
                .await;
            if let Err(error) = served {
                tracing::warn!(%error, "the proxy's HTTP API ended");
            }
        });
        Self { stop, task }
    }

    pub(super) async fn stop(mut self) {
        drop(self.stop);
        if tokio::time::timeout(GRACE, self.task.join_next()).await.is_err() {
            tracing::warn!("a client of the proxy's HTTP API did not let go, leaving it");
        }
    }
}

fn router(registry: Arc<Registry>) -> Router {
    Router::new()
        .route("/version", get(version))
        .route("/reset", post(reset))
        .route("/populate", post(populate))
        .route("/proxies", get(proxy_list).post(proxy_create))
        .route(
            "/proxies/{proxy}",
            get(proxy_show)
                .post(proxy_update)
                .patch(proxy_update)
                .delete(proxy_delete),
        )
        .route("/proxies/{proxy}/toxics", get(toxic_list).post(toxic_create))
        .route(
            "/proxies/{proxy}/toxics/{toxic}",
            get(toxic_show)
                .post(toxic_update)
                .patch(toxic_update)
                .delete(toxic_delete),
        )
        .fallback(|| async { plain_text(StatusCode::NOT_FOUND, "404 page not found\n".to_owned()) })
        .layer(from_fn(no_browsers))
        .with_state(registry)
}

/// A web page must not be able to reconfigure a proxy on its reader's machine; Toxiproxy tells browsers by their name.
async fn no_browsers(request: Request, next: Next) -> Response {
    let agent = request.headers().get(header::USER_AGENT);
    if agent.is_some_and(|agent| agent.as_bytes().starts_with(b"Mozilla/")) {
        return plain_text(StatusCode::FORBIDDEN, "User agent not allowed\n".to_owned());
    }
    next.run(request).await
}

type Answer = Result<Response, ApiError>;
type Proxies = State<Arc<Registry>>;

async fn version() -> Response {
    (
        [(header::CONTENT_TYPE, "application/json;charset=utf-8")],
        VERSION_BODY,
    )
        .into_response()
}

async fn reset(State(registry): Proxies) -> Answer {
    registry.reset(None).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn proxy_list(State(registry): Proxies) -> Answer {
    let proxies = registry.proxies().await?;
    let by_name: BTreeMap<_, _> = proxies
        .iter()
        .map(|info| (info.name.clone(), ProxyBody::of(info)))
        .collect();
    json(StatusCode::OK, &by_name)
}

async fn proxy_create(State(registry): Proxies, body: Bytes) -> Answer {
    let input: ProxyInput = parse(&body)?;
    if input.name.is_empty() {
        return Err(ApiError::missing("name"));
    }
    let upstream = input
        .upstream
        .filter(|text| !text.is_empty())
        .ok_or(ApiError::missing("upstream"))?;
    let listen = input.listen.unwrap_or_default();
    let info = registry
        .create(&input.name, &listen, &upstream, input.enabled.unwrap_or(true))
        .await?;
    json(StatusCode::CREATED, &ProxyBody::of(&info))
}

async fn proxy_show(State(registry): Proxies, Path(name): Path<String>) -> Answer {
    json(StatusCode::OK, &ProxyBody::of(&registry.proxy(&name).await?))
}

async fn proxy_update(State(registry): Proxies, Path(name): Path<String>, body: Bytes) -> Answer {
    registry.proxy(&name).await?;
    let ProxyInput {
        listen,
        upstream,
        enabled,
        ..
    } = parse(&body)?;
    let info = registry
        .change(
            &name,
            ProxyChange {
                listen,
                upstream,
                enabled,
            },
        )
        .await?;
    json(StatusCode::OK, &ProxyBody::of(&info))
}

async fn proxy_delete(State(registry): Proxies, Path(name): Path<String>) -> Answer {
    registry.delete(&name).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// All inputs are looked at before anything is created; then the first failure stops, and the answer says how far it
/// got.
async fn populate(State(registry): Proxies, body: Bytes) -> Answer {
    let inputs: Vec<ProxyInput> = parse(&body)?;
    for (at, input) in inputs.iter().enumerate() {
        let missing = |field: &str| ApiError::missing(&format!("{field} at proxy {}", at + 1));
        if input.name.is_empty() {
            return Err(missing("name"));
        }
        if input.upstream.as_ref().is_none_or(String::is_empty) {
            return Err(missing("upstream"));
        }
    }
    let mut done = PopulateBody::default();
    let mut status = StatusCode::CREATED;
    for input in inputs {
        let (listen, upstream) = (
            input.listen.unwrap_or_default(),
            input.upstream.unwrap_or_default(),
        );
        let enabled = input.enabled.unwrap_or(true);
        match registry
            .create_or_replace(&input.name, &listen, &upstream, enabled)
            .await
        {
            Ok(info) => done.proxies.push(ProxyBody::of(&info)),
            Err(error) => {
                let ApiError {
                    status: failed,
                    message,
                } = ApiError::from(error);
                status = failed;
                (done.error, done.status) = (Some(message), Some(failed.as_u16()));
                break;
            }
        }
    }
    json(status, &done)
}

async fn toxic_list(State(registry): Proxies, Path(proxy): Path<String>) -> Answer {
    json(
        StatusCode::OK,
        &ProxyBody::of(&registry.proxy(&proxy).await?).toxics,
    )
}

async fn toxic_show(State(registry): Proxies, Path((proxy, toxic)): Path<(String, String)>) -> Answer {
    json(
        StatusCode::OK,
        &ToxicBody::of(&find(&registry, &proxy, &toxic).await?),
    )
}

async fn toxic_create(State(registry): Proxies, Path(proxy): Path<String>, body: Bytes) -> Answer {
    registry.proxy(&proxy).await?;
    let input: ToxicInput = parse(&body)?;
    let stream: Stream = input
        .stream
        .as_deref()
        .unwrap_or(Stream::Downstream.as_str())
        .parse()?;
    let type_name = input.type_name.unwrap_or_default();
    let mut kind = ToxicKind::zero(&type_name).ok_or(ProxyError::UnknownToxicType { given: type_name })?;
    set_attributes(&mut kind, input.attributes)?;
    let name = input
        .name
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| default_name(kind.type_name(), stream));
    let toxic = Toxic {
        name,
        stream,
        toxicity: input.toxicity.unwrap_or(1.0),
        kind,
    };
    registry.add_toxic(&proxy, toxic.clone()).await?;
    json(StatusCode::OK, &ToxicBody::of(&toxic))
}

/// Attributes that are not named keep their values.
async fn toxic_update(
    State(registry): Proxies,
    Path((proxy, toxic)): Path<(String, String)>,
    body: Bytes,
) -> Answer {
    let mut there = find(&registry, &proxy, &toxic).await?;
    let input: ToxicInput = parse(&body)?;
    set_attributes(&mut there.kind, input.attributes)?;
    there.toxicity = input.toxicity.unwrap_or(there.toxicity);
    registry
        .update_toxic(&proxy, &toxic, there.toxicity, there.kind)
        .await?;
    json(StatusCode::OK, &ToxicBody::of(&there))
}

async fn toxic_delete(State(registry): Proxies, Path((proxy, toxic)): Path<(String, String)>) -> Answer {
    registry.remove_toxic(&proxy, &toxic).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn find(registry: &Registry, proxy: &str, toxic: &str) -> Result<Toxic, ProxyError> {
    let info = registry.proxy(proxy).await?;
    let found = info.toxics.into_iter().find(|there| there.name == toxic);
    found.ok_or_else(|| ProxyError::ToxicNotFound {
        proxy: proxy.to_owned(),
        toxic: toxic.to_owned(),
    })
}

/// Unknown attributes are ignored, as Toxiproxy does: newer clients send what older servers do not know.
fn set_attributes(kind: &mut ToxicKind, values: Option<BTreeMap<String, Value>>) -> Result<(), ApiError> {
    let values = values.unwrap_or_default();
    for (name, attribute) in kind.attributes_mut() {
        if let Some(value) = values.get(name) {
            *attribute = value.as_u64().ok_or_else(|| {
                ApiError::bad_body(format!(
                    "attribute {name} must be a whole number from 0, not {value}"
                ))
            })?;
        }
    }
    Ok(())
}

#[derive(Debug, Deserialize)]
struct ProxyInput {
    #[serde(default)]
    name: String,
    listen: Option<String>,
    upstream: Option<String>,
    enabled: Option<bool>,
}

#[derive(Debug, Deserialize)]
struct ToxicInput {
    name: Option<String>,
    #[serde(rename = "type")]
    type_name: Option<String>,
    stream: Option<String>,
    toxicity: Option<f32>,
    attributes: Option<BTreeMap<String, Value>>,
}

#[derive(Debug, Serialize)]
struct ProxyBody {
    name: String,
    listen: String,
    upstream: String,
    enabled: bool,
    toxics: Vec<ToxicBody>,
}

impl ProxyBody {
    fn of(info: &ProxyInfo) -> Self {
        Self {
            name: info.name.clone(),
            listen: info.listen.clone(),
            upstream: info.upstream.clone(),
            enabled: info.enabled,
            toxics: info.toxics.iter().map(ToxicBody::of).collect(),
        }
    }
}

#[derive(Debug, Serialize)]
struct ToxicBody {
    attributes: BTreeMap<&'static str, u64>,
    name: String,
    #[serde(rename = "type")]
    type_name: &'static str,
    stream: &'static str,
    #[serde(serialize_with = "shortest")]
    toxicity: f32,
}

impl ToxicBody {
    fn of(toxic: &Toxic) -> Self {
        Self {
            attributes: toxic.kind.attributes().into_iter().collect(),
            name: toxic.name.clone(),
            type_name: toxic.kind.type_name(),
            stream: toxic.stream.as_str(),
            toxicity: toxic.toxicity,
        }
    }
}

#[derive(Debug, Default, Serialize)]
struct PopulateBody {
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    proxies: Vec<ProxyBody>,
}

/// `1`, not `1.0`: whole numbers as Go prints them.
fn shortest<S: Serializer>(value: &f32, serializer: S) -> Result<S::Ok, S::Error> {
    if value.fract() == 0.0 {
        serializer.serialize_i64(*value as i64)
    } else {
        serializer.serialize_f32(*value)
    }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|error| ApiError::bad_body(error.to_string()))
}

fn json<T: Serialize>(status: StatusCode, body: &T) -> Answer {
    let text = serde_json::to_string(body).map_err(|error| ApiError {
        status: StatusCode::INTERNAL_SERVER_ERROR,
        message: error.to_string(),
    })?;
    Ok((status, [(header::CONTENT_TYPE, "application/json")], text).into_response())
}

fn plain_text(status: StatusCode, text: String) -> Response {
    let headers: [(HeaderName, &str); 2] = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (status, headers, text).into_response()
}

struct ApiError {
    status: StatusCode,
    message: String,
}

impl ApiError {
    fn missing(field: &str) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            message: format!("missing required field: {field}"),
        }
    }

    fn bad_body(why: String) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            message: format!("bad request body: {why}"),
        }
    }
}

impl From<ProxyError> for ApiError {
    fn from(error: ProxyError) -> Self {
        let (status, message) = match &error {
            ProxyError::ProxyNotFound { .. } => (StatusCode::NOT_FOUND, "proxy not found".to_owned()),
            ProxyError::ToxicNotFound { .. } => (StatusCode::NOT_FOUND, "toxic not found".to_owned()),
            ProxyError::ProxyExists { .. } => (StatusCode::CONFLICT, "proxy already exists".to_owned()),
            ProxyError::ToxicExists { .. } => (StatusCode::CONFLICT, "toxic already exists".to_owned()),
            ProxyError::UnknownToxicType { .. } => (StatusCode::BAD_REQUEST, "invalid toxic type".to_owned()),
            ProxyError::UnknownStream { .. } => (
                StatusCode::BAD_REQUEST,
                "stream was invalid, can be either upstream or downstream".to_owned(),
            ),
            ProxyError::Listen { listen, source, .. } => (
                StatusCode::INTERNAL_SERVER_ERROR,
                format!("listen tcp {listen}: {source}"),
            ),
            _ => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        };
        Self { status, message }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        #[derive(Serialize)]
        struct Body {
            error: String,
            status: u16,
        }
        let body = Body {
            error: self.message,
            status: self.status.as_u16(),
        };
        let text = serde_json::to_string(&body).unwrap_or_default();
        plain_text(self.status, text + "\n")
    }
}
