//! Why there is no local cluster: always this machine or how it was asked, never the store's promises.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

use super::keeper::Ended;
use super::log_of;

/// So much of a log is shown when a node fails.
const TAIL_LINES: usize = 5;
/// So many characters of each of its lines.
const TAIL_CHARS: usize = 300;

/// How the nodes say that somebody else listens on their port: in the words of the system, and in those of our own server.
const PORT_TAKEN: [&str; 2] = ["address already in use", "is in use; stop that process"];

/// Why a local cluster could not be started, or did not last.
#[derive(Debug, Error)]
pub enum LocalError {
    /// The target has none.
    #[error("{scheme}:// has no local clusters; name its nodes")]
    NotLocal {
        /// Its scheme.
        scheme: &'static str,
    },
    /// Not so many nodes.
    #[error("a local cluster of this kind has 1 to {most} nodes, not {wanted}")]
    Nodes {
        /// Asked for.
        wanted: usize,
        /// Possible.
        most: usize,
    },
    /// A program is not there.
    #[error(
        "{name} is not installed: there is no `{name}` on the PATH; install it (Debian and Ubuntu: apt-get install {package}), or \
         name a running cluster, as in {name}://host:2379"
    )]
    NotInstalled {
        /// Which.
        name: &'static str,
        /// The Debian package that brings it.
        package: &'static str,
    },
    /// This executable does not know where it is.
    #[error("this executable cannot find itself, and so cannot start itself as a node")]
    NoExecutable {
        /// What the system said.
        source: io::Error,
    },
    /// A folder or file cannot be made.
    #[error("cannot prepare {}", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is something in the folder already.
    #[error("{} is not empty; name a new or empty folder", path.display())]
    NotEmpty {
        /// Which.
        path: PathBuf,
    },
    /// The system hands out no ports.
    #[error("no free port on 127.0.0.1")]
    NoPort {
        /// What the system said.
        source: io::Error,
    },
    /// A process could not be started.
    #[error("cannot start node {node}")]
    Spawn {
        /// Which.
        node: String,
        /// What the system said.
        source: io::Error,
    },
    /// A node ended although nobody had told it to.
    #[error("node {node} ended by {how}; the end of its log: {tail}")]
    Ended {
        /// Which.
        node: String,
        /// Exit code or signal.
        how: String,
        /// The last lines of its log.
        tail: String,
    },
    /// It did not become ready in time.
    #[error("the cluster is not ready after {waited:?}: {missing}")]
    NotReady {
        /// How long was waited.
        waited: Duration,
        /// What was seen last.
        missing: String,
    },
    /// The temporary folder stays.
    #[error("the cluster is stopped, but its temporary folder cannot be removed")]
    NotRemoved {
        /// What the system said.
        source: io::Error,
    },
    /// The thread that keeps the processes is gone, and so are they. A bug.
    #[error("the thread that keeps the nodes has ended; please report this")]
    KeeperGone,
}

impl LocalError {
    /// A node ended.
    pub(super) fn ended(folder: &Path, ended: Ended) -> LocalError {
        LocalError::Ended {
            tail: tail(&log_of(folder, &ended.name)),
            node: ended.name,
            how: ended.how,
        }
    }

    /// Whether a node ended because somebody else listens on one of its ports.
    pub(super) fn is_port_taken(&self) -> bool {
        let LocalError::Ended { tail, .. } = self else {
            return false;
        };
        let tail = tail.to_lowercase();
        PORT_TAKEN.iter().any(|words| tail.contains(words))
    }
}

/// The last lines of a log, on one line.
fn tail(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<String> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| line.chars().take(TAIL_CHARS).collect())
        .collect();
    match lines.len() {
        0 => "(it is empty)".to_owned(),
        count => lines[count.saturating_sub(TAIL_LINES)..].join(" | "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_is_taken_is_told_from_other_ends() {
        let ended = |tail: &str| LocalError::Ended {
            node: "n1".into(),
            how: "exit code 5".into(),
            tail: tail.into(),
        };
        for taken in [
            "error: port 45821 on 127.0.0.1 is in use; stop that process or choose another --port",
            "error: cannot listen on 127.0.0.1:45821: Address already in use (os error 98)",
            r#"{"level":"fatal","error":"listen tcp 127.0.0.1:45821: bind: address already in use"}"#,
        ] {
            assert!(ended(taken).is_port_taken(), "{taken}");
        }
        assert!(!ended("error: the disk is full").is_port_taken());
        assert!(!LocalError::KeeperGone.is_port_taken());
    }
}
