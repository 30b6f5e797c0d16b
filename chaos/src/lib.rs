//! placeholder
pub mod proxy;
