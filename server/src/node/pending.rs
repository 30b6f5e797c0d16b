//! What administrators asked for and is not done yet. Nothing of it is forgotten: each is answered by what came of it,
//! or, when that cannot be known here any more, by saying so.

use tokio::time::{Duration, Instant};

use super::admin::{AdminDone, Reply};
use super::driver::Driver;
use super::requests::Failure;
use crate::raft::{Index, NodeId, Position, RoleKind, Term};

/// A node that has handed over its office waits so long to hear who has it now.
const SUCCESSOR_TIMEOUT: Duration = Duration::from_secs(5);

/// What was begun and is not done.
#[derive(Default)]
pub(super) struct Pending {
    pub(super) change: Option<PendingChange>,
    pub(super) transfer: Option<PendingTransfer>,
}

/// A change of the configuration that stands in the log.
pub(super) struct PendingChange {
    pub(super) begun: Position,
    pub(super) reply: Reply,
}

/// The office is being handed over.
pub(super) struct PendingTransfer {
    to: Option<NodeId>,
    begun_in: Term,
    until: Instant,
    reply: Reply,
}

impl PendingTransfer {
    /// To a certain node or to anybody, in this term.
    pub(super) fn new(to: Option<NodeId>, begun_in: Term, reply: Reply) -> PendingTransfer {
        PendingTransfer {
            to,
            begun_in,
            until: Instant::now() + SUCCESSOR_TIMEOUT,
            reply,
        }
    }
}

impl Pending {
    /// The node ends: whoever still waits learns that nobody here knows what came of it.
    pub(super) fn abandon(&mut self) {
        let change = self.change.take().map(|change| change.reply);
        let transfer = self.transfer.take().map(|transfer| transfer.reply);
        for reply in change.into_iter().chain(transfer) {
            let _ = reply.send(Err(Failure::Vanished));
        }
    }
}

impl Driver {
    /// Answers what is done, or will not be.
    pub(super) fn finish_admin(&mut self) {
        if let Some(change) = self.pending.change.take() {
            let outcome = self.view().of_change(change.begun);
            match outcome {
                Some(outcome) => drop(change.reply.send(outcome)),
                None => self.pending.change = Some(change),
            }
        }
        if let Some(transfer) = self.pending.transfer.take() {
            let outcome = self.view().of_transfer(transfer.to, transfer.begun_in);
            let term = self.parts.core.term();
            match outcome {
                Some(outcome) => drop(transfer.reply.send(outcome)),
                None if Instant::now() > transfer.until => {
                    drop(transfer.reply.send(Err(Failure::Lost { term })));
                }
                None => self.pending.transfer = Some(transfer),
            }
        }
    }

    fn view(&self) -> View<impl Fn(Index) -> Option<Term>, impl Fn(NodeId) -> String> {
        let (core, members) = (&self.parts.core, &self.parts.members);
        View {
            own_id: members.own_id,
            term: core.term(),
            leads: core.role() == RoleKind::Leader,
            leader: core.leader(),
            transferring: core.is_transferring(),
            settled: core
                .configuration()
                .map(|(index, _)| index)
                .filter(|_| core.configuration_is_settled()),
            term_at: |index| core.term_at(index),
            name: |id| members.name_and_address(id).0,
        }
    }
}

/// What a node sees at one moment, as far as it says what came of something.
struct View<T, N> {
    own_id: NodeId,
    term: Term,
    leads: bool,
    leader: Option<NodeId>,
    transferring: bool,
    /// The newest configuration, if it is in force and no change is under way.
    settled: Option<Index>,
    term_at: T,
    name: N,
}

impl<T: Fn(Index) -> Option<Term>, N: Fn(NodeId) -> String> View<T, N> {
    /// What came of a change that was put into the log at this place; `None` as long as it is open.
    fn of_change(&self, begun: Position) -> Option<Result<AdminDone, Failure>> {
        let term = self.term;
        // A leader never takes back what it wrote; in anybody else's log another entry may have taken that place.
        let stays = self.leads && term == begun.term;
        let own = stays || (self.term_at)(begun.index) == Some(begun.term);
        match self.settled.filter(|index| own && *index >= begun.index) {
            Some(index) => Some(Ok(AdminDone::Changed { index, term })),
            None if stays => None,
            None => Some(Err(Failure::Lost { term })),
        }
    }

