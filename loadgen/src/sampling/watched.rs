//! Whom to watch.

use std::net::{SocketAddr, ToSocketAddrs};

use reports::record::ProcessRole;

use super::ports::is_local;

/// A process to watch. One of `pid` and `listens` must say where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watched {
    /// What it is called in the record.
    pub name: String,
    /// Its identifier. Without one it is looked for at `listens`.
    pub pid: Option<u32>,
    /// Which side of the wire it is on.
    pub role: ProcessRole,
    /// Where on this machine it listens for clients: there it is looked for, also again after it has ended.
    pub listens: Option<SocketAddr>,
    /// Where it serves its Prometheus page. Without this it is guessed from how it was started: `--metrics-port` of our
    /// server, the client address of etcd.
    pub metrics: Option<SocketAddr>,
}

impl Watched {
    /// This process, as the one that asks.
    pub fn this_process() -> Watched {
        Watched {
            name: "loadgen".into(),
            pid: Some(std::process::id()),
            role: ProcessRole::Client,
            listens: None,
            metrics: None,
        }
    }

    /// The server behind an endpoint such as `127.0.0.1:50051`, with or without `http://` or `https://` in front. One on
    /// another machine cannot be seen, and the record says so.
    ///
    /// Resolves the name of the host, which may take as long as the system's resolver takes.
    pub fn server(name: impl Into<String>, endpoint: &str) -> Watched {
        let address = endpoint
            .split_once("://")
            .map_or(endpoint, |(_, rest)| rest)
            .trim_end_matches('/');
        let addresses = address.to_socket_addrs().ok().into_iter().flatten();
        Watched {
            name: name.into(),
            pid: None,
            role: ProcessRole::Server,
            listens: addresses.into_iter().find(|address| is_local(address.ip())),
            metrics: None,
        }
    }
}

/// What the command line of a server says about where its Prometheus page is.
pub(super) fn metrics_address(command_line: &[&str], listens: Option<SocketAddr>) -> Option<SocketAddr> {
    let listens = listens?;
    let program = command_line.first()?.rsplit('/').next()?;
    if program == "etcd" {
        return Some(listens);
    }
    let mut words = command_line.iter().skip(1);
    let port = loop {
        let word = words.next()?;
        match word.strip_prefix("--metrics-port") {
            Some("") => break words.next()?.parse().ok()?,
            Some(rest) => break rest.strip_prefix('=')?.parse().ok()?,
            None => {}
        }
    };
    Some(SocketAddr::new(listens.ip(), port))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn endpoints_are_taken_as_users_write_them() {
        let expected = Some("127.0.0.1:50051".parse().unwrap());
        for endpoint in [
            "127.0.0.1:50051",
            "http://127.0.0.1:50051",
            "https://127.0.0.1:50051/",
        ] {
            assert_eq!(Watched::server("n1", endpoint).listens, expected, "{endpoint}");
        }
        // Reserved for documentation, so on another machine.
        assert_eq!(Watched::server("n1", "192.0.2.1:50051").listens, None);
        assert_eq!(Watched::server("n1", "no port").listens, None);
    }

    #[test]
    fn the_page_is_where_the_command_line_says() {
        let listens = Some("127.0.0.1:50051".parse().unwrap());
        let at = |words: &[&str]| metrics_address(words, listens).map(|address| address.to_string());
        assert_eq!(
            at(&["/x/server", "--port", "50051", "--metrics-port", "9100"]).as_deref(),
            Some("127.0.0.1:9100")
        );
        assert_eq!(
            at(&["server", "--metrics-port=9100"]).as_deref(),
            Some("127.0.0.1:9100")
        );
        assert_eq!(
            at(&["/usr/bin/etcd", "--name", "a"]).as_deref(),
            Some("127.0.0.1:50051")
        );
        for without in [
            &["server"][..],
            &["server", "--metrics-port"],
            &["server", "--metrics-port", "x"],
            &[],
        ] {
            assert_eq!(at(without), None, "{without:?}");
        }
        assert_eq!(metrics_address(&["etcd"], None), None);
    }
}
