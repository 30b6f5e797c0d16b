//! What a script can make happen.

use bytes::Bytes;

use super::super::cluster::{Cluster, Flight, id};
use super::{NODES_MAX, Outcome, Script, show};
use crate::raft::{Change, Entry, HardState, Message, NodeId};

/// An election timeout is shorter, so whoever has not asked for votes by then never will.
const TICKS_MAX: u32 = 64;

impl Script {
    pub(super) fn command(&mut self, words: &[&str]) -> Outcome {
        match *words {
            ["nodes", count] => self.begin(Cluster::new(count_of(count)?, 1)),
            ["nodes", count, "narrow"] => self.begin(Cluster::narrow(count_of(count)?, 1)),
            ["disk", node, "term", term, "log", ref log @ ..] => self.disk(node, term, log)?,
            ["start", node] => self.cluster.start_joining(any_number(node)?),
            ["begin", leader] => {
                let (leader, voters) = (self.node(leader)?, self.nodes().len() as u64);
                self.cluster.begin_configuration(leader, voters);
            }
            ["tick", node] => self.tick(node, "x1")?,
            ["tick", node, times] => self.tick(node, times)?,
            ["forget", ref nodes @ ..] => {
                let nodes = self.list(nodes)?;
                self.cluster.forget_the_leader(&nodes);
            }
            ["campaign", node] => {
                let node = self.node(node)?;
                self.campaign(node)?;
            }
            ["win", node, "by", ref voters @ ..] => {
                let (node, voters) = (self.node(node)?, self.list(voters)?);
                self.win(node, &voters)?;
            }
            ["elect", node] => {
                let node = self.node(node)?;
                if !self.cluster.elect(node) {
                    return Err(format!("node {node} is not elected"));
                }
            }
            ["run", ticks] => self.cluster.run(number(ticks)? as u32),
            ["settle"] => self.cluster.settle(),
            _ => return self.command_on_links(words),
        }
        Ok(())
    }

    fn command_on_links(&mut self, words: &[&str]) -> Outcome {
        match *words {
            ["deliver", ref choice @ ..] => {
                for flight in self.take(choice)? {
                    self.cluster.hand_over(flight);
                }
            }
            ["drop", ref choice @ ..] => drop(self.take(choice)?),
            ["copy", ref choice @ ..] => {
                for at in self.choose(choice)? {
                    let flight = self.cluster.wire[at].clone();
                    self.cluster.wire.push(flight);
                }
            }
            ["reverse", ref choice @ ..] => {
                let flights = self.take(choice)?;
                self.cluster.wire.extend(flights.into_iter().rev());
            }
            ["cut", one, other] => {
                let (one, other) = (self.id(one)?, self.id(other)?);
                self.cluster.disconnect(one, other);
                self.cluster.disconnect(other, one);
            }
            ["join", one, other] => {
                let (one, other) = (self.id(one)?, self.id(other)?);
                self.cluster.connect(one, other);
                self.cluster.connect(other, one);
            }
            ["connect"] => self.cluster.connect_all(),
            ["isolate", node] => {
                let node = self.id(node)?;
                self.cluster.isolate(node);
            }
            ["rejoin", node] => {
                let node = self.id(node)?;
                self.cluster.rejoin(node);
            }
            _ => return self.command_on_disks(words),
        }
        Ok(())
    }

    fn command_on_disks(&mut self, words: &[&str]) -> Outcome {
        match *words {
            ["sync", node] => {
                let node = self.node(node)?;
                let requests = self.cluster.node(node).unsynced.len();
                self.sync(node, requests)?;
            }
            ["sync", node, times] => {
                let node = self.node(node)?;
                self.sync(node, count_of_times(times)? as usize)?;
            }
            ["crash", node] => {
                let node = self.id(node)?;
                self.cluster.crash(node);
            }
            ["damage", node, "keep", index] => {
                let (node, index) = (self.node(node)?, number(index)?);
                self.cluster.damage(node, index);
            }
            ["compact", node, "keep", trailing] => {
                let (node, trailing) = (self.node(node)?, number(trailing)?);
                self.cluster.compact(node, trailing);
            }
            ["deliver-snapshot", link] => {
                let at = self.parcel(link)?;
                self.cluster.deliver_parcel(at);
            }
            ["lose-snapshot", link] => {
                let at = self.parcel(link)?;
                self.cluster.lose_parcel(at);
            }
            _ => return self.command_of_clients(words),
        }
        Ok(())
    }

