//! Faults on links: which proxies change, how, and how that is undone while other faults may hold the same link.

use std::collections::BTreeMap;

use reports::record::Evidence;

use crate::cluster::{Cluster, Link};
use crate::proxy::{Counters, CutMode, FaultProxy, ProxyError, Stream, Toxic, ToxicKind};
use crate::scenario::{Action, Mode, Shape};

/// One change to one proxy.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Change {
    pub(super) link: String,
    pub(super) address: std::net::SocketAddr,
    pub(super) what: What,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum What {
    /// The listener closes and all connections with it.
    Refuse,
    /// A toxic whose name belongs to the fault, so that another fault's toxic of the same kind stays.
    Toxic(Toxic),
}

impl Change {
    /// Makes the change. `others` are the changes of other faults in force.
    pub(super) async fn apply<'a>(
        &self,
        proxy: &FaultProxy,
        mut others: impl Iterator<Item = &'a Change>,
    ) -> Result<(), ProxyError> {
        match &self.what {
            What::Refuse if others.any(|other| other == self) => Ok(()),
            What::Refuse => proxy.set_enabled(&self.link, false).await,
            What::Toxic(toxic) => proxy.add_toxic(&self.link, toxic.clone()).await,
        }
    }

    /// Undoes it, unless another fault wants the same. Undoing what is not there is fine.
    pub(super) async fn undo<'a>(
        &self,
        proxy: &FaultProxy,
        mut others: impl Iterator<Item = &'a Change>,
    ) -> Result<(), ProxyError> {
        match &self.what {
            What::Refuse if others.any(|other| other == self) => Ok(()),
            What::Refuse => proxy.set_enabled(&self.link, true).await,
            What::Toxic(toxic) => {
                let present = proxy
                    .proxy(&self.link)
                    .await?
                    .toxics
                    .iter()
                    .any(|active| active.name == toxic.name);
                if present {
                    proxy.remove_toxic(&self.link, &toxic.name).await
                } else {
                    Ok(())
                }
            }
        }
    }
}

/// The changes that make up a fault on the links of `nodes`.
pub(super) fn changes(cluster: &Cluster, number: usize, action: Action, nodes: &[usize]) -> Vec<Change> {
    let mut changes = Vec::new();
    for link in cluster.links() {
        let streams = streams(link, action, nodes);
        let mut add = |what| {
            changes.push(Change {
                link: link.name.clone(),
                address: link.address,
                what,
            })
        };
        if streams.is_empty() {
            continue;
        }
        for stream in streams {
            match kind(action) {
                Some(kind) => add(What::Toxic(
                    Toxic::new(stream, kind).named(format!("fault{number}_{stream}")),
                )),
                // A door is closed once, in both directions.
                None => {
                    add(What::Refuse);
                    break;
                }
            }
        }
    }
    changes
}

/// What a toxic must do for a fault; nothing where the link refuses instead.
fn kind(action: Action) -> Option<ToxicKind> {
    match action {
        Action::Partition { mode, .. } => match mode {
            Mode::Drop => CutMode::Drop.kind(),
            Mode::Refuse => CutMode::Refuse.kind(),
            Mode::Jam => CutMode::Jam.kind(),
        },
        Action::Latency { delay, jitter } => Some(ToxicKind::Latency {
            latency_ms: delay.as_millis() as u64,
            jitter_ms: jitter.as_millis() as u64,
        }),
        Action::Bandwidth { bytes_per_second } => Some(ToxicKind::Bandwidth {
            rate_kb_per_s: bytes_per_second.div_ceil(1000),
        }),
        Action::Kill | Action::Stop | Action::Pause => None,
    }
}

/// Which directions of a link a fault on `nodes` touches.
fn streams(link: &Link, action: Action, nodes: &[usize]) -> Vec<Stream> {
    let hit = |node: usize| nodes.contains(&node);
    let Some(from) = link.from else {
        let clients = matches!(
            action,
            Action::Partition {
                shape: Shape::ClientsOnly,
                ..
            }
        );
        return if clients && hit(link.to) {
            Stream::BOTH.to_vec()
        } else {
            Vec::new()
        };
    };
    match action {
        Action::Partition {
            shape: Shape::ClientsOnly,
            ..
        } => Vec::new(),
        // Between those who are hit and the rest; each side stays whole.
        Action::Partition {
            shape: Shape::Split, ..
        } if hit(from) != hit(link.to) => Stream::BOTH.to_vec(),
        // Whoever is hit can hear everybody and is heard by nobody.
        Action::Partition {
            shape: Shape::OneWay, ..
        } if hit(from) != hit(link.to) => {
            let mute = if hit(from) { from } else { link.to };
            vec![link.stream_from(mute)]
        }
        Action::Partition {
            shape: Shape::Split | Shape::OneWay,
            ..
        } => Vec::new(),
        // Every link of those who are hit, also among themselves.
        _ if hit(from) || hit(link.to) => Stream::BOTH.to_vec(),
        _ => Vec::new(),
    }
}

