//! A RestPipe node: the two-way REST pipe between workloads.
//!
//! The way of one event is also the way through the files: `app ->`
//! [`gateway`] `->` [`router`] `-> pipe ~~> pipe ->` [`dispatch`] `-> handler`,
//! and back on the same stream. [`link`] makes the pipes, [`creds`] keeps the
//! identity they show, [`app`] puts everything together. To embed a node, see
//! [`Node`], [`Registry`] and `examples/embed.rs`.

mod accept;
pub mod admin;
pub mod app;
pub mod cli;
mod control;
pub mod creds;
pub mod dispatch;
pub mod event;
pub mod gateway;
pub mod handler;
mod headers;
mod hooks;
pub mod io;
pub mod link;
pub mod names;
pub mod presence;
mod quiet;
pub mod router;
pub mod telemetry;

pub use app::{Extras, Node};
pub use event::{Event, EventBody, Exception, Reply, ReplyBody, StreamError, Verb};
pub use handler::{Handler, HandlerResult, Registry};
