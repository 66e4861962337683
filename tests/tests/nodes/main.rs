//! Whole nodes: in this process, and as processes of their own. One program, as most of these tests
//! wait for something and so can run side by side.

mod bodies;
mod certificates;
mod cli;
mod cuts;
mod faults;
mod gateway;
mod handlers;
mod identity;
mod links;
mod observe;
mod operator;
mod outcomes;
mod processes;
mod refusals;