    fn command_of_clients(&mut self, words: &[&str]) -> Outcome {
        match *words {
            ["propose", node, payload] => {
                let (node, payload) = (self.node(node)?, Bytes::from(payload.to_owned()));
                let core = &mut self.cluster.node(node).core;
                core.propose(payload).map_err(refused)?;
                self.cluster.poll(id(node));
            }
            ["read", node, name] => {
                let node = self.node(node)?;
                let token = self.reads.len() as u64;
                self.cluster.node(node).core.read(token).map_err(refused)?;
                self.reads.push(name.to_owned());
                self.cluster.poll(id(node));
            }
            ["transfer", node, to] => {
                let (node, to) = (self.node(node)?, id(any_number(to)?));
                let core = &mut self.cluster.node(node).core;
                core.transfer(Some(to)).map_err(refused)?;
                self.cluster.poll(id(node));
            }
            ["add-learner", leader, learner] => {
                let (leader, learner) = (self.node(leader)?, any_number(learner)?);
                let member = super::super::cluster::member(learner, false);
                let change = Change::AddLearner {
                    name: member.name,
                    address: member.address,
                };
                self.cluster.change(leader, change).map_err(refused)?;
                self.cluster.connect_all();
            }
            ["promote", leader, node] => {
                let (leader, node) = (self.node(leader)?, id(any_number(node)?));
                let change = Change::Promote(node);
                self.cluster.change(leader, change).map_err(refused)?;
            }
            ["remove", leader, node] => {
                let (leader, node) = (self.node(leader)?, id(any_number(node)?));
                let change = Change::Remove(node);
                self.cluster.change(leader, change).map_err(refused)?;
            }
            _ => return Err(format!("what is `{}`?", words.join(" "))),
        }
        Ok(())
    }

    fn begin(&mut self, cluster: Cluster) {
        self.cluster = cluster;
    }

    fn disk(&mut self, node: &str, term: &str, log: &[&str]) -> Outcome {
        let (node, term) = (self.node(node)?, number(term)?);
        let mut entries = Vec::new();
        for (word, index) in log.iter().zip(1..) {
            let (term, payload) = word
                .split_once(':')
                .ok_or_else(|| format!("`{word}` is no entry"))?;
            let payload = if payload == "-" { "" } else { payload };
            entries.push(Entry {
                term: number(term)?,
                index,
                payload: Bytes::from(payload.to_owned()),
                ..Entry::default()
            });
        }
        let hard_state = HardState { term, vote: None };
        self.cluster.restart_from(node, hard_state, entries);
        Ok(())
    }

    fn tick(&mut self, node: &str, times: &str) -> Outcome {
        let nodes = match node {
            "all" => self.nodes(),
            node => vec![self.node(node)?],
        };
        for _ in 0..count_of_times(times)? {
            nodes.iter().for_each(|node| self.cluster.tick(id(*node)));
        }
        Ok(())
    }

    fn campaign(&mut self, node: u64) -> Outcome {
        let asks =
            |flight: &Flight| flight.from == id(node) && matches!(flight.message, Message::VoteRequest(_));
        let before = self.cluster.wire.iter().filter(|flight| asks(flight)).count();
        for _ in 0..TICKS_MAX {
            self.cluster.tick(id(node));
            if self.cluster.wire.iter().filter(|flight| asks(flight)).count() > before {
                return Ok(());
            }
        }
        Err(format!("node {node} does not ask for votes"))
    }

    /// Votes, and only they, between `node` and `voters`; other questions and answers about votes are lost. What a leader
    /// says first stays on the wire and on its way to the disk.
    fn win(&mut self, node: u64, voters: &[u64]) -> Outcome {
        let party: Vec<NodeId> = voters.iter().copied().chain([node]).map(id).collect();
        // One that hears of a later term asks again in the next.
        for round in 0..12 {
            if round % 4 == 0 {
                self.campaign(node)?;
            }
            let (votes, rest): (Vec<Flight>, Vec<Flight>) = std::mem::take(&mut self.cluster.wire)
                .into_iter()
                .partition(|flight| {
                    matches!(flight.message, Message::VoteRequest(_) | Message::VoteResponse(_))
                });
            self.cluster.wire = rest;
            for flight in votes {
                let (asker, asked) = match flight.message.is_response() {
                    true => (flight.to, flight.from),
                    false => (flight.from, flight.to),
                };
                if asker == id(node) && party.contains(&asked) {
                    self.cluster.hand_over(flight);
                }
            }
            if self.cluster.leads(node) {
                return Ok(());
            }
            for member in &party {
                while !self.cluster.nodes[member].unsynced.is_empty() && !self.cluster.leads(node) {
                    self.cluster.sync_one(*member);
                }
            }
        }
        let role = show::role(self.cluster.node(node).core.role());
        Err(format!("node {node} does not win and is a {role}"))
    }

