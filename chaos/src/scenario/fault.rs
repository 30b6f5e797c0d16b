//! Faults as they are written in a scenario file: externally tagged, `- kill: { target: leader, at: 5s, for: 2s }`.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{ByteRate, Placed, Span};

/// One line of a scenario's list of faults.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// SIGKILL, and a new process over the same data `for` later.
    Kill(Outage),
    /// SIGTERM, and a new process over the same data `for` later.
    Stop(Outage),
    /// SIGSTOP, and SIGCONT `for` later.
    Pause(Outage),
    /// Every node once, in order: stopped gracefully, started again `for` later, and the next one `between` after that.
    RollingRestart(RollingRestart),
    /// Links cut.
    Partition(Partition),
    /// Everything that the target sends or receives takes longer.
    Latency(Latency),
    /// Everything that the target sends or receives is squeezed through less.
    Bandwidth(Bandwidth),
}

/// The target's process is gone or frozen for a while.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outage {
    /// Whose.
    pub target: Placed<Target>,
    /// When, from the start of the load.
    pub at: Placed<Span>,
    /// For how long.
    #[serde(rename = "for")]
    pub length: Placed<Span>,
    /// From one beginning to the next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<Placed<Span>>,
    /// How often; without it, `every` goes on as long as the whole fault fits into the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<Placed<u32>>,
}

/// See [`Fault::RollingRestart`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RollingRestart {
    /// When the first node is stopped.
    pub at: Placed<Span>,
    /// For how long each node is down.
    #[serde(rename = "for")]
    pub length: Placed<Span>,
    /// From one node's start to the next node's stop.
    pub between: Placed<Span>,
}

/// Links cut in a shape.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Partition {
    /// Which links.
    pub shape: Placed<Shape>,
    /// What happens to what is sent over them.
    #[serde(default)]
    pub mode: Placed<Mode>,
    /// Around whom; a random node if not given.
    #[serde(default)]
    pub target: Placed<Target>,
    /// When, from the start of the load.
    pub at: Placed<Span>,
    /// For how long.
    #[serde(rename = "for")]
    pub length: Placed<Span>,
    /// From one beginning to the next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<Placed<Span>>,
    /// How often; without it, `every` goes on as long as the whole fault fits into the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<Placed<u32>>,
}

/// See [`Fault::Latency`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Latency {
    /// Whose links.
    pub target: Placed<Target>,
    /// Added in each direction.
    pub delay: Placed<Span>,
    /// Each delay is drawn evenly from `delay ± jitter`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter: Option<Placed<Span>>,
    /// When, from the start of the load.
    pub at: Placed<Span>,
    /// For how long.
    #[serde(rename = "for")]
    pub length: Placed<Span>,
    /// From one beginning to the next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<Placed<Span>>,
    /// How often; without it, `every` goes on as long as the whole fault fits into the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<Placed<u32>>,
}

/// See [`Fault::Bandwidth`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bandwidth {
    /// Whose links.
    pub target: Placed<Target>,
    /// What each link lets through in each direction.
    pub rate: Placed<ByteRate>,
    /// When, from the start of the load.
    pub at: Placed<Span>,
    /// For how long.
    #[serde(rename = "for")]
    pub length: Placed<Span>,
    /// From one beginning to the next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<Placed<Span>>,
    /// How often; without it, `every` goes on as long as the whole fault fits into the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<Placed<u32>>,
}

/// Which links a partition cuts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shape {
    /// All links between the target, a single node, and the other nodes. Clients still reach it.
    Isolate,
    /// All links between the target, a `minority` or `majority`, and the rest. Clients still reach both sides.
    Split,
    /// Every node sees a majority, no two the same.
    Ring,
    /// Two halves that share one node.
    Bridge,
    /// Every node sees only its neighbours in a row.
    Chain,
    /// What the target, a single node, sends to the other nodes. It still hears them.
    OneWay,
    /// The links between clients and the target. Nodes still reach each other.
    ClientsOnly,
}

/// What happens to what is sent over a cut link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// It vanishes.
    #[default]
    Drop,
    /// Connections are closed and refused: both ends learn of it at once.
    Refuse,
    /// It is held, and delivered in a burst at the end.
    Jam,
}

/// Whom a fault is aimed at. Roles are resolved when it is injected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Target {
    /// The node that leads then.
    Leader,
    /// A random one of those that do not lead then.
    Follower,
    /// A random node.
    #[default]
    Random,
    /// Every node.
    All,
    /// As many nodes as can be missing while the rest is still a majority; the leader is one of them.
    Minority,
    /// As few nodes as are a majority; the leader is one of them.
    Majority,
    /// This node: `n1` is 1.
    Node(u8),
}

impl Target {
    const NAMES: &'static [&'static str] = &[
        "leader", "follower", "random", "all", "minority", "majority", "n1", "n2", "n3", "n4", "n5", "n6",
        "n7", "n8", "n9",
    ];

    /// How many nodes of a cluster of `nodes` it means.
    pub fn count(self, nodes: usize) -> usize {
        match self {
            Target::Leader | Target::Random | Target::Node(_) => 1,
            Target::Follower => usize::from(nodes > 1),
            Target::All => nodes,
            Target::Minority => nodes.saturating_sub(1) / 2,
            Target::Majority => nodes / 2 + 1,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Leader => f.write_str("leader"),
            Target::Follower => f.write_str("follower"),
            Target::Random => f.write_str("random"),
            Target::All => f.write_str("all"),
            Target::Minority => f.write_str("minority"),
            Target::Majority => f.write_str("majority"),
            Target::Node(number) => write!(f, "n{number}"),
        }
    }
}

impl FromStr for Target {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Ok(match text {
            "leader" => Target::Leader,
            "follower" => Target::Follower,
            "random" => Target::Random,
            "all" => Target::All,
            "minority" => Target::Minority,
            "majority" => Target::Majority,
            _ => match text.strip_prefix('n').and_then(|number| number.parse().ok()) {
                Some(number @ 1..=9) if text.len() == 2 => Target::Node(number),
                _ => return Err(()),
            },
        })
    }
}

impl Serialize for Target {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Target {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TargetVisitor;

        impl Visitor<'_> for TargetVisitor {
            type Value = Target;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("one target: leader, follower, random, all, minority, majority or n1 to n9")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Target, E> {
                text.parse().map_err(|()| E::unknown_variant(text, Target::NAMES))
            }
        }

        deserializer.deserialize_str(TargetVisitor)
    }
}

/// A kebab-case name for an enum that serde already knows by it.
macro_rules! shown_as {
    ($($type:ty { $($variant:ident = $name:literal),* $(,)? })*) => {$(
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(<$type>::$variant => $name,)* })
            }
        }
    )*};
}

shown_as! {
    Shape {
        Isolate = "isolate", Split = "split", Ring = "ring", Bridge = "bridge", Chain = "chain", OneWay = "one-way",
        ClientsOnly = "clients-only",
    }
    Mode { Drop = "drop", Refuse = "refuse", Jam = "jam" }
}
