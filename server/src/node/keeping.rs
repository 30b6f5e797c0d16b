//! A node's snapshots: when to take one, who gets one, and what comes of one that arrives.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tonic::Status;

use super::admin::{AdminDone, Reply};
use super::driver::Driver;
use super::requests::Failure;
use crate::kv::Store;
use crate::raft::{Index, NodeId, Position, RoleKind, SnapshotMeta, Term};
use crate::snapshot::{SnapshotDir, SnapshotError, Stored};
use crate::transport::{AbortOnDrop, LinkEvent, send_snapshot};

/// After a snapshot could not be written, the next one is tried so much later.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// So many may wait for the same snapshot; more are refused.
const WANTED_MAX: usize = 64;

/// When snapshots are taken, what stays in the log before them, and how fast they are sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// One is taken when so many entries were applied since the last,
    pub(crate) entries: u64,
    /// or entries of so many bytes.
    pub(crate) bytes: u64,
    /// So many entries before a snapshot stay in the log, for followers that lag a little, as long as they are a quarter of
    /// these bytes at most.
    pub(crate) trailing: u64,
    /// Bytes a second at which one is sent; 0: as fast as it goes.
    pub(crate) rate: u64,
}

/// A transfer under way.
struct Sending {
    /// This node leads in it.
    term: Term,
    /// The peer will go on behind this index.
    last: Index,
    _task: Option<AbortOnDrop>,
}

/// What a node needs to keep snapshots.
pub(crate) struct Keeping {
    pub(crate) dir: SnapshotDir,
    /// The newest on disk.
    pub(crate) newest: Option<Stored>,
    limits: Limits,
    /// Bytes of the entries applied so far, by this process.
    applied_bytes: u64,
    /// The same as of the newest snapshot, and as of the one being taken.
    bytes_at_newest: u64,
    bytes_at_taking: u64,
    /// Tells the node how sending ended.
    pub(crate) events: mpsc::Sender<LinkEvent>,
    taking: Option<oneshot::Receiver<Result<Stored, SnapshotError>>>,
    wanted: Vec<Reply>,
    not_before: Option<Instant>,
    /// Whom one is being sent to.
    sending: BTreeMap<NodeId, Sending>,
    /// Entries up to here may go from the log on disk, once it has been told so.
    release: Option<Index>,
}

impl Keeping {
    pub(crate) fn new(
        dir: SnapshotDir,
        newest: Option<Stored>,
        limits: Limits,
        events: mpsc::Sender<LinkEvent>,
    ) -> Keeping {
        Keeping {
            dir,
            newest,
            limits,
            applied_bytes: 0,
            bytes_at_newest: 0,
            bytes_at_taking: 0,
            events,
            taking: None,
            wanted: Vec::new(),
            not_before: None,
            sending: BTreeMap::new(),
            release: None,
        }
    }

    /// Where the newest snapshot ends.
    pub(super) fn newest(&self) -> Position {
        self.newest
            .as_ref()
            .map_or(Position::default(), |newest| newest.meta.last)
    }

    /// An entry of so many bytes was applied.
    pub(super) fn applied(&mut self, bytes: usize) {
        self.applied_bytes += bytes as u64;
    }

    /// Whether it is time for another one, so many entries behind the newest.
    fn is_due(&self, behind: u64) -> bool {
        let bytes = self.applied_bytes - self.bytes_at_newest;
        behind >= self.limits.entries.max(1) || bytes >= self.limits.bytes.max(1)
    }

    /// The log may let go of everything up to here; said once.
    pub(super) fn take_release(&mut self) -> Option<Index> {
        self.release.take()
    }

    /// Somebody wants a snapshot now.
    pub(super) fn want(&mut self, reply: Reply) {
        self.wanted.retain(|waiting| !waiting.is_closed());
        match self.wanted.len() < WANTED_MAX {
            true => self.wanted.push(reply),
            false => drop(reply.send(Err(Failure::Overloaded))),
        }
    }

