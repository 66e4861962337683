//! The processes of a measurement. Each runs on one thread, as a node does.

mod app;
mod bare;
mod echo;
mod http;
mod load;
mod pipes;
mod proxy;
mod tally;
mod tls_load;

use std::net::SocketAddr;

use clap::Subcommand;
use tokio::signal::unix::{SignalKind, signal};

pub(crate) use tally::{Found, Window};

/// Bytes that an HTTP connection may buffer, as in the node.
const MAX_BUFFER: usize = 64 * 1024;

/// Bytes handed to a socket at once.
const CHUNK: usize = 64 * 1024;

static ZEROS: [u8; CHUNK] = [0; CHUNK];

/// A process and its arguments.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Role {
    /// An HTTP/1.1 server that answers `/b/N` with N bytes.
    App(app::AppArgs),
    /// A reverse proxy of HTTP/1.1 without anything else.
    Proxy(proxy::ProxyArgs),
    /// The node near the caller of a pipe without anything else.
    BareNear(bare::BareNearArgs),
    /// The node near the app of a pipe without anything else.
    BareFar(bare::BareFarArgs),
    /// A TLS server that answers frames by frames.
    Echo(echo::EchoArgs),
    /// Holds pipes by the thousand.
    Pipes(pipes::PipesArgs),
    /// Asks over HTTP/1.1.
    Load(load::LoadArgs),
    /// Asks the echo.
    TlsLoad(tls_load::TlsLoadArgs),
}

pub(crate) fn run(role: Role) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut told_to_end = signal(SignalKind::terminate())?;
        tokio::select! {
            biased;
            result = perform(role) => result,
            _ = told_to_end.recv() => Ok(()),
        }
    })
}

async fn perform(role: Role) -> anyhow::Result<()> {
    match role {
        Role::App(args) => app::run(args).await,
        Role::Proxy(args) => proxy::run(args).await,
        Role::BareNear(args) => bare::near(args).await,
        Role::BareFar(args) => bare::far(args).await,
        Role::Echo(args) => echo::run(args).await,
        Role::Pipes(args) => pipes::run(args).await,
        Role::Load(args) => load::run(args).await,
        Role::TlsLoad(args) => tls_load::run(args).await,
    }
}

/// Tells the bench where this role listens.
fn ready(address: SocketAddr) {
    println!("ready {address}");
}
