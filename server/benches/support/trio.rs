//! A cluster of our own cores.

use std::collections::VecDeque;
use std::hint::black_box;

use bytes::Bytes;
use server::raft::{Config, Core, Message, NodeId, Output, Recovered, RoleKind};

use super::Cluster;

/// What every proposal carries. Cloning it copies nothing.
pub(crate) const PAYLOAD: Bytes = Bytes::from_static(&[0x5a; 256]);

/// What a unit of the work is.
#[derive(Clone, Copy)]
pub(crate) enum Work {
    /// So many commands, proposed in one turn, until the leader has applied them. The followers hear of the commit with
    /// whatever they are sent next.
    Propose(u64),
    /// The same until all three have applied them: a heartbeat tells the followers of the commit.
    ProposeToAll(u64),
    /// A read round asked for on this node, until it is confirmed.
    Read(usize),
}

impl Work {
    /// How many entries it appends.
    pub(crate) fn entries(self) -> u64 {
        match self {
            Work::Propose(batch) | Work::ProposeToAll(batch) => batch,
            Work::Read(_) => 0,
        }
    }
}

/// Three cores; the first leads.
pub(crate) struct Trio {
    work: Work,
    cores: [Core; 3],
    inboxes: [VecDeque<(usize, Message)>; 3],
    output: Output,
    applied: u64,
    reads_asked: u64,
    reads_confirmed: u64,
}

impl Trio {
    pub(crate) fn elected(work: Work) -> Trio {
        let core = |number: u64| {
            let mut config = Config::new(NodeId(number), 3, number + 1);
            config.heartbeat_ticks = 1;
            Core::new(config, Recovered::default())
        };
        let mut trio = Trio {
            work,
            cores: [core(0), core(1), core(2)],
            inboxes: Default::default(),
            output: Output::default(),
            applied: 0,
            reads_asked: 0,
            reads_confirmed: 0,
        };
        for (from, to) in [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)] {
            trio.cores[from].peer_up(NodeId(to), 1);
        }
        while trio.cores[0].role() != RoleKind::Leader {
            trio.heartbeat();
        }
        trio.heartbeat();
        trio
    }

    fn propose(&mut self, proposals: u64) {
        for _ in 0..proposals {
            let position = self.cores[0].propose(PAYLOAD);
            black_box(position.expect("the first core leads and nothing waits"));
        }
        self.settle(0);
    }

    fn read(&mut self, at: usize) {
        self.reads_asked += 1;
        self.cores[at]
            .read(self.reads_asked)
            .expect("the first core leads and the others know it");
        self.settle(at);
    }

    fn heartbeat(&mut self) {
        self.cores[0].tick();
        self.settle(0);
    }

    /// Something happened to one of them: lets every message arrive and every disk finish. Who has messages takes all of
    /// them before its turn.
    fn settle(&mut self, at: usize) {
        self.turn(at);
        while let Some(to) = self.inboxes.iter().position(|inbox| !inbox.is_empty()) {
            while let Some((from, message)) = self.inboxes[to].pop_front() {
                let from = NodeId(from as u64);
                match message.is_response() {
                    true => self.cores[to].receive_response(from, 1, message),
                    false => self.cores[to]
                        .receive_request(from, message)
                        .expect("no core breaks the protocol"),
                }
            }
            self.turn(to);
        }
    }

    fn turn(&mut self, at: usize) {
        loop {
            self.output.clear();
            self.cores[at].poll(&mut self.output);
            for (to, message) in self.output.send.drain(..) {
                self.inboxes[to.0 as usize].push_back((at, message));
            }
            self.applied += black_box(&self.output.apply).len() as u64;
            self.reads_confirmed += black_box(&self.output.reads).len() as u64;
            match self.output.io.take() {
                Some(io) => self.cores[at].durable(black_box(io).seq),
                None => return,
            }
        }
    }
}

impl Cluster for Trio {
    fn entries(&self) -> u64 {
        self.work.entries()
    }

    #[inline(never)]
    fn work(&mut self) {
        match self.work {
            Work::Propose(batch) => self.propose(batch),
            Work::ProposeToAll(batch) => {
                self.propose(batch);
                self.heartbeat();
            }
            Work::Read(at) => self.read(at),
        }
    }

    fn check(&mut self) {
        let expected = 3 * self.cores[0].last().index;
        if let Work::Propose(_) = self.work {
            self.heartbeat();
        }
        assert_eq!(self.applied, expected, "each core applies each entry once");
        assert_eq!(self.reads_confirmed, self.reads_asked, "every read is confirmed");
    }
}
