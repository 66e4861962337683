//! The crate from outside: certificates made at run time, real handshakes in memory, no sockets.

mod bad_pem;
mod chains;
mod constraints;
mod edited;
mod handshake;
mod issuing;
mod leaf_rules;
mod oversized;
mod pair;
#[path = "../properties/reload.rs"]
mod reload;
mod store;
mod support;
