//! Where a remote server is, and whether the way there is free.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};

use super::ProxyError;

/// Where toxiproxy-server listens if it is not told otherwise.
const PORT_DEFAULT: u16 = 8474;

/// Reads `http://host:port`, `host:port` or `host`, and resolves it.
pub(super) fn resolve(url: &str) -> Result<SocketAddr, ProxyError> {
    let host_port = host_port(url)?;
    let found = host_port
        .to_socket_addrs()
        .map_err(|error| ProxyError::Unreachable {
            server: host_port.clone(),
            why: format!("the name cannot be resolved: {error}"),
        })?;
    // A server that is not told otherwise listens on IPv4 only.
    let mut addrs: Vec<_> = found.collect();
    addrs.sort_by_key(SocketAddr::is_ipv6);
    addrs.first().copied().ok_or_else(|| ProxyError::Unreachable {
        server: host_port,
        why: "the name stands for no address".to_owned(),
    })
}

fn host_port(url: &str) -> Result<String, ProxyError> {
    let wrong = |why: &str| ProxyError::Invalid {
        what: format!(
            "`{url}` is not the address of a toxiproxy server: {why}; write it as http://host:port"
        ),
    };
    let trimmed = url.trim();
    let rest = match trimmed.split_once("://") {
        None => trimmed,
        Some(("http", rest)) => rest,
        Some((scheme, _)) => return Err(wrong(&format!("it is spoken to over http, not {scheme}"))),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.is_empty() {
        return Err(wrong("there is no host"));
    }
    if rest.contains(['/', '?', '#', '@']) {
        return Err(wrong("there can be nothing but a host and a port"));
    }
    // A colon inside brackets belongs to an IPv6 address.
    let after_host = rest.rfind(']').map_or(rest, |at| &rest[at..]);
    match after_host.split_once(':') {
        None => Ok(format!("{rest}:{PORT_DEFAULT}")),
        Some((_, port)) if port.parse::<u16>().is_ok_and(|port| port > 0) => Ok(rest.to_owned()),
        Some(_) => Err(wrong("the port must be a number from 1 to 65535")),
    }
}

/// Refuses to start where the environment would send the client's calls to an HTTP proxy.
///
/// `toxiproxy_rust` honours these variables even for the loopback and cannot be told not to, and changing the
/// environment of a running process is not safe. It calls the resolved address, and its HTTP library matches an
/// address only against addresses and networks in `NO_PROXY`, never against names or `*`.
pub(super) fn check_environment(ip: IpAddr, var: impl Fn(&str) -> Option<String>) -> Result<(), ProxyError> {
    let set = |name: &&&str| var(name).is_some_and(|value| !value.trim().is_empty());
    let Some(variable) = ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"]
        .iter()
        .find(set)
    else {
        return Ok(());
    };
    // The lower-case one is looked at only where the other does not exist.
    let exempt = var("NO_PROXY").or_else(|| var("no_proxy")).unwrap_or_default();
    if exempt.split(',').any(|entry| covers(entry.trim(), ip)) {
        return Ok(());
    }
    Err(ProxyError::EnvironmentProxy {
        variable: (*variable).to_owned(),
        ip: ip.to_string(),
    })
}

fn covers(entry: &str, ip: IpAddr) -> bool {
    let Some((net, prefix)) = entry.split_once('/') else {
        return entry.parse() == Ok(ip);
    };
    let (Ok(net), Ok(prefix)) = (net.parse::<IpAddr>(), prefix.parse::<u32>()) else {
        return false;
    };
    match (net, ip) {
        (IpAddr::V4(net), IpAddr::V4(ip)) if prefix <= 32 => {
            (net.to_bits() ^ ip.to_bits())
                .checked_shr(32 - prefix)
                .unwrap_or(0)
                == 0
        }
        (IpAddr::V6(net), IpAddr::V6(ip)) if prefix <= 128 => {
            (net.to_bits() ^ ip.to_bits())
                .checked_shr(128 - prefix)
                .unwrap_or(0)
                == 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn addresses_are_read_in_every_usual_form() {
        for (url, expected) in [
            ("http://127.0.0.1:8474", "127.0.0.1:8474"),
            ("http://127.0.0.1:8474/", "127.0.0.1:8474"),
            ("127.0.0.1:1", "127.0.0.1:1"),
            ("127.0.0.1", "127.0.0.1:8474"),
            ("http://[::1]:99", "[::1]:99"),
            ("[::1]", "[::1]:8474"),
        ] {
            assert_eq!(resolve(url).unwrap().to_string(), expected, "{url}");
        }
    }

    #[test]
    fn what_cannot_be_an_address_is_refused_with_the_reason() {
        for (url, reason) in [
            ("https://h:1", "not https"),
            ("http://h:1/api", "nothing but a host"),
            ("h:0", "1 to 65535"),
            ("h:port", "1 to 65535"),
            ("", "no host"),
        ] {
            let message = resolve(url).unwrap_err().to_string();
            assert!(message.contains(reason), "{url}: {message}");
        }
    }

    #[test]
    fn an_http_proxy_in_the_way_is_an_error_unless_the_address_is_exempt() {
        let check = |pairs: &[(&str, &str)]| {
            let pairs: Vec<_> = pairs
                .iter()
                .map(|(name, value)| (name.to_string(), value.to_string()))
                .collect();
            let var = |name: &str| {
                pairs
                    .iter()
                    .find(|(there, _)| there == name)
                    .map(|(_, value)| value.clone())
            };
            check_environment("127.0.0.1".parse().unwrap(), var)
        };
        check(&[]).unwrap();
        check(&[("http_proxy", "")]).unwrap();
        check(&[("https_proxy", "http://p:1")]).unwrap();
        let message = check(&[("http_proxy", "http://p:1")]).unwrap_err().to_string();
        assert!(
            message.contains("http_proxy") && message.contains("NO_PROXY"),
            "{message}"
        );
        check(&[("ALL_PROXY", "http://p:1")]).unwrap_err();
        // Names do not help: the client calls the address.
        for (exempt, ok) in [
            ("localhost", false),
            ("*", false),
            ("a, 127.0.0.1", true),
            ("127.0.0.0/8", true),
            ("128.0.0.0/8", false),
        ] {
            let result = check(&[("HTTP_PROXY", "http://p:1"), ("NO_PROXY", exempt)]);
            assert_eq!(result.is_ok(), ok, "{exempt}");
            let result = check(&[("all_proxy", "http://p:1"), ("no_proxy", exempt)]);
            assert_eq!(result.is_ok(), ok, "{exempt}");
        }
        // The upper-case variable hides the other.
        check(&[
            ("http_proxy", "http://p:1"),
            ("NO_PROXY", ""),
            ("no_proxy", "127.0.0.1"),
        ])
        .unwrap_err();
    }
}
