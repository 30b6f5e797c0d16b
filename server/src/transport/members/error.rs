//! Why somebody is not recognised.

use std::io;
use std::path::PathBuf;

/// Why a peer is not who it should be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MembersError {
    #[error(
        "{name} is not one of this cluster's nodes ({known}); start the one that belongs there with its own data \
         directory, or add {name} with `server ctl member add`"
    )]
    Stranger { name: String, known: String },
    #[error("the node at {address} says it is {name}, but --peers calls it {expected}; correct --peers")]
    WrongName {
        address: String,
        name: String,
        expected: String,
    },
    #[error("the node at {address} is this node itself; remove that address from --peers")]
    Myself { address: String },
    #[error(
        "two nodes call themselves {name}: at {first} and at {second}; give one of them another --node-id"
    )]
    Twice {
        name: String,
        first: String,
        second: String,
    },
    #[error("the names {one} and {other} cannot be told apart by their number; rename one of them")]
    SameNumber { one: String, other: String },
    #[error(
        "{name} came back with another store: its data directory was lost or replaced, or a second \
         process uses its name; restore the directory or stop that process. An emptied node may have promised things \
         it no longer remembers, so this cluster does not take it in again under this name: take it out with `server ctl \
         member remove` and add a new node under another name"
    )]
    OtherStore { name: String, known: u64, found: u64 },
    #[error(
        "two processes call themselves {name} and have copies of one data directory: one that was replaced by another \
         keeps coming back; stop both, remove the copy, and start {name} once with its own directory"
    )]
    Replaced { name: String },
    #[error("this process of {name} was replaced by a later one")]
    Late { name: String },
    #[error(
        "{name} was removed from this cluster and cannot come back under that name; start a new node with an empty data \
         directory and another --node-id, and add it with `server ctl member add`"
    )]
    Removed { name: String },
    #[error("{} is damaged: {line:?} is no node with its store; restore this file from a copy of the disk", path.display())]
    Damaged { path: PathBuf, line: String },
    #[error("cannot keep the names of the peers in {}", path.display())]
    Disk { path: PathBuf, source: io::Error },
}