    /// The node ends: nobody will hear of the snapshot that is being written.
    pub(super) fn abandon(&mut self) {
        self.wanted
            .drain(..)
            .for_each(|reply| drop(reply.send(Err(Failure::Vanished))));
    }

    /// Answers those who wanted a snapshot.
    fn done(&mut self, outcome: Result<&Stored, &SnapshotError>) {
        let answer = match outcome {
            Ok(stored) => Ok(AdminDone::Snapshot {
                last: stored.meta.last,
                bytes: stored.bytes,
            }),
            Err(error) => Err(Failure::Failed(format!(
                "the snapshot could not be written: {error}{}",
                crate::run::causes(error)
            ))),
        };
        self.wanted
            .drain(..)
            .for_each(|reply| drop(reply.send(answer.clone())));
    }
}

impl Driver {
    /// Begins a snapshot if it is time for one, and takes in one that is done.
    pub(super) fn keep_snapshots(&mut self) {
        self.finish_taking();
        self.store.settle();
        let applied = self.store.applied();
        let keeping = &mut self.keeping;
        let newest = keeping.newest();
        let behind = applied.saturating_sub(newest.index);
        if behind == 0 && !keeping.wanted.is_empty() && keeping.taking.is_none() {
            // There is nothing newer to write.
            let newest = keeping.newest.clone();
            let outcome = newest.ok_or_else(|| SnapshotError::Disk {
                action: "write a snapshot of nothing to",
                path: PathBuf::from("an empty store"),
                source: std::io::ErrorKind::NotFound.into(),
            });
            return keeping.done(outcome.as_ref());
        }
        let patient = keeping.not_before.is_some_and(|when| Instant::now() < when);
        let due = keeping.is_due(behind) && !patient;
        let wanted = due || !keeping.wanted.is_empty();
        if keeping.taking.is_some() || behind == 0 || !wanted {
            return;
        }
        let core = &self.parts.core;
        let Some(term) = core.term_at(applied) else { return };
        let meta = SnapshotMeta {
            last: Position { term, index: applied },
            configuration: core.configuration_at(applied).cloned(),
        };
        let Some(frozen) = self.store.freeze() else { return };
        let (done, taking) = oneshot::channel();
        let dir = keeping.dir.clone();
        // A thread of its own: it may take long, and must not hold up the end of the process.
        let spawned = std::thread::Builder::new()
            .name("snapshot".to_owned())
            .spawn(move || {
                let outcome = dir.write(&frozen, meta);
                drop(frozen);
                // A node that has stopped needs no news.
                let _ = done.send(outcome);
            });
        match spawned {
            Ok(_) => {
                keeping.taking = Some(taking);
                keeping.bytes_at_taking = keeping.applied_bytes;
            }
            Err(source) => {
                // The copy went with the thread that there is not.
                self.store.thaw();
                self.not_taken(&SnapshotError::Thread { source });
            }
        }
    }

    fn finish_taking(&mut self) {
        let outcome = match self.keeping.taking.as_mut().map(oneshot::Receiver::try_recv) {
            None | Some(Err(oneshot::error::TryRecvError::Empty)) => return,
            Some(Ok(outcome)) => Some(outcome),
            // It panicked, and said why.
            Some(Err(oneshot::error::TryRecvError::Closed)) => None,
        };
        self.keeping.taking = None;
        self.store.thaw();
        let Some(outcome) = outcome else { return };
        match outcome {
            Ok(stored) => {
                self.keeping.done(Ok(&stored));
                self.parts.counters.snapshots_taken.fetch_add(1, Relaxed);
                tracing::info!(
                    index = stored.meta.last.index,
                    bytes = stored.bytes,
                    "snapshot taken"
                );
                self.keeping.not_before = None;
                self.keeping.bytes_at_newest = self.keeping.bytes_at_taking;
                // A later one may have arrived from the leader meanwhile.
                if stored.meta.last.index > self.keeping.newest().index {
                    let last = stored.meta.last;
                    self.keeping.newest = Some(stored);
                    self.parts.core.compact(last, self.keep_from(last.index));
                    self.keeping.release = Some(self.parts.core.base().index);
                }
            }
            Err(error) => self.not_taken(&error),
        }
    }

