//! The gateway's sockets.

use std::convert::Infallible;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use restpipe_config::BindAddress;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

use super::framing::Strict;
use super::turns::{Ending, Patience, Turns};
use super::{Gateway, ProblemCode, Via};
use crate::accept::{self, AcceptBackoff};
use crate::io::Io;

/// The head of a request is here within this time after its connection was
/// opened or the last answer given; then the connection is closed.
pub(super) const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Header fields of one request.
const MAX_HEADERS: usize = 100;

/// Bytes that a connection may buffer, and with them those of a head.
const MAX_BUFFER: usize = 64 * 1024;

/// Sockets may be used by whoever reaches them, as the TCP gateway may; the
/// directory that a socket lies in is where access is decided.
const SOCKET_MODE: u32 = 0o666;

/// What a head that did not come in time is counted as.
const HEAD_TIMEOUT_WORD: &str = "head-timeout";

const TOO_SLOW: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// A bound socket of the gateway.
#[derive(Debug)]
pub struct BoundGateway {
    listener: Listener,
    address: BindAddress,
}

#[derive(Debug)]
enum Listener {
    Tcp(TcpListener),
    Unix { listener: UnixListener, _file: SocketFile },
}

/// Removes a socket's file when its listener is gone.
#[derive(Debug)]
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // It may have been removed by hand; nothing depends on it.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Binds one address of the gateway.
///
/// # Errors
/// If it cannot be had.
pub async fn bind(address: &BindAddress) -> io::Result<BoundGateway> {
    match address {
        BindAddress::Tcp(address) => {
            let listener = accept::listen(*address)?;
            let address = BindAddress::Tcp(listener.local_addr()?);
            Ok(BoundGateway { listener: Listener::Tcp(listener), address })
        }
        BindAddress::Unix(path) => {
            remove_stale(path).await?;
            let listener = UnixListener::bind(path)?;
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(SOCKET_MODE))?;
            Ok(BoundGateway {
                listener: Listener::Unix { listener, _file: SocketFile(path.clone()) },
                address: address.clone(),
            })
        }
    }
}

/// Removes the socket that a killed node left behind; one that somebody
/// listens on, and anything that is no socket, stays.
async fn remove_stale(path: &Path) -> io::Result<()> {
    let Ok(metadata) = std::fs::symlink_metadata(path) else { return Ok(()) };
    if !metadata.file_type().is_socket() {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "there is something else than a socket",
        ));
    }
    match tokio::net::UnixStream::connect(path).await {
        Ok(_) => Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens there")),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path)
        }
        Err(error) => Err(error),
    }
}

impl BoundGateway {
    /// Where it listens.
    pub fn address(&self) -> &BindAddress {
        &self.address
    }

    /// Serves until `stop`; then each connection ends after the answer it is
    /// at.
    pub async fn run(
        self,
        gateway: Arc<Gateway>,
        connections: Arc<Semaphore>,
        stop: CancellationToken,
    ) {
        let tracker = TaskTracker::new();
        let ending = Arc::new(Ending::default());
        let mut backoff = AcceptBackoff::default();
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = self.accept(&connections) => accepted,
            };
            match accepted {
                Ok((io, via, permit)) => {
                    backoff.reset();
                    let (gateway, ending) = (gateway.clone(), ending.clone());
                    tracker.spawn(async move {
                        serve(io, via, gateway, &ending).await;
                        drop(permit);
                    });
                }
                Err(error) => tokio::select! {
                    () = stop.cancelled() => break,
                    () = backoff.wait(&error) => {}
                },
            }
        }
        drop(self.listener);
        ending.begin();
        tracker.close();
        tracker.wait().await;
    }

    /// The next connection. While as many are open as there may be, callers
    /// wait in the kernel's queue.
    async fn accept(
        &self,
        connections: &Arc<Semaphore>,
    ) -> io::Result<(Io, Via, tokio::sync::OwnedSemaphorePermit)> {
        let permit = connections.clone().acquire_owned().await.map_err(io::Error::other)?;
        Ok(match &self.listener {
            Listener::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // A reply's last segment must not wait for an acknowledgement.
                stream.set_nodelay(true)?;
                (Io::Tcp(stream), Via { tcp: true }, permit)
            }
            Listener::Unix { listener, .. } => {
                let (stream, _) = listener.accept().await?;
                (Io::Unix(stream), Via { tcp: false }, permit)
            }
        })
    }
}

/// Serves one connection that somebody else has accepted, by the rules of a
/// Unix socket: whoever passes it on has decided who may ask.
pub async fn serve_stream<T>(io: T, gateway: Arc<Gateway>, stop: CancellationToken)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let ending = Ending::default();
    let mut served = pin!(serve(io, Via { tcp: false }, gateway, &ending));
    tokio::select! {
        () = &mut served => return,
        () = stop.cancelled() => ending.begin(),
    }
    served.await;
}

async fn serve<T>(io: T, via: Via, gateway: Arc<Gateway>, ending: &Ending)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let recorder = gateway.recorder.clone();
    let turns = Arc::new(Turns::default());
    let begun = turns.clone();
    let service = service_fn(move |request| {
        let (gateway, turn) = (gateway.clone(), begun.begin());
        async move { Ok::<_, Infallible>(turn.answer(gateway.handle(via, request).await)) }
    });
    let mut connection = http1::Builder::new()
        // Measured here: see `turns`.
        .header_read_timeout(None)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_BUFFER)
        .serve_connection(TokioIo::new(Strict::new(io)), service);
    let (mut patience, mut is_ending, mut told) = (Patience::default(), ending.waiter(), false);
    let mut task = Waker::noop().clone();
    let result = std::future::poll_fn(|cx| {
        let moved = !task.will_wake(cx.waker());
        if moved {
            task.clone_from(cx.waker());
        }
        let mut polled = Pin::new(&mut connection).poll(cx);
        if polled.is_pending() && !told && is_ending(cx, moved) {
            told = true;
            Pin::new(&mut connection).graceful_shutdown();
            polled = Pin::new(&mut connection).poll(cx);
        }
        match polled {
            Poll::Ready(result) => Poll::Ready(Some(result)),
            Poll::Pending => patience.poll(cx, moved, &turns).map(|()| None),
        }
    })
    .await;
    let parts = connection.into_parts();
    let io = parts.io.into_inner();
    match result {
        Some(Ok(())) => {}
        Some(Err(error)) => {
            debug!(%error, doubt = io.doubt(), "gateway connection ended");
            // hyper has answered it.
            if error.is_parse_too_large() {
                recorder.refused(ProblemCode::HeadersTooLarge.word());
            } else if error.is_parse() {
                recorder.refused(ProblemCode::BadRequest.word());
            }
        }
        // A connection that was only idle is closed without a word: an answer
        // there would be taken for that to the next request.
        None if parts.read_buf.is_empty() => {}
        None => {
            debug!("a head did not come in time");
            recorder.refused(HEAD_TIMEOUT_WORD);
            let _ = io.into_inner().write_all(TOO_SLOW).await;
        }
    }
}