    /// What came of handing over the office, which was begun in this term; `None` as long as it is open.
    fn of_transfer(&self, to: Option<NodeId>, begun_in: Term) -> Option<Result<AdminDone, Failure>> {
        let term = self.term;
        if let Some(leader) = self.leader.filter(|_| term > begun_in) {
            let wanted = to.map_or(leader != self.own_id, |to| leader == to);
            let name = (self.name)(leader);
            return Some(match wanted {
                true => Ok(AdminDone::Transferred { term, leader: name }),
                false => Err(Failure::Failed(format!(
                    "the office went elsewhere: {name} leads now, in term {term}"
                ))),
            });
        }
        let stays = self.leads && term == begun_in && !self.transferring;
        stays.then(|| {
            let why = "the successor did not take over in time; this node still leads";
            Err(Failure::Failed(why.to_owned()))
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use tokio::sync::oneshot;

    use super::*;

    type Terms = fn(Index) -> Option<Term>;

    /// Node 1 as a follower of node 2 in term 5, with a settled configuration at index 9 that is of term 4.
    fn view() -> View<Terms, fn(NodeId) -> String> {
        View {
            own_id: NodeId(1),
            term: 5,
            leads: false,
            leader: Some(NodeId(2)),
            transferring: false,
            settled: Some(9),
            term_at: |index| (index <= 9).then_some(4),
            name: |id| format!("node{}", id.0),
        }
    }

    fn at(term: Term, index: Index) -> Position {
        Position { term, index }
    }

    #[test]
    fn a_change_is_done_only_if_it_is_the_entry_that_was_written() {
        let done = |found: Option<Result<AdminDone, Failure>>| match found {
            Some(Ok(AdminDone::Changed { index, term })) => (index, term),
            other => panic!("not done: {other:?}"),
        };
        assert_eq!(done(view().of_change(at(4, 9))), (9, 5));
        assert_eq!(
            done(view().of_change(at(4, 8))),
            (9, 5),
            "the second half of a joint change"
        );
        let lost = |begun| matches!(view().of_change(begun), Some(Err(Failure::Lost { term: 5 })));
        assert!(lost(at(3, 9)), "another leader's configuration took its place");
        assert!(lost(at(4, 10)), "cut from the log, or not committed yet");
        let leading = View {
            leads: true,
            leader: Some(NodeId(1)),
            ..view()
        };
        assert!(leading.of_change(at(5, 10)).is_none(), "still open");
        // The entry itself may have gone into a snapshot.
        let compacted = View {
            term_at: (|_| None) as Terms,
            ..leading
        };
        assert_eq!(done(compacted.of_change(at(5, 9))), (9, 5));
    }

    #[test]
    fn a_transfer_succeeds_only_if_the_one_that_was_asked_for_leads() {
        let transferred = |to| match view().of_transfer(to, 4) {
            Some(Ok(AdminDone::Transferred { term: 5, leader })) => Ok(leader),
            Some(Err(Failure::Failed(why))) => Err(why),
            other => panic!("{other:?}"),
        };
        assert_eq!(transferred(Some(NodeId(2))).unwrap(), "node2");
        assert_eq!(transferred(None).unwrap(), "node2");
        assert!(
            transferred(Some(NodeId(3)))
                .unwrap_err()
                .contains("node2 leads now")
        );
        let again = View {
            leads: true,
            leader: Some(NodeId(1)),
            ..view()
        };
        let failed = |found| matches!(found, Some(Err(Failure::Failed(_))));
        assert!(failed(again.of_transfer(None, 4)), "this node itself leads again");
        assert!(failed(again.of_transfer(None, 5)), "it never stopped leading");
        let unknown = View {
            leader: None,
            ..view()
        };
        assert!(unknown.of_transfer(None, 4).is_none());
        let open = View {
            transferring: true,
            ..again
        };
        assert!(open.of_transfer(None, 5).is_none());
    }

    #[test]
    fn what_is_open_when_the_node_ends_has_an_unknown_outcome() {
        let (reply, mut changed) = oneshot::channel();
        let (begun, mut pending) = (at(1, 2), Pending::default());
        pending.change = Some(PendingChange { begun, reply });
        let (reply, mut transferred) = oneshot::channel();
        pending.transfer = Some(PendingTransfer::new(None, 1, reply));
        pending.abandon();
        for answer in [&mut changed, &mut transferred] {
            assert_eq!(answer.try_recv().unwrap().unwrap_err(), Failure::Vanished);
        }
    }
}
