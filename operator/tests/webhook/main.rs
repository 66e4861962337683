//! The webhook over real TLS on loopback.

mod input;
mod reviews;
mod rotation;
mod site;
