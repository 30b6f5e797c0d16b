//! The record of a run, and the page that shows it.
//!
//! [`record`] owns what a run looks like on disk: one folder, a version, files that older and newer tools can read.
//! Everything else here turns a record into something a person can look at.
//!
//! This crate never touches the network, has no async code and no clock of its own: a page is a function of the
//! record alone.

pub mod record;
