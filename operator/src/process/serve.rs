//! HTTP over a listener, within bounds.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// Bytes of a request's head, and of what a connection buffers.
const MAX_BUFFER: usize = 16 * 1024;

/// First and longest pause after a failed accept: an error such as "too many open files" stays
/// until something closes, and a loop without pauses would burn a core.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How long, and for how many bytes, a caller may go on with a body that was refused.
const LINGER: Duration = Duration::from_secs(2);
const MAX_LINGER_BYTES: usize = 64 * 1024 * 1024;

/// Bounds of a listener.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at once; more wait in the kernel's queue.
    pub connections: usize,
    /// The head of a request is here within this time.
    pub head_timeout: Duration,
    /// From the handshake to the last byte of the answer it takes no longer. Without it, a caller
    /// who never reads would keep its place for ever.
    pub whole_timeout: Duration,
}

/// Serves until `stop`, then lets running requests end within `end_grace`.
///
/// Every connection carries one request: callers here ask seldom, and a kept connection would
/// be a trap twice. API servers go on using those to a process that ends (kubernetes#127335), and
/// a POST on one that is just being closed for idleness fails without being tried again.
///
/// `handshake` makes the stream to serve of an accepted one, or none if the peer is not worth it.
pub async fn run<S, F>(
    listener: TcpListener,
    handshake: impl Fn(TcpStream) -> F + Send + 'static,
    router: Router,
    limits: Limits,
    end_grace: Duration,
    stop: CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Future<Output = Option<S>> + Send + 'static,
{
    let connections = Arc::new(Semaphore::new(limits.connections));
    let mut running = JoinSet::new();
    let mut pause = FIRST_PAUSE;
    loop {
        let accept = async {
            let permit = connections.clone().acquire_owned().await.map_err(io::Error::other)?;
            Ok::<_, io::Error>((listener.accept().await?.0, permit))
        };
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = running.join_next(), if !running.is_empty() => continue,
            accepted = accept => accepted,
        };
        let (stream, permit) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                failed(&error, &mut pause).await;
                continue;
            }
        };
        pause = FIRST_PAUSE;
        let (handshake, router) = (handshake(stream), router.clone());
        running.spawn(async move {
            if let Some(stream) = handshake.await {
                let served = connection(stream, router, limits.head_timeout);
                if tokio::time::timeout(limits.whole_timeout, served).await.is_err() {
                    tracing::debug!("a caller took too long");
                }
            }
            drop(permit);
        });
    }
    drop(listener);
    // What runs still when the time is over ends with the set.
    let _ = tokio::time::timeout(end_grace, async { while running.join_next().await.is_some() {} })
        .await;
}

async fn connection<S>(stream: S, router: Router, head_timeout: Duration)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head_timeout)
        .max_buf_size(MAX_BUFFER)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .without_shutdown()
        .await;
    match served {
        Ok(parts) => linger(parts.io.into_inner()).await,
        Err(error) => tracing::debug!(%error, "a connection ended early"),
    }
}

/// Says goodbye, and reads on a moment what the caller still sends. A connection that is closed
/// with unread bytes is reset, and a caller whose body was refused would lose the answer.
async fn linger<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) {
    if stream.shutdown().await.is_err() {
        return;
    }
    let rest = async {
        let (mut left, mut unread) = (MAX_LINGER_BYTES, vec![0; MAX_BUFFER]);
        while let Ok(got @ 1..) = stream.read(&mut unread).await {
            left = left.saturating_sub(got);
            if left == 0 {
                return;
            }
        }
    };
    let _ = tokio::time::timeout(LINGER, rest).await;
}

async fn failed(error: &io::Error, pause: &mut Duration) {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset};
    // The peer went away between connecting and accepting: nothing is wrong.
    if matches!(error.kind(), ConnectionAborted | ConnectionReset) {
        return;
    }
    warn!(%error, ?pause, "cannot accept connections: raise the limit of open files");
    tokio::time::sleep(*pause).await;
    *pause = (2 * *pause).min(LONGEST_PAUSE);
}

#[cfg(test)]
mod tests {
    use axum::routing::{get, post};

    use super::*;

    /// Bytes of a body that no socket's buffers take in whole.
    const LARGE: usize = 32 * 1024 * 1024;

    fn one_at_a_time(whole_timeout: Duration) -> Limits {
        Limits { connections: 1, head_timeout: Duration::from_secs(60), whole_timeout }
    }

    #[tokio::test]
    async fn who_never_reads_its_answer_gives_its_place_back() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let address = listener.local_addr().expect("an address");
        let router = Router::new()
            .route("/large", get(|| async { vec![b' '; LARGE] }))
            .route("/", get(|| async { "here" }));
        let limits = one_at_a_time(Duration::from_millis(100));
        let stop = CancellationToken::new();
        let plain = |stream: TcpStream| std::future::ready(Some(stream));
        let running = tokio::spawn(run(listener, plain, router, limits, LINGER, stop.clone()));

        let mut deaf = TcpStream::connect(address).await.expect("connected");
        deaf.write_all(b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("sent");
        let mut next = TcpStream::connect(address).await.expect("in the kernel's queue");
        next.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("sent");
        let mut answer = String::new();
        next.read_to_string(&mut answer).await.expect("an answer");
        assert!(answer.ends_with("here"), "{answer}");
        drop(deaf);
        stop.cancel();
        running.await.expect("ended");
    }

    #[tokio::test]
    async fn a_caller_whose_body_is_refused_has_the_answer_when_it_has_sent_it_all() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let address = listener.local_addr().expect("an address");
        let limits = one_at_a_time(Duration::from_secs(60));
        let refused = || async { axum::http::StatusCode::PAYLOAD_TOO_LARGE };
        let router = Router::new().route("/", post(refused));
        let stop = CancellationToken::new();
        let plain = |stream: TcpStream| std::future::ready(Some(stream));
        let end = Duration::from_secs(60);
        let running = tokio::spawn(run(listener, plain, router, limits, end, stop.clone()));

        let mut caller = TcpStream::connect(address).await.expect("connected");
        let head = format!("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: {LARGE}\r\n\r\n");
        caller.write_all(head.as_bytes()).await.expect("sent");
        caller.write_all(&vec![b' '; LARGE]).await.expect("taken to its end");
        let mut answer = String::new();
        caller.read_to_string(&mut answer).await.expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
        stop.cancel();
        running.await.expect("ended");
    }

    #[tokio::test]
    async fn one_connection_too_many_waits_until_another_ends() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let address = listener.local_addr().expect("an address");
        let limits = one_at_a_time(Duration::from_secs(60));
        let router = Router::new().route("/", get(|| async { "here" }));
        let (accepted, mut was_accepted) = tokio::sync::mpsc::unbounded_channel();
        let plain = move |stream: TcpStream| {
            let _ = accepted.send(());
            std::future::ready(Some(stream))
        };
        let stop = CancellationToken::new();
        let end = Duration::from_secs(60);
        let running = tokio::spawn(run(listener, plain, router, limits, end, stop.clone()));

        let first = TcpStream::connect(address).await.expect("connected");
        was_accepted.recv().await.expect("accepted");
        let mut second = TcpStream::connect(address).await.expect("in the kernel's queue");
        second.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("sent");
        assert!(was_accepted.try_recv().is_err());
        drop(first);
        let mut answer = String::new();
        second.read_to_string(&mut answer).await.expect("an answer");
        assert!(answer.ends_with("here"), "{answer}");
        stop.cancel();
        running.await.expect("ended");
    }
}
