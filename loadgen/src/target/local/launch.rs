//! What it takes to start a node of some kind of store on this machine.

use std::fmt;
use std::path::PathBuf;

use crate::target::Presence;

/// How a cluster of a target is started on this machine.
pub trait Launch: fmt::Debug + Send + Sync {
    /// Nodes of a cluster if nobody says how many, and the most that make sense.
    fn nodes(&self) -> (usize, usize) {
        (3, 9)
    }

    /// TCP ports that a node listens on. The first is for clients.
    fn ports(&self) -> usize {
        1
    }

    /// Whether the cluster is ready only once every node knows the same leader.
    fn elects(&self) -> bool {
        true
    }

    /// The command that is node number `node` of `plan`, counted from zero.
    fn command(&self, plan: &Plan, node: usize) -> NodeCommand;

    /// Name and version, from what a node says of itself.
    fn software(&self, probed: &Presence) -> String;

    /// When a write is on disk, in words.
    fn durability(&self) -> &'static str;
}

/// A cluster that is about to be started.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Drawn at random for each cluster, for stores that tell clusters apart by a name.
    pub token: String,
    /// Where the folders of its nodes are.
    pub folder: PathBuf,
    /// Its nodes.
    pub seats: Vec<Seat>,
}

/// The place of one node.
#[derive(Debug, Clone)]
pub struct Seat {
    /// `n1`, `n2` and so on.
    pub name: String,
    /// As many as [`Launch::ports`] asks for, on 127.0.0.1.
    pub ports: Vec<u16>,
    /// Where it keeps its data: a folder that does not exist yet.
    pub data: PathBuf,
    /// Where its standard error goes.
    pub log: PathBuf,
}

impl Seat {
    /// Where clients reach it.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.ports[0])
    }
}

/// One command.
#[derive(Debug, Clone)]
pub struct NodeCommand {
    /// What is run.
    pub program: Program,
    /// Its arguments.
    pub arguments: Vec<String>,
}

/// What is run.
#[derive(Debug, Clone, Copy)]
pub enum Program {
    /// This executable itself. It must end when its standard input does.
    Own,
    /// A program that is looked for on the path.
    Installed {
        /// Its name.
        name: &'static str,
        /// The Debian package that brings it.
        package: &'static str,
        /// Tells which environment variables are withheld from it, because they would change how it behaves.
        withheld: fn(&str) -> bool,
    },
}
