#![allow(clippy::unwrap_used)]

mod peer;
mod properties;
mod situations;
mod table;
