//! Listening, and what an accept loop does when accepting fails.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket};
use tracing::warn;

/// Connections that the kernel may hold for us: as many as clients may come
/// back at once after a restart, or callers in a burst.
const BACKLOG: u32 = 4096;

/// Listens on `address`; to be called inside a runtime. Whoever asks for `[::]`
/// gets every address there is: those of IPv4 too, and only those on a machine
/// without IPv6. So one setting does for all pods, whatever their cluster has.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    match listen_on(address) {
        Err(error) if address.ip() == Ipv6Addr::UNSPECIFIED && is_absent(&error) => {
            listen_on((Ipv4Addr::UNSPECIFIED, address.port()).into())
        }
        result => result,
    }
}

fn listen_on(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if address.ip() == Ipv6Addr::UNSPECIFIED {
        // The system's default is a setting of the machine.
        socket2::SockRef::from(&socket).set_only_v6(false)?;
    }
    // A node that was restarted takes its port back at once.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Whether this machine has no such address, or nothing of its kind.
pub(crate) fn is_absent(error: &io::Error) -> bool {
    use io::ErrorKind::{AddrNotAvailable, Unsupported};
    // EAFNOSUPPORT has no kind of its own.
    matches!(error.kind(), AddrNotAvailable | Unsupported) || error.raw_os_error() == Some(97)
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