/// The counters of the links of a fault at one moment; empty where the proxies cannot tell.
#[derive(Debug, Default)]
pub(super) struct Snapshot(BTreeMap<String, Counters>);

impl Snapshot {
    pub(super) async fn take(cluster: &Cluster, changes: &[Change]) -> Snapshot {
        let mut counters = BTreeMap::new();
        for change in changes {
            if let Ok(Some(now)) = cluster.proxy().counters(&change.link).await {
                counters.insert(change.link.clone(), now);
            }
        }
        Snapshot(counters)
    }

    /// What the links did since, as evidence; nothing where the proxies cannot tell. Connections are counted from
    /// `before` the fault, because closing them is its first act.
    pub(super) async fn difference(
        &self,
        before: &Snapshot,
        cluster: &Cluster,
        action: Action,
    ) -> Option<Evidence> {
        if self.0.is_empty() {
            return None;
        }
        let (mut dropped, mut held, mut cut, mut forwarded) = (0, 0, 0, 0);
        for (link, since) in &self.0 {
            let after = cluster.proxy().counters(link).await.ok()??;
            let done = after.since(since);
            for stream in Stream::BOTH {
                let done = done.stream(stream);
                dropped += done.dropped_bytes;
                forwarded += done.forwarded_bytes;
                let (now, then) = (after.stream(stream), since.stream(stream));
                held += now
                    .held_bytes
                    .min(now.received_bytes().saturating_sub(then.received_bytes()));
            }
            cut += before
                .0
                .get(link)
                .map_or(0, |before| after.since(before).connections_cut);
        }
        let links = self.0.len();
        let (what, effective) = match action {
            Action::Partition { mode: Mode::Drop, .. } => (
                format!("{dropped} bytes of the cluster's own were dropped on {links} links"),
                dropped > 0,
            ),
            Action::Partition {
                mode: Mode::Refuse, ..
            } => (format!("{cut} connections were cut on {links} links"), cut > 0),
            Action::Partition { mode: Mode::Jam, .. } => (
                format!("{held} bytes of the cluster's own were held on {links} links"),
                held > 0,
            ),
            _ => (
                format!("{forwarded} bytes of the cluster's own passed {links} slowed links"),
                forwarded > 0,
            ),
        };
        Some(Evidence { what, effective })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(from: Option<usize>, to: usize) -> Link {
        Link {
            name: "link".into(),
            from,
            to,
            address: ([127, 0, 0, 1], 1).into(),
        }
    }

    fn partition(shape: Shape) -> Action {
        Action::Partition {
            shape,
            mode: Mode::Drop,
        }
    }

    #[test]
    fn each_shape_touches_its_links_and_no_others() {
        let both = Stream::BOTH.to_vec();
        let (up, down) = (vec![Stream::Upstream], vec![Stream::Downstream]);
        let none = Vec::new();
        let table = [
            // A cluster of three, node 0 is hit.
            (Shape::Isolate, Some(0), 1, &[0][..], &both),
            (Shape::Isolate, Some(1), 0, &[0], &both),
            (Shape::Isolate, Some(1), 2, &[0], &none),
            (Shape::Isolate, None, 0, &[0], &none),
            (Shape::Split, Some(0), 1, &[0, 1], &none),
            (Shape::Split, Some(1), 2, &[0, 1], &both),
            (Shape::OneWay, Some(0), 1, &[0], &up),
            (Shape::OneWay, Some(1), 0, &[0], &down),
            (Shape::OneWay, Some(1), 2, &[0], &none),
            (Shape::ClientsOnly, None, 0, &[0], &both),
            (Shape::ClientsOnly, None, 1, &[0], &none),
            (Shape::ClientsOnly, Some(0), 1, &[0], &none),
        ];
        for (shape, from, to, nodes, expected) in table {
            let got = streams(&link(from, to), partition(shape), nodes);
            assert_eq!(&got, expected, "{shape:?} of {nodes:?} on {from:?} -> {to}");
        }
    }
}
