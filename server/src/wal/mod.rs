//! The write-ahead log: what a node promised, on disk before it says so.
//!
//! # The story
//!
//! A log is a row of segments, files of fixed size that are filled with zeros before they are used, each in step with the
//! use of the one before it, so that a group commit is one `write` and one `fdatasync` that touches no metadata. Requests from the
//! core ([`Io`]) queue up
//! in front of one [thread](WalThread). It takes all there are, encodes them into one [frame], writes it, syncs
//! it, and reports the last number. While the sync runs, the next group gathers: there is no timer, and nothing waits
//! for company.
//!
//! A frame begins on a boundary of its own ([`WalOptions::align_bytes`]), so **no sector that was ever acknowledged is
//! written again**. The default is 4 KiB and not the 512 bytes of a sector, because the system writes back whole pages
//! and many disks have physical sectors of that size: with 512 the acknowledged bytes that share a page with the new
//! frame would go to the disk again.
//!
//! [`Wal::open`] reads everything back and checks it: the checksum of each header, of each payload, the chain from
//! frame to frame, and that the records make sense one after the other. What a power cut can explain is cut off and
//! reported. What it cannot explain is damage; the rules are one table, in `verdict`. Every header stands in its frame
//! twice and says how far the log went and whom the node had voted for, so damage usually leaves a node that knows
//! exactly what it may be missing: the good beginning is kept, the damaged files are set aside, and the log goes on from a
//! checkpoint that holds the suspicion until the node has everything back. If that cannot be known, opening is an
//! [error](Corruption) that names file, byte, frame and entries, and then nothing is changed on disk.
//!
//! Every segment begins with a checkpoint: what has to be known of all the earlier ones, but for their entries. So
//! [`Wal::release`] can remove them as soon as a snapshot holds what was in them. There is always space reserved for one segment ahead, so a
//! full disk is known of while there is still room for votes and for what was accepted; after that the log waits for
//! space, and fails nobody.
//!
//! # What it never does
//!
//! - acknowledge what is not synced;
//! - go on after a failed write or sync: the system may have dropped the data and forgotten the failure, so the log is
//!   poisoned, says so once, and acknowledges nothing more until it is opened again;
//! - take a damaged length for the end of the file, or shorten in silence a log that has any sign of having been
//!   acknowledged;
//! - write before the whole log has been read and understood;
//! - read a clock to decide anything (it measures how long syncs take).
//!
//! # What it cannot know
//!
//! The newest frame has no later frame to vouch for it. If a sector of it is lost as a whole (reads as zeros again: a
//! disk that lied about a sync, a lost write), that looks like a torn write and the frame is cut off. Single damaged
//! bytes in it are seen. If its very first sector and all others are lost, it was never there. (The exception is the first
//! frame of a log whose earlier segments were removed: they go only once it is synced, so it is never taken for torn.) The same holds for a
//! whole newest segment that somebody removes together with the one behind it, which is begun as soon as there is a newest one. And a power cut on a disk that
//! tears *within* a sector is taken for damage although nothing was lost: the safe reading. A node recovered from such a
//! disk is what the protocol's majority is for; trailers in every page would narrow it further.
//!
//! [`Io`]: crate::raft::Io

mod error;
pub mod frame;
mod log;
mod prepare;
mod rebuild;
mod record;
mod recover;
mod scanner;
mod segment;
mod shape;
mod stats;
mod thread;
mod verdict;

pub use error::{Corruption, WalError};
pub use log::{Wal, WalOptions};
pub use recover::{Cut, RecoveryInfo};
pub use shape::Violation;
pub use stats::{WalStats, WalStatsSnapshot};
pub use thread::{WalHandle, WalThread};
