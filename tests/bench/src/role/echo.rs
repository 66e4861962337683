//! The TLS hop without a pipe: both sides verified, as the nodes do it, and
//! frames of 16 bytes and a payload that are answered by their like.

use std::path::PathBuf;
use std::time::SystemTime;

use clap::Args;
use restpipe_identity::{Credentials, Usage};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::{CHUNK, ZEROS, ready};

/// Bytes before each payload, as in the wire protocol: the payload's length
/// and that of the payload wanted back, 8 bytes each, big endian.
pub(super) const HEADER: usize = 16;

/// Arguments of the echo.
#[derive(Args, Clone, Debug)]
pub(crate) struct EchoArgs {
    /// A server's node directory.
    #[arg(long)]
    dir: PathBuf,
}

pub(super) async fn run(args: EchoArgs) -> anyhow::Result<()> {
    let credentials = Credentials::load(&args.dir, Usage::Server, SystemTime::now())?;
    let acceptor = TlsAcceptor::from(credentials.server_config()?);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    ready(listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        let acceptor = acceptor.clone();
        tokio::spawn(async move { serve(stream, acceptor).await.ok() });
    }
}

async fn serve(stream: TcpStream, acceptor: TlsAcceptor) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = acceptor.accept(stream).await?;
    let (mut buffer, mut frames, mut out) = (vec![0; CHUNK], Frames::default(), Vec::new());
    loop {
        let read = stream.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        let mut input = &buffer[..read];
        while let Some(wanted) = frames.take(&mut input) {
            out.extend_from_slice(&header(wanted, 0));
            let mut left = wanted;
            while left > 0 {
                let chunk = left.min(CHUNK as u64) as usize;
                out.extend_from_slice(&ZEROS[..chunk]);
                left -= chunk as u64;
                if out.len() >= CHUNK {
                    stream.write_all(&out).await?;
                    out.clear();
                }
            }
        }
        // What came together is answered together.
        stream.write_all(&out).await?;
        stream.flush().await?;
        out.clear();
    }
}

/// The header of a frame.
pub(super) fn header(payload: u64, wanted: u64) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..8].copy_from_slice(&payload.to_be_bytes());
    header[8..].copy_from_slice(&wanted.to_be_bytes());
    header
}

/// Cuts a stream into frames.
#[derive(Debug, Default)]
pub(super) struct Frames {
    header: Vec<u8>,
    /// Payload of the frame that is being read, once its header is there.
    left: u64,
    wanted: u64,
}

impl Frames {
    /// Takes bytes off `input` up to the end of a frame; what that frame
    /// wants back, once it is whole.
    pub(super) fn take(&mut self, input: &mut &[u8]) -> Option<u64> {
        if self.header.len() < HEADER {
            let part = input.len().min(HEADER - self.header.len());
            let (head, rest) = input.split_at(part);
            self.header.extend_from_slice(head);
            *input = rest;
            if self.header.len() < HEADER {
                return None;
            }
            let number = |at: usize| {
                self.header[at..at + 8].iter().fold(0, |all, byte| all << 8 | u64::from(*byte))
            };
            (self.left, self.wanted) = (number(0), number(8));
        }
        let part = usize::try_from(self.left).unwrap_or(usize::MAX).min(input.len());
        *input = &input[part..];
        self.left -= part as u64;
        (self.left == 0).then(|| {
            self.header.clear();
            self.wanted
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_found_however_the_stream_is_cut() {
        let mut stream = Vec::new();
        for (payload, wanted) in [(128_u64, 5), (0, 6), (3, 7)] {
            stream.extend_from_slice(&header(payload, wanted));
            stream.extend_from_slice(&ZEROS[..payload as usize]);
        }
        for cut in 1..=stream.len() {
            let (mut frames, mut found) = (Frames::default(), Vec::new());
            for mut piece in stream.chunks(cut) {
                while let Some(wanted) = frames.take(&mut piece) {
                    found.push(wanted);
                }
            }
            assert_eq!(found, [5, 6, 7], "cut at {cut}");
        }
    }
}
