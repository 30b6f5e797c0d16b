//! What limited the run: CPU, memory, waiting for a core, steal time and fsync of client and servers, sampled while the
//! load runs and judged when it is over.
//!
//! [`Sampler`] watches from threads of its own, so that nothing of it runs on the load's runtime. It finds servers by
//! itself where they listen on this machine. [`bottleneck()`] turns what was sampled into one sentence; it is pure.
//!
//! Promises: a run never fails because something could not be sampled: that is absent, and said once in the notes of the
//! record. No sentence claims more than the samples show. Never touches a process that it watches, and asks a server for
//! nothing but its Prometheus page.

mod books;
pub mod bottleneck;
mod fsync;
mod ports;
mod proc;
mod process;
mod sampler;
mod scrape;
mod thin;
mod watched;

pub(crate) use proc::{MachineStat, ProcessStat};

pub use bottleneck::{Evidence, Waited, bottleneck};
pub use sampler::{PERIOD_MAX, PERIOD_MIN, Sampler, WATCHED_MAX};
pub use watched::Watched;

#[cfg(all(test, target_os = "linux"))]
mod tests;
