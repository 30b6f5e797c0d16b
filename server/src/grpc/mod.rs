//! The edge towards clients: checks what they send, asks the node, and puts the answer, or the reason why there is
//! none, into the terms of the `.proto` files. Keeps no state.

mod admin;
mod batch;
mod deadline;
mod key_value;
mod refusal;
mod state;
mod watch;

pub(crate) use admin::{AdminAccess, Admins};
pub(crate) use key_value::KeyValues;
pub(crate) use state::States;

/// Longest key, in bytes.
pub(crate) const KEY_BYTES_MAX: usize = 4096;
/// Longest value, in bytes.
pub(crate) const VALUE_BYTES_MAX: usize = 1 << 20;
/// Longest request, in bytes: a batch of operations, or one of the longest keys with two of the longest values.
pub(crate) const REQUEST_BYTES_MAX: usize = 5 << 20;
