//! What a toxic is: a name, a direction, a share of connections, and what it does to their bytes.
//!
//! The types and their attributes are those of Toxiproxy; the fields here carry units, the wire names are
//! mapped in one table. Nothing in here touches a socket.

use std::fmt;
use std::str::FromStr;

use super::ProxyError;

/// The direction of the bytes that a toxic works on, seen from the client that connects to the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stream {
    /// From the client to the upstream server.
    Upstream,
    /// From the upstream server back to the client.
    Downstream,
}

impl Stream {
    /// Both directions, for loops.
    pub const BOTH: [Self; 2] = [Self::Upstream, Self::Downstream];

    /// The word Toxiproxy uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Upstream => "upstream",
            Self::Downstream => "downstream",
        }
    }
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Stream {
    type Err = ProxyError;

    /// Accepts any case, as Toxiproxy does.
    fn from_str(text: &str) -> Result<Self, ProxyError> {
        Self::BOTH
            .into_iter()
            .find(|stream| stream.as_str().eq_ignore_ascii_case(text))
            .ok_or_else(|| ProxyError::UnknownStream {
                given: text.to_owned(),
            })
    }
}

/// What a toxic does to the bytes of one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToxicKind {
    /// Everything arrives later; how much is in flight does not change, so pipelining is kept.
    Latency {
        /// Delay of every chunk.
        latency_ms: u64,
        /// Uniformly added or taken away, drawn per chunk.
        jitter_ms: u64,
    },
    /// A narrow pipe.
    Bandwidth {
        /// Kilobytes (1000 bytes) a second; 0 lets nothing through.
        rate_kb_per_s: u64,
    },
    /// The end of the stream arrives late.
    SlowClose {
        /// Delay of the close.
        delay_ms: u64,
    },
    /// Silence: bytes are dropped. Removing it closes the connections it was active on, since bytes were lost.
    Timeout {
        /// The connection is closed after this long; 0 means never.
        timeout_ms: u64,
    },
    /// A TCP reset on both sides, as soon as something is sent.
    ResetPeer {
        /// How long after the first bytes.
        timeout_ms: u64,
    },
    /// Bytes arrive in small pieces.
    Slicer {
        /// Average size of a piece; 0 is taken as 1.
        average_size_bytes: u64,
        /// A piece is at most this much larger or smaller.
        size_variation_bytes: u64,
        /// Pause between pieces; below one millisecond it is rounded up to one.
        delay_us: u64,
    },
    /// The connection is closed after so many bytes.
    LimitData {
        /// How many bytes pass, per connection.
        bytes: u64,
    },
}

impl ToxicKind {
    /// Toxiproxy's name of the type.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Latency { .. } => "latency",
            Self::Bandwidth { .. } => "bandwidth",
            Self::SlowClose { .. } => "slow_close",
            Self::Timeout { .. } => "timeout",
            Self::ResetPeer { .. } => "reset_peer",
            Self::Slicer { .. } => "slicer",
            Self::LimitData { .. } => "limit_data",
        }
    }

    /// The type of that name with all attributes zero, which is what Toxiproxy starts from.
    pub(crate) fn zero(type_name: &str) -> Option<Self> {
        Some(match type_name {
            "latency" => Self::Latency {
                latency_ms: 0,
                jitter_ms: 0,
            },
            "bandwidth" => Self::Bandwidth { rate_kb_per_s: 0 },
            "slow_close" => Self::SlowClose { delay_ms: 0 },
            "timeout" => Self::Timeout { timeout_ms: 0 },
            "reset_peer" => Self::ResetPeer { timeout_ms: 0 },
            "slicer" => Self::Slicer {
                average_size_bytes: 0,
                size_variation_bytes: 0,
                delay_us: 0,
            },
            "limit_data" => Self::LimitData { bytes: 0 },
            _ => return None,
        })
    }

    /// The attributes under their wire names.
    pub fn attributes(&self) -> Vec<(&'static str, u64)> {
        let mut copy = *self;
        copy.attributes_mut()
            .into_iter()
            .map(|(name, value)| (name, *value))
            .collect()
    }

    /// The one table of wire names: reading, writing and comparing all go through it.
    pub(crate) fn attributes_mut(&mut self) -> Vec<(&'static str, &mut u64)> {
        match self {
            Self::Latency {
                latency_ms,
                jitter_ms,
            } => vec![("latency", latency_ms), ("jitter", jitter_ms)],
            Self::Bandwidth { rate_kb_per_s } => vec![("rate", rate_kb_per_s)],
            Self::SlowClose { delay_ms } => vec![("delay", delay_ms)],
            Self::Timeout { timeout_ms } | Self::ResetPeer { timeout_ms } => vec![("timeout", timeout_ms)],
            Self::Slicer {
                average_size_bytes,
                size_variation_bytes,
                delay_us,
            } => vec![
                ("average_size", average_size_bytes),
                ("size_variation", size_variation_bytes),
                ("delay", delay_us),
            ],
            Self::LimitData { bytes } => vec![("bytes", bytes)],
        }
    }
}

