//! The settings of a node, from the outside.

mod cli;
mod contradictions;
mod files;
mod layers;
mod roundtrip;
mod tables;
mod usage;
mod values;
