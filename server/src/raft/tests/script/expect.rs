//! What a script can claim:
//!
//! * `expect leader 1` (and nobody else), `expect some leader` (only one), `expect no leader`, `expect role 2 candidate`, `expect term 2 3`,
//!   `expect vote 2 = 1`;
//! * `expect log 2 = 1:- 1:a`, `expect same logs`, `expect commit 3 2`, `expect applied 2 = 1:- 1:a`;
//! * `expect read r = 3` (may be answered from that index on), `expect read r waits`, `expect read r fails`;
//! * `expect wire empty`, `expect feeds-snapshot 1 3`, `expect trusts 3`, `expect distrusts 3`.

use super::super::cluster::id;
use super::commands::number;
use super::{Outcome, Script, show};

impl Script {
    pub(super) fn expect(&mut self, what: &[&str]) -> Outcome {
        match *what {
            ["leader", node] => {
                let node = self.node(node)?;
                match self.leaders().as_slice() {
                    [] => Err("no node leads".to_owned()),
                    leaders if leaders == [node] => Ok(()),
                    leaders => Err(format!("these lead: {leaders:?}")),
                }
            }
            ["some", "leader"] => match self.leaders().len() {
                1 => Ok(()),
                leaders => Err(format!("{leaders} nodes lead")),
            },
            ["no", "leader"] => match self.leaders().as_slice() {
                [] => Ok(()),
                leaders => Err(format!("these lead: {leaders:?}")),
            },
            ["role", node, role] => {
                let node = self.node(node)?;
                same(show::role(self.cluster.node(node).core.role()), role)
            }
            ["term", node, term] => {
                let node = self.node(node)?;
                same(&self.cluster.node(node).core.term().to_string(), term)
            }
            ["vote", node, "=", vote] => {
                let node = self.node(node)?;
                let found = self.cluster.node(node).core.vote();
                let found = found.map_or("nobody".to_owned(), |found| self.number(found).to_string());
                same(&found, vote)
            }
            ["read", name, ref outcome @ ..] => self.expect_read(name, outcome),
            ["wire", "empty"] => {
                let wire = self.show(&["wire"])?;
                same(&wire, "")
            }
            _ => self.expect_of_logs(what),
        }
    }

    fn expect_of_logs(&mut self, what: &[&str]) -> Outcome {
        match *what {
            ["log", node, "=", ref log @ ..] => {
                let node = self.node(node)?;
                same(&self.log(node), &log.join(" "))
            }
            ["same", "logs"] => {
                let nodes = self.nodes();
                let first = self.log(nodes[0]);
                nodes.iter().try_for_each(|node| same(&self.log(*node), &first))
            }
            ["commit", node, index] => {
                let node = self.node(node)?;
                same(&self.cluster.node(node).core.commit().to_string(), index)
            }
            ["applied", node, "=", ref log @ ..] => {
                let node = self.node(node)?;
                let applied = self.cluster.node(node).applied.clone();
                same(&self.entries(&applied), &log.join(" "))
            }
            ["feeds-snapshot", leader, node] => {
                let (leader, node) = (self.node(leader)?, self.node(node)?);
                match self.cluster.node(leader).core.receives_snapshot(id(node)) {
                    true => Ok(()),
                    false => Err(format!("node {leader} sends node {node} no snapshot")),
                }
            }
            ["trusts", node] => {
                let node = self.node(node)?;
                let suspect = self.cluster.node(node).core.suspect();
                same(&format!("{suspect:?}"), "None")
            }
            ["distrusts", node] => {
                let node = self.node(node)?;
                match self.cluster.node(node).core.suspect() {
                    Some(_) => Ok(()),
                    None => Err(format!("node {node} trusts its log")),
                }
            }
            _ => Err(format!("what is `expect {}`?", what.join(" "))),
        }
    }

    fn expect_read(&mut self, name: &str, outcome: &[&str]) -> Outcome {
        let token = self.reads.iter().position(|known| known == name);
        let token = token.ok_or_else(|| format!("nobody asked to read {name}"))? as u64;
        let mut nodes = self.cluster.nodes.values();
        let answered = nodes.find_map(|node| node.reads.iter().find(|(found, _)| *found == token));
        let mut nodes = self.cluster.nodes.values();
        let found = match answered {
            Some((_, index)) => format!("= {index}"),
            None if nodes.any(|node| node.reads_failed.contains(&token)) => "fails".to_owned(),
            None => "waits".to_owned(),
        };
        if let ["=", index] = outcome {
            number(index)?;
        }
        same(&found, &outcome.join(" "))
    }

    fn leaders(&self) -> Vec<u64> {
        let leaders = self.cluster.leaders();
        leaders.into_iter().map(|(node, _)| self.number(node)).collect()
    }
}

fn same(found: &str, wanted: &str) -> Outcome {
    match found == wanted {
        true => Ok(()),
        false => Err(format!("it is `{found}` and should be `{wanted}`")),
    }
}
