//! The app: `GET /b/N` is N bytes.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};

use anyhow::Context as _;
use bytes::Bytes;
use clap::Args;
use http::{Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};

use super::{CHUNK, MAX_BUFFER, ZEROS, ready};

/// Chunks that one connection writes before others get their turn.
const CHUNKS_PER_TURN: u32 = 4;

/// Arguments of the app.
#[derive(Args, Clone, Debug)]
pub(crate) struct AppArgs {
    #[arg(long)]
    listen: SocketAddr,
    #[arg(long)]
    unix: PathBuf,
}

pub(super) async fn run(args: AppArgs) -> anyhow::Result<()> {
    let tcp = TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("the app cannot listen on {}", args.listen))?;
    let unix = UnixListener::bind(args.unix)?;
    ready(tcp.local_addr()?);
    loop {
        tokio::select! {
            accepted = tcp.accept() => {
                let (stream, _) = accepted?;
                stream.set_nodelay(true)?;
                serve(stream);
            }
            accepted = unix.accept() => serve(accepted?.0),
        }
    }
}

fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
    let connection = http1::Builder::new()
        .max_buf_size(MAX_BUFFER)
        .serve_connection(TokioIo::new(stream), service_fn(answer));
    // A caller that goes away is none of the app's business.
    tokio::spawn(async move { connection.await.ok() });
}

async fn answer(request: Request<Incoming>) -> Result<Response<Zeros>, Infallible> {
    let length = request.uri().path().strip_prefix("/b/").and_then(|length| length.parse().ok());
    let mut response = Response::new(Zeros { left: length.unwrap_or(0), in_turn: 0 });
    if length.is_none() {
        *response.status_mut() = StatusCode::NOT_FOUND;
    }
    Ok(response)
}

/// A body of zeros.
struct Zeros {
    left: u64,
    in_turn: u32,
}

impl Body for Zeros {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        if self.in_turn == CHUNKS_PER_TURN {
            self.in_turn = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.in_turn += 1;
        let length = self.left.min(CHUNK as u64) as usize;
        self.left -= length as u64;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&ZEROS[..length])))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
