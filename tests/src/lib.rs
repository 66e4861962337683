//! Harness of the tests that drive whole nodes: in this process over real TLS
//! on loopback ([`nodes`]), or as the binary that users run ([`binary`]).

pub mod app;
pub mod binary;
pub mod forged;
pub mod history;
pub mod http;
pub mod network;
pub mod nodes;
pub mod operator;
pub mod rotation;
pub mod site;
pub mod stage;
pub mod traffic;
pub mod usage;
pub mod wire;