    fn sync(&mut self, node: u64, requests: usize) -> Outcome {
        let waiting = self.cluster.node(node).unsynced.len();
        if waiting == 0 || requests > waiting {
            let least = if waiting == 0 { "no disk" } else { "less" };
            return Err(format!("node {node} waits for {least}"));
        }
        (0..requests).for_each(|_| self.cluster.sync_one(id(node)));
        Ok(())
    }

    /// Places of messages on the wire.
    fn choose(&self, choice: &[&str]) -> Outcome<Vec<usize>> {
        let [link, rest @ ..] = choice else {
            return Err("which messages?".to_owned());
        };
        let (from, to) = self.link(link)?;
        let limit = match rest.last().and_then(|word| word.strip_prefix('x')) {
            Some(count) => number(count)? as usize,
            None => usize::MAX,
        };
        let kind = rest.first().filter(|word| !word.starts_with('x'));
        let fits = |flight: &Flight| {
            from.is_none_or(|from| flight.from == from)
                && to.is_none_or(|to| flight.to == to)
                && kind.is_none_or(|kind| show::kind(&flight.message) == *kind)
        };
        let found = self.cluster.wire.iter().enumerate();
        let found: Vec<usize> = found
            .filter(|(_, flight)| fits(flight))
            .map(|(at, _)| at)
            .take(limit)
            .collect();
        match found.is_empty() {
            true => Err("nothing like this is on the wire".to_owned()),
            false => Ok(found),
        }
    }

    /// Takes them off.
    fn take(&mut self, choice: &[&str]) -> Outcome<Vec<Flight>> {
        let mut places = self.choose(choice)?;
        places.reverse();
        let mut flights: Vec<Flight> = places
            .into_iter()
            .map(|at| self.cluster.wire.remove(at))
            .collect();
        flights.reverse();
        Ok(flights)
    }

    fn parcel(&self, link: &str) -> Outcome<usize> {
        let (from, to) = self.link(link)?;
        let mut parcels = self.cluster.parcels.iter();
        let found = parcels.position(|parcel| {
            from.is_none_or(|from| parcel.from == from) && to.is_none_or(|to| parcel.to == to)
        });
        found.ok_or_else(|| "no such snapshot is on its way".to_owned())
    }

    /// `1->2`, with `*` for anybody.
    fn link(&self, word: &str) -> Outcome<(Option<NodeId>, Option<NodeId>)> {
        let (from, to) = word
            .split_once("->")
            .ok_or_else(|| format!("`{word}` is no link"))?;
        let end = |word: &str| match word {
            "*" => Ok(None),
            word => self.id(word).map(Some),
        };
        Ok((end(from)?, end(to)?))
    }

    pub(super) fn node(&self, word: &str) -> Outcome<u64> {
        let node = number(word)?;
        match self.nodes().contains(&node) {
            true => Ok(node),
            false => Err(format!("there is no node {node}")),
        }
    }

    fn id(&self, word: &str) -> Outcome<NodeId> {
        self.node(word).map(id)
    }

    pub(super) fn list(&self, words: &[&str]) -> Outcome<Vec<u64>> {
        words.iter().map(|word| self.node(word)).collect()
    }
}

fn refused(reason: impl std::fmt::Debug) -> String {
    format!("refused: {reason:?}")
}

pub(super) fn number(word: &str) -> Outcome<u64> {
    word.parse().map_err(|_| format!("`{word}` is no number"))
}

/// The number of a node that need not run.
fn any_number(word: &str) -> Outcome<u64> {
    match number(word)? {
        node @ 1..=NODES_MAX => Ok(node),
        node => Err(format!("there is no node {node}")),
    }
}

fn count_of(word: &str) -> Outcome<u64> {
    any_number(word)
}

fn count_of_times(word: &str) -> Outcome<u64> {
    let digits = word
        .strip_prefix('x')
        .ok_or_else(|| format!("`{word}` does not say how often"))?;
    number(digits)
}
