//! Apps that a node would rather not have: slow, silent and endless ones.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use restpipe_tests::site::{Site, text};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

/// Answered at once, whole.
pub(crate) const WHOLE: &str = "whole";

/// Answered at once, and the answer never ends.
pub(crate) const ENDLESS: &str = "endless";

/// Never answered.
pub(crate) const SILENT: &str = "silent";

/// Never answered, and of the request no byte is read after its head.
pub(crate) const DEAF: &str = "deaf";

/// An answer to [`WHOLE`]. Connections are not kept: how many of them a node
/// holds would depend on how many calls were open at once.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";

/// What it has seen; clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    connections: AtomicUsize,
    written: AtomicUsize,
}

impl Seen {
    /// Connections so far.
    pub(crate) fn connections(&self) -> usize {
        self.0.connections.load(Ordering::SeqCst)
    }

    /// Bytes of endless answers so far.
    pub(crate) fn written(&self) -> usize {
        self.0.written.load(Ordering::SeqCst)
    }
}

/// An app on a socket of the site, until the test's runtime ends; with its
/// URL for `--app`.
pub(crate) fn app(site: &Site) -> (String, Seen) {
    let path = site.path("app.sock");
    let listener = UnixListener::bind(&path).expect("a socket");
    let (url, seen) = (format!("unix:{}", text(&path)), Seen::default());
    let counts = seen.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counts.0.connections.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(serve(stream, counts.clone()));
        }
    });
    (url, seen)
}

/// Answers one request as its noun says. Whoever asks may be gone.
async fn serve(mut stream: UnixStream, seen: Seen) {
    let Some(noun) = noun(&mut stream).await else { return };
    match noun.as_str() {
        WHOLE => {
            let _ = stream.write_all(ANSWER).await;
        }
        ENDLESS => {
            let head = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000000\r\n\r\n";
            let mut next = &head[..];
            while let Ok(written) = stream.write(next).await {
                seen.0.written.fetch_add(written, Ordering::SeqCst);
                next = &[b'x'; 64 * 1024];
            }
        }
        DEAF => std::future::pending().await,
        // Until the node closes it.
        _ => while stream.read(&mut [0; 1024]).await.is_ok_and(|got| got > 0) {},
    }
}

/// The first segment of the path asked for, once the whole head has come.
async fn noun(stream: &mut UnixStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        // Byte by byte, so that nothing of a body is read.
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).ok()?;
    let path = head.split(' ').nth(1)?.trim_start_matches('/');
    Some(path.split(['/', '?']).next()?.to_owned())
}
