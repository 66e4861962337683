//! Clients by the thousand in one process: each has a certificate of its own
//! and one pipe, and answers as the app does.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::Context;
use bytes::Bytes;
use clap::Args;
use restpipe_identity::{
    CertificateAuthority, Credentials, LEAF_LIFETIME, LeafRequest, PeerName, Usage, load_ca,
};
use restpipe_pipe::dial::dial;
use restpipe_pipe::pb::{Hello, ReplyHead};
use restpipe_pipe::{Incoming, PipeConfig, PipeHandle, Service};
use tokio::task::JoinSet;

use super::ZEROS;

/// Handshakes at once, within what the server takes from one address.
const AT_ONCE: usize = 16;

/// Bytes that go out in one frame with their head.
const MAX_BODY: usize = 14 * 1024;

/// Arguments of the clients.
#[derive(Args, Clone, Debug)]
pub(crate) struct PipesArgs {
    #[arg(long)]
    at: SocketAddr,
    /// The CA's directory.
    #[arg(long)]
    ca: PathBuf,
    /// Whom the server's certificate names.
    #[arg(long)]
    name: PeerName,
}

/// Each line of stdin is how many pipes there are to be; `open N` says that there are.
pub(super) async fn run(args: PipesArgs) -> anyhow::Result<()> {
    let args = Arc::new(args);
    let mut pipes = Vec::new();
    loop {
        let line = tokio::task::spawn_blocking(|| std::io::stdin().lines().next());
        let Some(line) = line.await?.transpose()? else { return Ok(()) };
        let count: usize = line.trim().parse().context("how many pipes?")?;
        let ca = load_ca(&args.ca)?;
        let mut dials = JoinSet::new();
        for index in pipes.len()..count {
            if dials.len() == AT_ONCE
                && let Some(dialled) = dials.join_next().await
            {
                pipes.push(dialled??);
            }
            dials.spawn(one(args.clone(), identity(&ca, index)?, index));
        }
        while let Some(dialled) = dials.join_next().await {
            pipes.push(dialled??);
        }
        println!("open {}", pipes.len());
    }
}

fn identity(ca: &CertificateAuthority, index: usize) -> anyhow::Result<Credentials> {
    let now = SystemTime::now();
    let name = format!("n{index}").parse()?;
    let leaf = LeafRequest { name, usage: Usage::Client, lifetime: LEAF_LIFETIME, now };
    let leaf = ca.issue(leaf)?;
    let (cert, key) = (leaf.cert_pem.as_bytes(), leaf.key_pem.expose().as_bytes());
    Ok(Credentials::from_pem(cert, key, ca.cert_pem().as_bytes(), Usage::Client, now)?)
}

async fn one(
    args: Arc<PipesArgs>,
    credentials: Credentials,
    index: usize,
) -> anyhow::Result<PipeHandle> {
    let mut boot_id = vec![0; 16];
    boot_id[..8].copy_from_slice(&(index as u64).to_be_bytes());
    let hello = Hello {
        instance: format!("n{index}"),
        boot_id: boot_id.into(),
        epoch: 1,
        ..Hello::default()
    };
    let config = PipeConfig { hello, ..PipeConfig::default() };
    let dialled = dial(args.at, &args.name, &credentials, config, Arc::new(Answers));
    Ok(dialled.await.with_context(|| format!("pipe {index}"))?.pipe)
}

struct Answers;

impl Service for Answers {
    fn serve(&self, event: Incoming) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let length = event.head.noun.strip_prefix("b/").and_then(|length| length.parse().ok());
        let length: usize = length.unwrap_or(0).min(MAX_BODY);
        let head = ReplyHead { status: 200, body_len: Some(length as u64), ..ReplyHead::default() };
        // The head is small enough.
        let _ = event.responder.reply(head, Bytes::from_static(&ZEROS[..length]));
        Box::pin(std::future::ready(()))
    }
}
