//! The crate from outside: certificates made at run time, real handshakes in memory, no sockets.

mod bad_pem;
mod chains;
mod handshake;
mod issuing;
mod leaf_rules;
mod pair;
mod store;
mod support;