/// A fault on one direction of every connection through a proxy, live ones and later ones.
#[derive(Debug, Clone, PartialEq)]
pub struct Toxic {
    /// Unique on its proxy.
    pub name: String,
    /// Which bytes it works on.
    pub stream: Stream,
    /// The share of connections it is active on, 0 to 1. It is drawn once per connection when the toxic meets
    /// it, not per byte: 0.3 means that 30 % of the connections are fully affected.
    pub toxicity: f32,
    /// What it does.
    pub kind: ToxicKind,
}

impl Toxic {
    /// A toxic on all connections, with Toxiproxy's default name `<type>_<stream>`.
    pub fn new(stream: Stream, kind: ToxicKind) -> Self {
        Self {
            name: default_name(kind.type_name(), stream),
            stream,
            toxicity: 1.0,
            kind,
        }
    }

    /// The same under another name.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// The same on a share of the connections.
    #[must_use]
    pub fn with_toxicity(mut self, toxicity: f32) -> Self {
        self.toxicity = toxicity;
        self
    }

    /// Refuses what no implementation can do.
    pub(crate) fn check(&self) -> Result<(), ProxyError> {
        check_name("toxic", &self.name)?;
        if (0.0..=1.0).contains(&self.toxicity) {
            return Ok(());
        }
        Err(ProxyError::Invalid {
            what: format!(
                "toxic `{}` has toxicity {}; it is the share of connections, from 0 to 1",
                self.name, self.toxicity
            ),
        })
    }
}

/// Toxiproxy's name for a toxic that was not given one.
pub(crate) fn default_name(type_name: &str, stream: Stream) -> String {
    format!("{type_name}_{stream}")
}

/// Names become parts of a URL on the remote server, whose client does not escape them; so the same plain names are
/// asked for everywhere.
pub(crate) fn check_name(what: &str, name: &str) -> Result<(), ProxyError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.~".contains(c);
    if !name.is_empty() && name.chars().all(plain) && !name.chars().all(|c| c == '.') {
        return Ok(());
    }
    Err(ProxyError::Invalid {
        what: format!("`{name}` cannot be the name of a {what}; use letters, digits, `-`, `_`, `.` and `~`"),
    })
}

/// A proxy as it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct ProxyInfo {
    /// Unique on its server.
    pub name: String,
    /// Where it listens, or listened before it was disabled.
    pub listen: String,
    /// Where it connects to.
    pub upstream: String,
    /// Whether the listener is there.
    pub enabled: bool,
    /// In the order in which they work.
    pub toxics: Vec<Toxic>,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn every_type_is_found_again_by_its_name() {
        for name in [
            "latency",
            "bandwidth",
            "slow_close",
            "timeout",
            "reset_peer",
            "slicer",
            "limit_data",
        ] {
            assert_eq!(ToxicKind::zero(name).unwrap().type_name(), name);
        }
        assert_eq!(ToxicKind::zero("packet_loss"), None);
    }

    #[test]
    fn attributes_carry_the_wire_names() {
        let kind = ToxicKind::Slicer {
            average_size_bytes: 1,
            size_variation_bytes: 2,
            delay_us: 3,
        };
        assert_eq!(
            kind.attributes(),
            [("average_size", 1), ("size_variation", 2), ("delay", 3)]
        );
    }

    #[test]
    fn names_that_do_not_survive_a_url_are_refused() {
        for good in ["n1-n2", "client.n1", "a_b~c"] {
            check_name("proxy", good).unwrap();
        }
        for bad in ["", "a/b", "a b", "..", "n1?x", "n1→n2"] {
            assert!(check_name("proxy", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn streams_are_read_in_any_case_and_nothing_else() {
        assert_eq!("UpStream".parse::<Stream>().unwrap(), Stream::Upstream);
        assert!("sideways".parse::<Stream>().is_err());
    }
}
