//! The webhook over real TLS on loopback.

mod input;
mod mutated;
mod reviews;
mod rotation;
mod site;