    fn not_taken(&mut self, error: &SnapshotError) {
        self.keeping.done(Err(error));
        self.parts.counters.snapshots_failed.fetch_add(1, Relaxed);
        self.keeping.not_before = Some(Instant::now() + RETRY_AFTER);
        tracing::warn!("cannot take a snapshot: {error}{}", crate::run::causes(error));
    }

    /// Behind which index the log stays when a snapshot up to `last` is there: what followers that lag a little may want,
    /// and what those want who are being sent an earlier snapshot or catch up from one, each within a budget of bytes.
    fn keep_from(&self, last: Index) -> Index {
        let core = &self.parts.core;
        let Limits { bytes, trailing, .. } = self.keeping.limits;
        let little = last
            .saturating_sub(trailing)
            .max(core.index_before_bytes(last, bytes / 4));
        let leads = core.role() == RoleKind::Leader;
        let connected = self
            .links
            .keys()
            .filter(|_| leads)
            .map(|peer| core.matched(*peer));
        // Who needs what is gone already gets a snapshot anyway.
        let catching_up = connected.filter(|matched| *matched >= core.base().index);
        let sent = self.keeping.sending.values().map(|sending| sending.last);
        let floor = core.index_before_bytes(core.last().index, 2 * bytes);
        hold(little, sent.chain(catching_up), floor)
    }

    /// A peer lacks what only a snapshot holds.
    pub(super) fn send_newest_snapshot(&mut self, peer: NodeId) {
        if self.keeping.sending.contains_key(&peer) {
            return;
        }
        let term = self.parts.core.term();
        let last = self.keeping.newest().index;
        let sending = |_task| Sending { term, last, _task };
        self.keeping.sending.insert(peer, sending(None));
        let reader = self
            .keeping
            .newest
            .as_ref()
            .map(|newest| self.keeping.dir.reader(newest));
        match reader {
            Some(Ok(reader)) => {
                let rate = self.keeping.limits.rate;
                let (members, events) = (self.parts.members.clone(), self.keeping.events.clone());
                let task = tokio::spawn(send_snapshot(peer, term, reader, rate, members, events));
                self.keeping
                    .sending
                    .insert(peer, sending(Some(AbortOnDrop(task))));
            }
            unreadable => {
                if let Some(Err(error)) = unreadable {
                    tracing::error!(
                        "cannot send the newest snapshot: {error}{}",
                        crate::run::causes(&error)
                    );
                }
                self.snapshot_sent(peer, term, None);
            }
        }
    }

    /// Ends the sending of snapshots to all but these peers in these terms.
    pub(super) fn stop_sending(&mut self, goes_on: impl Fn(NodeId, Term) -> bool) {
        let (members, counters) = (&self.parts.members, &self.parts.counters);
        self.keeping.sending.retain(|peer, Sending { term, .. }| {
            let goes_on = goes_on(*peer, *term);
            if !goes_on {
                counters.snapshots_not_sent.fetch_add(1, Relaxed);
                tracing::info!(
                    peer = members.name_and_address(*peer).0,
                    term,
                    "gave up sending a snapshot: this node no longer leads, or the peer is no member any more"
                );
            }
            goes_on
        });
    }

    /// A snapshot was sent, or was not. News of a transfer that was given up meanwhile are no news.
    pub(super) fn snapshot_sent(&mut self, peer: NodeId, term: Term, last: Option<Index>) {
        if self.keeping.sending.get(&peer).map(|sending| sending.term) != Some(term) {
            return;
        }
        self.keeping.sending.remove(&peer);
        let counters = &self.parts.counters;
        let count = if last.is_some() {
            &counters.snapshots_sent
        } else {
            &counters.snapshots_not_sent
        };
        count.fetch_add(1, Relaxed);
        self.parts.core.snapshot_sent(peer, last);
    }

