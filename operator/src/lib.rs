//! The control plane of RestPipe in Kubernetes.
//!
//! [`controller`] reconciles `RestPipeServer` and `RestPipeLink` objects: it looks
//! ([`presence`] for the pipes, watches for everything else), decides ([`plan`], which is pure), and
//! applies. [`webhook`] gives annotated pods their sidecar; what it adds is decided by [`inject`],
//! which is pure as well. [`cli`] is the command line, [`process`] what both processes share.

pub mod cli;
pub mod controller;
pub mod inject;
pub mod plan;
pub mod presence;
pub mod process;
mod readable;
pub mod seen;
pub mod webhook;
