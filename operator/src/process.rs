//! What both processes share: logs, signals, and the admin port.

mod admin;
mod log;
pub mod serve;
mod signals;

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::Context;
use restpipe_config::LogFormat;
use tokio::net::{TcpListener, TcpSocket};

pub use admin::{Admin, registry};
pub use log::init as init_logging;
pub use signals::stop_on_signals;

/// Connections that the kernel may hold for us. Callers are API servers, kubelet and Prometheus.
const BACKLOG: u32 = 1024;

/// What Linux says where there is no IPv6; the standard library has no name for it.
const EAFNOSUPPORT: i32 = 97;

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

/// Listens on `address`, which the flag `flag` gave. `[::]` is every address there is, on a machine
/// without IPv6 those of IPv4: so one setting does for all pods, whatever their cluster has.
///
/// # Errors
/// If that cannot be; the error names the flag.
pub fn bind(flag: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    let mut listening = listen(address);
    if let Err(error) = &listening
        && address.ip() == Ipv6Addr::UNSPECIFIED
        && has_no_ipv6(error)
    {
        listening = listen((Ipv4Addr::UNSPECIFIED, address.port()).into());
    }
    listening.with_context(|| {
        format!("cannot listen on {address}: free the address, or give another by {flag}")
    })
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if address.ip() == Ipv6Addr::UNSPECIFIED {
        // Whether it takes IPv4 too is a setting of the machine otherwise.
        socket2::SockRef::from(&socket).set_only_v6(false)?;
    }
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Whether that is what a machine without IPv6 says: no such addresses, or nothing of the kind.
fn has_no_ipv6(error: &io::Error) -> bool {
    use io::ErrorKind::{AddrNotAvailable, Unsupported};
    matches!(error.kind(), AddrNotAvailable | Unsupported)
        || error.raw_os_error() == Some(EAFNOSUPPORT)
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
