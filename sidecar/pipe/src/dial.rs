//! The dialling side: TCP, TLS, a look at whom the server's certificate names,
//! and a pipe. Nodes and the operator dial in the same way.

mod reach;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use restpipe_identity::{Credentials, PeerName, Usage, rfc3339};
use restpipe_proto::pb::Hello;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::Role;
use crate::driver::{Service, open};
use crate::error::Why;
use crate::handle::PipeHandle;
use crate::limits::PipeConfig;
use crate::tls::{HANDSHAKE_TIMEOUT, Refusal, Verified, tune};
use crate::wire::Heard;

/// Why a dial failed.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The name has no address.
    #[error("the server's name {0} cannot be looked up: {1}")]
    Lookup(String, #[source] io::Error),
    /// The address took no connection; of several, the last one that was given up.
    #[error("no connection to {0}: {1}")]
    Connect(SocketAddr, #[source] io::Error),
    /// TLS failed, or showed another server; the text names the cure.
    #[error("TLS with {0} failed: {1}")]
    Tls(SocketAddr, #[source] Refusal),
    /// The pipe ended before it was up.
    #[error("the pipe to {0} did not open: {1}")]
    Open(SocketAddr, #[source] Why),
}

impl DialError {
    /// A fixed word for metrics, hooks, logs and conditions: `dns`, `refused`, `timeout`,
    /// `connect`, the words of a [`Refusal`] or those of [`Why`].
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Lookup(..) => "dns",
            Self::Connect(_, error) => match error.kind() {
                io::ErrorKind::ConnectionRefused => "refused",
                io::ErrorKind::TimedOut => "timeout",
                _ => "connect",
            },
            Self::Tls(_, refusal) => refusal.reason,
            Self::Open(_, why) => why.reason(),
        }
    }

    /// Whether nobody said a word to TCP: the dial took its seconds and has loaded nobody, so the
    /// next one need not wait.
    pub fn is_silence(&self) -> bool {
        matches!(self, Self::Connect(_, error) if error.kind() == io::ErrorKind::TimedOut)
    }

    /// The address that took a connection, after which something failed; others may do better.
    pub fn reached(&self) -> Option<SocketAddr> {
        match self {
            Self::Lookup(..) | Self::Connect(..) => None,
            Self::Tls(address, _) | Self::Open(address, _) => Some(*address),
        }
    }

    /// How long the server asked to be left alone.
    pub fn retry_after(&self) -> Duration {
        match self {
            Self::Open(_, Why::PeerSaid { retry_after, .. }) => *retry_after,
            _ => Duration::ZERO,
        }
    }
}

/// All addresses of `host`, a name or an IP address without brackets; at least one.
///
/// # Errors
/// If there is none.
pub async fn lookup(host: &str, port: u16) -> Result<Vec<SocketAddr>, DialError> {
    let failed = |error| DialError::Lookup(format!("{host}:{port}"), error);
    let found: Vec<_> = tokio::net::lookup_host((host, port)).await.map_err(failed)?.collect();
    if found.is_empty() {
        return Err(failed(io::Error::new(io::ErrorKind::NotFound, "no address")));
    }
    Ok(found)
}

/// Dials `address` and opens a pipe: [`secure`] and [`Secured::open`] in one.
///
/// The driver runs as a task of its own. Dropping the handle does not end the pipe;
/// [`PipeHandle::close`] does, and [`PipeHandle::go_away`] in good order. A server that does not
/// want the pipe says so behind its HELLO: mostly that is an error here, else
/// [`PipeHandle::ended`] has it soon. Watch [`PipeHandle::state`] as well: in
/// [`PipeState::Replacing`](crate::PipeState::Replacing) the server asks for a fresh pipe.
///
/// # Errors
/// Why there is no pipe.
pub async fn dial(
    address: SocketAddr,
    server_name: &PeerName,
    credentials: &Credentials,
    config: PipeConfig,
    service: Arc<dyn Service>,
) -> Result<Dialled, DialError> {
    let secured = secure(&[address], server_name, credentials, config.heartbeat).await?;
    secured.open(config, service).await
}

/// Connects, with TLS, to a server whose certificate must carry exactly `server_name`, at the first
/// of `addresses` that takes a connection. One that says nothing is tried again beside the pending
/// attempt, and does not keep the next address waiting.
///
/// # Errors
/// If there is no such server; [`DialError::reached`] has the address that was decided for.
pub async fn secure<'a>(
    addresses: &[SocketAddr],
    server_name: &PeerName,
    credentials: &'a Credentials,
    heartbeat: Duration,
) -> Result<Secured<'a>, DialError> {
    let (address, stream) = reach::reach(addresses).await;
    let refused = |error| DialError::Connect(address, error);
    let stream = stream.map_err(refused)?;
    tune(&stream, heartbeat).map_err(refused)?;
    let tls = |refusal| DialError::Tls(address, refusal);
    let stream = handshake(stream, server_name, credentials).await.map_err(tls)?;
    let verified = verify(&stream, address, server_name, credentials).map_err(tls)?;
    Ok(Secured { stream, verified, credentials })
}

