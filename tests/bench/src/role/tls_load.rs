//! The generator for the TLS echo: one connection, as a pipe is.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Instant, SystemTime};

use anyhow::ensure;
use clap::Args;
use restpipe_identity::{Credentials, PeerName, Usage};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::echo::{Frames, HEADER, header};
use super::tally::{Tally, Window};
use super::{CHUNK, ZEROS};

/// Arguments of the generator.
#[derive(Args, Clone, Debug)]
pub(crate) struct TlsLoadArgs {
    #[arg(long)]
    at: SocketAddr,
    /// A client's node directory.
    #[arg(long)]
    dir: PathBuf,
    /// Whom the echo's certificate names.
    #[arg(long)]
    name: PeerName,
    #[arg(long, default_value_t = 1)]
    in_flight: usize,
    /// Bytes of payload of each answer.
    #[arg(long, default_value_t = 128)]
    reply: u64,
    #[command(flatten)]
    window: Window,
}

/// Bytes of payload of each request.
const REQUEST: usize = 128;

pub(super) async fn run(args: TlsLoadArgs) -> anyhow::Result<()> {
    let tally = Tally::default();
    tally.run(args.window, ask(&args, &tally)).await
}

async fn ask(args: &TlsLoadArgs, tally: &Tally) -> anyhow::Result<()> {
    let credentials = Credentials::load(&args.dir, Usage::Client, SystemTime::now())?;
    let connector = TlsConnector::from(credentials.client_config()?);
    let stream = TcpStream::connect(args.at).await?;
    stream.set_nodelay(true)?;
    let mut stream = connector.connect(args.name.to_server_name()?, stream).await?;
    let (mut frames, mut open) = (Frames::default(), VecDeque::new());
    let (mut buffer, mut out) = (vec![0; CHUNK], Vec::new());
    while !tally.ended() {
        out.clear();
        while open.len() < args.in_flight {
            out.extend_from_slice(&header(REQUEST as u64, args.reply));
            out.extend_from_slice(&ZEROS[..REQUEST]);
            open.push_back(Instant::now());
        }
        if !out.is_empty() {
            stream.write_all(&out).await?;
            stream.flush().await?;
        }
        let read = stream.read(&mut buffer).await?;
        ensure!(read > 0, "the echo has closed the connection");
        tally.bytes(read.saturating_sub(HEADER));
        let mut input = &buffer[..read];
        while frames.take(&mut input).is_some() {
            if let Some(start) = open.pop_front() {
                tally.call(start);
            }
        }
    }
    Ok(())
}
