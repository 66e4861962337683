//! Pipes over TLS: what both sides of a handshake do alike.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use restpipe_identity::{
    CertificateInfo, Credentials, MAX_CHAIN, PeerName, Usage, explain, inspect, peer_name, root_of,
};
use rustls::CommonState;
use rustls::pki_types::CertificateDer;
use tokio::net::TcpStream;

use crate::limits::NOTSENT_LOWAT;

/// TLS is finished within this time, or the connection is closed.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// Why TLS did not show a peer that a pipe may be opened with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Refusal {
    /// A fixed word for metrics, logs and conditions.
    pub reason: &'static str,
    /// A sentence with the cure.
    pub text: String,
}

impl Refusal {
    /// A word and a sentence.
    pub fn new(reason: &'static str, text: impl ToString) -> Self {
        Self { reason, text: text.to_string() }
    }

    /// What a failed handshake means.
    pub fn of(error: &io::Error) -> Self {
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match tls {
            Some(tls) => {
                let explained = explain(tls, SystemTime::now());
                Self::new(explained.reason, explained.text)
            }
            None => Self::new("tls", format!("the other side ended the handshake: {error}")),
        }
    }
}

/// A peer whose chain TLS has verified. Whom it names is looked at next.
#[derive(Clone, Debug)]
pub struct Verified {
    /// The chain that it showed, its own certificate first; never empty.
    pub chain: Vec<CertificateDer<'static>>,
    /// What its own certificate says.
    pub leaf: CertificateInfo,
    /// SHA-256 fingerprint, in hex, of the trusted root that the chain leads to.
    pub root: Option<String>,
    /// Where it is.
    pub address: SocketAddr,
}

impl Verified {
    /// What a finished handshake has shown to the owner of `credentials`.
    ///
    /// # Errors
    /// If it is no peer for a pipe.
    pub fn of(
        session: &CommonState,
        address: SocketAddr,
        credentials: &Credentials,
    ) -> Result<Self, Refusal> {
        // rustls lets a peer through that offers no protocol at all.
        if session.alpn_protocol() != Some(restpipe_proto::ALPN) {
            let text = "the other side does not speak restpipe/2: is it a RestPipe node?";
            return Err(Refusal::new("alpn", text));
        }
        let shown = session.peer_certificates().unwrap_or_default();
        let chain: Vec<_> = shown.iter().map(|der| der.clone().into_owned()).collect();
        let Some(leaf) = chain.first() else {
            return Err(Refusal::new("cert_required", "the other side showed no certificate"));
        };
        let leaf = inspect(leaf).map_err(|error| Refusal::new("bad_cert", error))?;
        let usage = match credentials.usage() {
            Usage::Client => Usage::Server,
            Usage::Server => Usage::Client,
        };
        let root = root_of(&chain, credentials.roots(), usage, SystemTime::now());
        let root = root.map(|root| root.info().fingerprint.clone());
        Ok(Self { chain, leaf, root, address })
    }

    /// Whom the chain names, which is to be a node of the role `usage`.
    ///
    /// # Errors
    /// A sentence, if it names nobody, or is longer than a node's own may be: certificates that no
    /// way leads over are not looked at by TLS, and each pipe would keep 64 KiB of them.
    pub fn name(&self, usage: Usage) -> Result<PeerName, String> {
        let found = self.chain.len();
        if found > MAX_CHAIN {
            return Err(format!(
                "the {usage} showed {found} certificates, at most {MAX_CHAIN} are taken: only its own, and those up to its CA, should be in its tls.crt"
            ));
        }
        peer_name(&self.chain[0], usage).map_err(|error| error.to_string())
    }
}

/// The roots of `credentials` as HELLO names them.
pub fn trusted_roots(credentials: &Credentials) -> Vec<Bytes> {
    let bytes = |hex: String| {
        let digits: Vec<u8> =
            hex.chars().filter_map(|c| c.to_digit(16)).map(|digit| digit as u8).collect();
        digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect::<Vec<_>>().into()
    };
    credentials.roots().fingerprints().into_iter().map(bytes).collect()
}

/// Settings that every pipe's socket gets.
///
/// # Errors
/// If the socket has ended.
pub fn tune(stream: &TcpStream, heartbeat: Duration) -> io::Result<()> {
    // Small frames go out at once, never after somebody's acknowledgement.
    stream.set_nodelay(true)?;
    let socket = socket2::SockRef::from(stream);
    // A peer that acknowledges nothing is given up as soon as one that says
    // nothing, and not after the kernel's quarter of an hour.
    socket.set_tcp_user_timeout(Some(2 * heartbeat))?;
    socket.set_tcp_notsent_lowat(NOTSENT_LOWAT)?;
    socket.set_keepalive(true)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn of_what_a_peer_does_not_take_little_waits_in_the_kernel() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        // The peer's side of the queue is the peer's.
        socket2::SockRef::from(&listener).set_recv_buffer_size(4096).expect("a size");
        let stream = TcpStream::connect(listener.local_addr().expect("bound")).await;
        let stream = stream.expect("it listens");
        let (_peer, _) = listener.accept().await.expect("connected");
        tune(&stream, Duration::from_secs(5)).expect("a live socket");
        let mut taken = 0;
        stream.writable().await.expect("a live socket");
        while let Ok(more) = stream.try_write(&[0; 16 * 1024]) {
            taken += more;
        }
        assert!(taken > 0);
        assert!(taken < 256 * 1024, "{taken} bytes that a small call would wait for");
    }
}
