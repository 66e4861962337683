//! What both processes share: logs, signals, and the admin port.

mod admin;
mod log;
pub mod serve;
mod signals;

use std::net::SocketAddr;

use anyhow::Context;
use restpipe_config::LogFormat;
use restpipe_pipe::listen::listen;
use tokio::net::TcpListener;

pub use admin::{Admin, registry};
pub use log::init as init_logging;
pub use signals::stop_on_signals;

/// Connections that the kernel may hold for us. Callers are API servers, kubelet and Prometheus.
const BACKLOG: u32 = 1024;

/// Settings that both processes have.
// Flattened into another `Options`, and clap's groups are named after their structs.
#[derive(clap::Args, Clone, Debug)]
#[group(skip)]
pub struct Options {
    /// Where /live, /ready and /metrics are served.
    #[arg(
        long,
        env = "RESTPIPE_OPERATOR_ADMIN",
        value_name = "ADDRESS:PORT",
        default_value = "[::]:8080"
    )]
    pub admin: SocketAddr,

    /// What is logged: off, error, warn, info, debug or trace, or a filter such as info,kube=debug.
    #[arg(long, env = "RESTPIPE_OPERATOR_LOG", value_name = "FILTER", default_value = "info")]
    pub log: String,

    /// How a log line looks: text, json, or auto, which is text on a terminal and json elsewhere.
    #[arg(
        long,
        env = "RESTPIPE_OPERATOR_LOG_FORMAT",
        value_name = "FORMAT",
        default_value = "auto"
    )]
    pub log_format: LogFormat,
}

/// Listens on `address`, which the flag `flag` gave; `[::]` is every address there is.
///
/// # Errors
/// If that cannot be; the error names the flag.
pub fn bind(flag: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    listen(address, BACKLOG).with_context(|| {
        format!("cannot listen on {address}: free the address, or give another by {flag}")
    })
}

/// An error with all its causes, each once: the innermost one says more than the layers around it.
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        source = inner.source();
    }
    text
}