    /// A snapshot has arrived and is on disk. Says why if its sender had no right to send it.
    pub(super) fn snapshot_arrived(
        &mut self,
        peer: NodeId,
        term: Term,
        stored: Stored,
        store: Store,
    ) -> Result<(), Status> {
        let last = stored.meta.last;
        match self.parts.core.install(peer, term, stored.meta.clone()) {
            Ok(true) => {}
            Ok(false) => {
                // The log had it all by then, or its sender's term has passed. What it holds is committed all the same, and
                // its file has taken the place of the one before.
                if last.index > self.keeping.newest().index {
                    self.keeping.newest = Some(stored);
                }
                return Ok(());
            }
            Err(violation) => return Err(self.report(peer, violation)),
        }
        self.parts.counters.snapshots_installed.fetch_add(1, Relaxed);
        tracing::info!(index = last.index, "snapshot installed");
        let replaced = std::mem::replace(&mut self.store, store);
        // Millions of keys take their time to go. Where there is no thread to be had, they go here.
        let _ = std::thread::Builder::new()
            .name("drop-state".to_owned())
            .spawn(move || drop(replaced));
        self.keeping.bytes_at_newest = self.keeping.applied_bytes;
        self.keeping.bytes_at_taking = self.keeping.applied_bytes;
        // What waited for entries that the snapshot holds will never see them.
        self.writes.lose_up_to(last.index, self.parts.core.term());
        self.keeping.newest = Some(stored);
        self.keeping.release = Some(last.index);
        Ok(())
    }
}

/// Behind which index to keep the log: for all who want it, but nothing up to `floor` for those who want more than that.
fn hold(little: Index, wanted: impl Iterator<Item = Index>, floor: Index) -> Index {
    wanted
        .min()
        .map_or(little, |wanted| wanted.max(floor).min(little))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Arc;

    use super::*;
    use crate::disk::OsDisk;

    fn limits() -> Limits {
        Limits {
            entries: 10,
            bytes: 1000,
            trailing: 1,
            rate: 0,
        }
    }

    #[test]
    fn the_log_is_held_for_those_who_catch_up_within_its_budget() {
        let held = |wanted: &[Index]| hold(900, wanted.iter().copied(), 300);
        assert_eq!(held(&[]), 900);
        assert_eq!(held(&[950, 990]), 900, "what is kept anyway is enough");
        assert_eq!(held(&[950, 500]), 500);
        assert_eq!(held(&[10]), 300, "not more than the budget");
        assert_eq!(
            hold(900, [10].into_iter(), 950),
            900,
            "and never less than without it"
        );
    }

    #[test]
    fn many_entries_or_many_bytes_make_a_snapshot_due() {
        let dir = tempfile::tempdir().unwrap();
        let (snapshots, _) = SnapshotDir::open(Arc::new(OsDisk), dir.path()).unwrap();
        let (events, _) = mpsc::channel(1);
        let mut keeping = Keeping::new(snapshots, None, limits(), events);
        assert!(!keeping.is_due(9));
        assert!(keeping.is_due(10));
        keeping.applied(999);
        assert!(!keeping.is_due(1));
        keeping.applied(1);
        assert!(keeping.is_due(1));
    }

    #[test]
    fn only_so_many_wait_for_a_snapshot_and_none_waits_for_a_node_that_has_ended() {
        let dir = tempfile::tempdir().unwrap();
        let (snapshots, _) = SnapshotDir::open(Arc::new(OsDisk), dir.path()).unwrap();
        let (events, _) = mpsc::channel(1);
        let mut keeping = Keeping::new(snapshots, None, limits(), events);
        let mut want = || {
            let (reply, answer) = oneshot::channel();
            keeping.want(reply);
            answer
        };
        let mut waiting: Vec<_> = (0..WANTED_MAX).map(|_| want()).collect();
        assert_eq!(want().try_recv().unwrap().unwrap_err(), Failure::Overloaded);
        waiting.pop();
        let mut last = want();
        assert!(last.try_recv().is_err(), "one of those who waited has gone");
        keeping.abandon();
        assert_eq!(last.try_recv().unwrap().unwrap_err(), Failure::Vanished);
    }
}
