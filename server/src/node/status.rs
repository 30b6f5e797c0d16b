//! What a node tells of itself.

use super::driver::Driver;
use crate::raft::{Configuration, Index, NodeId, Position, RoleKind, Term};

/// See `GetClusterStatusResponse`.
#[derive(Debug)]
pub(crate) struct Status {
    pub(crate) role: RoleKind,
    pub(crate) term: Term,
    pub(crate) leader: Option<(String, String)>,
    pub(crate) commit: Index,
    pub(crate) applied: Index,
    pub(crate) last: Index,
    pub(crate) durable: Index,
    pub(crate) log_start: Index,
    pub(crate) snapshot: Index,
    pub(crate) suspect: Index,
    pub(crate) unfit: &'static str,
    pub(crate) digest: u64,
    pub(crate) voters: usize,
    pub(crate) own_role: MemberRole,
    pub(crate) peers: Vec<PeerStatus>,
}

/// How a node takes part.
pub(crate) use proto::raft::MemberRole;

/// See `PeerStatus` in `kv.proto`.
#[derive(Debug)]
pub(crate) struct PeerStatus {
    pub(crate) name: String,
    pub(crate) address: String,
    pub(crate) connected: bool,
    pub(crate) matched: Index,
    pub(crate) role: MemberRole,
    pub(crate) receives_snapshot: bool,
}

/// See `DumpStateResponse`.
#[derive(Debug)]
pub(crate) struct Dump {
    pub(crate) time_ns: u64,
    pub(crate) term: Term,
    pub(crate) vote: Option<String>,
    pub(crate) role: RoleKind,
    pub(crate) leader: Option<String>,
    pub(crate) commit: Index,
    pub(crate) applied: Index,
    pub(crate) last: Index,
    pub(crate) durable: Index,
    pub(crate) runs: Vec<Position>,
    pub(crate) base: Position,
    pub(crate) snapshot: Position,
    pub(crate) configuration: Option<(Index, Configuration)>,
    pub(crate) digest: Option<(Index, u64)>,
    pub(crate) suspect: Index,
    pub(crate) unfit: &'static str,
}

/// How `id` takes part in a configuration; before there is one, all nodes vote.
pub(super) fn member_role(configuration: Option<&Configuration>, id: NodeId) -> MemberRole {
    let Some(configuration) = configuration else {
        return MemberRole::Voter;
    };
    match configuration.members.get(&id) {
        None => MemberRole::NotAMember,
        Some(member) if member.voter => MemberRole::Voter,
        Some(member) if member.outgoing_voter => MemberRole::OutgoingVoter,
        Some(_) => MemberRole::Learner,
    }
}

impl Driver {
    pub(super) fn status(&self) -> Status {
        let core = &self.parts.core;
        let configuration = core.configuration().map(|(_, known)| &**known);
        let peers = self.parts.members.slots().into_iter().map(|(address, node)| {
            let id = node.as_ref().map(|(_, id)| *id);
            PeerStatus {
                name: node.map(|(name, _)| name).unwrap_or_default(),
                address,
                connected: id.is_some_and(|id| self.links.contains_key(&id)),
                matched: id.map_or(0, |id| core.matched(id)),
                role: id.map_or(MemberRole::Voter, |id| member_role(configuration, id)),
                receives_snapshot: id.is_some_and(|id| core.receives_snapshot(id)),
            }
        });
        let peers: Vec<PeerStatus> = peers.collect();
        let own_id = self.parts.members.own_id;
        Status {
            role: core.role(),
            term: core.term(),
            leader: core
                .leader()
                .map(|leader| self.parts.members.name_and_address(leader)),
            commit: core.commit(),
            applied: self.store.applied(),
            last: core.last().index,
            durable: core.durable_index(),
            log_start: core.base().index,
            snapshot: self.keeping.newest().index,
            suspect: core.suspect().map_or(0, |position| position.index),
            unfit: self.unfit(),
            digest: self.store.digest(),
            voters: configuration.map_or(core.voters_told(), |known| known.voters().count()),
            own_role: match core.voters_told() {
                0 if configuration.is_none() => MemberRole::NotAMember,
                _ => member_role(configuration, own_id),
            },
            peers,
        }
    }

    pub(super) fn dump(&self, digest_index: Index) -> Dump {
        let core = &self.parts.core;
        let name = |id: NodeId| self.parts.members.name_and_address(id).0;
        let digest = match digest_index {
            0 => Some((self.store.applied(), self.store.digest())),
            index => self.store.digest_at(index).map(|digest| (index, digest)),
        };
        Dump {
            time_ns: monotonic_ns(),
            term: core.term(),
            vote: core.vote().map(name),
            role: core.role(),
            leader: core.leader().map(name),
            commit: core.commit(),
            applied: self.store.applied(),
            last: core.last().index,
            durable: core.durable_index(),
            runs: core.term_runs(),
            base: core.base(),
            snapshot: self.keeping.newest(),
            configuration: core
                .configuration()
                .map(|(index, known)| (index, (**known).clone())),
            digest,
            suspect: core.suspect().map_or(0, |position| position.index),
            unfit: self.unfit(),
        }
    }

    fn unfit(&self) -> &'static str {
        match (self.parts.wal.is_full(), self.parts.core.disk_is_stalled()) {
            (true, _) => "the disk is full",
            (_, true) => "the disk does not answer",
            _ => "",
        }
    }
}

/// The machine's monotonic clock, the same for all processes on it.
pub(super) fn monotonic_ns() -> u64 {
    clock_ns(nix::time::ClockId::CLOCK_MONOTONIC)
}

/// The clock for leases: goes on while the machine sleeps.
pub(super) fn boot_ms() -> u64 {
    #[cfg(target_os = "linux")]
    return clock_ns(nix::time::ClockId::CLOCK_BOOTTIME) / 1_000_000;
    #[cfg(not(target_os = "linux"))]
    return clock_ns(nix::time::ClockId::CLOCK_MONOTONIC) / 1_000_000;
}

fn clock_ns(clock: nix::time::ClockId) -> u64 {
    let now = nix::time::clock_gettime(clock).expect("every system has these clocks");
    now.tv_sec().unsigned_abs() * 1_000_000_000 + now.tv_nsec().unsigned_abs()
}
