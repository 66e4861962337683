//! Listening, and what an accept loop does when accepting fails.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpListener;
use tracing::warn;

pub(crate) use restpipe_pipe::listen::is_absent;

/// Connections that the kernel may hold for us: as many as clients may come
/// back at once after a restart, or callers in a burst.
const BACKLOG: u32 = 4096;

/// Listens on `address`, with `[::]` for every address there is; to be called
/// inside a runtime.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    restpipe_pipe::listen::listen(address, BACKLOG)
}

/// First and longest pause: an error such as "too many open files" stays
/// until something closes, and a loop without pauses would burn a core.
const FIRST: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_secs(1);

/// Pauses between failed accepts.
#[derive(Debug)]
pub(crate) struct AcceptBackoff {
    pause: Duration,
}

impl Default for AcceptBackoff {
    fn default() -> Self {
        Self { pause: FIRST }
    }
}

impl AcceptBackoff {
    /// An accept succeeded.
    pub(crate) fn reset(&mut self) {
        self.pause = FIRST;
    }

    /// An accept failed.
    pub(crate) async fn wait(&mut self, error: &io::Error) {
        // The peer went away between connecting and accepting: nothing is wrong.
        if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset)
        {
            return;
        }
        warn!(%error, pause = ?self.pause, "cannot accept connections: raise the limit of open files, or close some");
        tokio::time::sleep(self.pause).await;
        self.pause = (2 * self.pause).min(LONGEST);
    }
}