async fn handshake(
    stream: TcpStream,
    server_name: &PeerName,
    credentials: &Credentials,
) -> Result<TlsStream<Heard<TcpStream>>, Refusal> {
    let config = credentials.client_config().map_err(|error| Refusal::new("tls", error))?;
    let name = server_name.to_server_name().map_err(|error| Refusal::new("tls", error))?;
    let handshake = TlsConnector::from(config).connect(name, Heard::new(stream));
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(Refusal::of(&error)),
        Err(_) => {
            let text = format!(
                "no answer within {HANDSHAKE_TIMEOUT:?}: is this a RestPipe server's pipe listener?"
            );
            Err(Refusal::new("timeout", text))
        }
    }
}

fn verify(
    stream: &TlsStream<Heard<TcpStream>>,
    address: SocketAddr,
    server_name: &PeerName,
    credentials: &Credentials,
) -> Result<Verified, Refusal> {
    let verified = Verified::of(stream.get_ref().1, address, credentials)?;
    // rustls would take a wildcard; one exact name is what counts here.
    let name = verified.name(Usage::Server).map_err(|error| Refusal::new("bad_cert", error))?;
    if name != *server_name {
        let text = format!(
            "the server's certificate is for {name}, not for {server_name}: correct the name that is expected, or issue it anew"
        );
        return Err(Refusal::new("wrong_name", text));
    }
    Ok(verified)
}

/// A verified connection on which no pipe has been opened yet.
#[derive(Debug)]
pub struct Secured<'a> {
    stream: TlsStream<Heard<TcpStream>>,
    verified: Verified,
    credentials: &'a Credentials,
}

/// A pipe that is up.
#[derive(Debug)]
pub struct Dialled {
    /// The pipe.
    pub pipe: PipeHandle,
    /// What the server said of itself.
    pub hello: Arc<Hello>,
    /// Who it is.
    pub verified: Verified,
    /// The task that drives the pipe. It ends after [`PipeHandle::ended`] has, with its goodbye said.
    pub driver: JoinHandle<Why>,
}

impl Secured<'_> {
    /// Opens a pipe and waits for the server's HELLO. The driver runs as a task of its own.
    ///
    /// # Errors
    /// If the server does not want it.
    pub async fn open(
        self,
        config: PipeConfig,
        service: Arc<dyn Service>,
    ) -> Result<Dialled, DialError> {
        let Self { stream, verified, credentials } = self;
        let (pipe, driver) = open(stream, Role::Dialer, config, service);
        let driver = tokio::spawn(driver);
        let mut opening = Opening(Some(pipe.clone()));
        let opened = pipe.opened().await;
        opening.0 = None;
        match opened {
            Ok(info) => Ok(Dialled { pipe, hello: info.hello, verified, driver }),
            Err(why) => Err(early_end(verified.address, why, credentials)),
        }
    }
}

/// Closes a pipe that nobody waits for any more: its driver would keep it.
struct Opening(Option<PipeHandle>);

impl Drop for Opening {
    fn drop(&mut self) {
        if let Some(pipe) = self.0.take() {
            pipe.close("the dial was given up");
        }
    }
}

/// TLS 1.3 lets a client finish before the server has looked at its
/// certificate, so the server's refusal comes as the pipe's first error.
fn early_end(address: SocketAddr, why: Why, credentials: &Credentials) -> DialError {
    let alert = match &why {
        Why::Io(text) if text.contains("alert") => text,
        _ => return DialError::Open(address, why),
    };
    let reason = match alert {
        alert if alert.contains("CertificateExpired") => "refused_expired",
        // The latter: of a CA with the name of one that is trusted.
        alert if alert.contains("UnknownCA") || alert.contains("DecryptError") => {
            "refused_unknown_ca"
        }
        _ => "refused_cert",
    };
    let leaf = credentials.leaf();
    let text = format!(
        "the server refused this node's certificate ({alert}): it is for {}, from {}, valid from {} to {}; the clock here says {}: compare with the server's log, its ca.crt and its clock",
        credentials.name(),
        leaf.issuer,
        rfc3339(leaf.not_before),
        rfc3339(leaf.not_after),
        rfc3339(SystemTime::now()),
    );
    DialError::Tls(address, Refusal::new(reason, text))
}
