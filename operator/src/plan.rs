//! What is to be done, as a function of what is there.
//!
//! Nothing here talks to anybody, reads a clock or rolls dice (but for the keys that
//! `restpipe-identity` makes): facts and `now` come in, whole objects and whole statuses go out.
//! The caller writes what differs from what is there.
//!
//! A server is planned first ([`server::plan`]). If its plan has a [`CaWrite`], that is stored before
//! anything else of the plan, and if storing fails the plan is void: certificates of a CA that nobody
//! kept would lock everybody out. The plans of its links ([`link::plan`]) then work from the
//! [`ServerView`] that its plan holds.
//!
//! No decision is taken from `status`, which users may be able to write: from there come only times
//! of transitions, what is shown while presence is not known yet, and whether an Event is news.

pub mod authority;
pub mod claims;
pub mod conditions;
pub mod event;
pub mod leaf;
pub mod link;
pub mod node;
mod objects;
mod rotation;
pub mod server;
mod service;
pub mod time;
pub mod trouble;

pub use authority::CaState;
pub use claims::{Claims, Refusal, Verdict};
pub use event::{Event, EventType};
pub use link::{ClientPodSeen, LinkPlan, LinkSeen, LinkServer, PeerSeen};
pub use server::{CaWrite, ServerPlan, ServerSeen, ServerView};
pub use trouble::trouble_of;

#[cfg(test)]
mod tests;
