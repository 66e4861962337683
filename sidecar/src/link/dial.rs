//! The client's side: dial for ever, and replace a pipe before it must end.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use restpipe_config::{Hostname, ServerAddress};
use restpipe_identity::{Credentials, PeerName, Usage, peer_name};
use restpipe_pipe::pb::GoAwayReason;
use restpipe_pipe::{PipeHandle, PipeState, Role, Why};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::backoff::{Backoff, HEALTHY};
use super::verified::{Refusal, Verified, explain_io};
use super::{Failure, HANDSHAKE_TIMEOUT, PipeParts, RENEW_SPREAD, tune};
use crate::dispatch::PeerService;
use crate::presence::{Change, PresenceEvent};
use crate::router::{Peer, SERVER};

/// One address of the server takes a connection within this time.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A node whose instance name another process uses waits this long, and up to
/// as long again, or the two would throw each other out without end.
const REPLACED_PAUSE: Duration = Duration::from_secs(30);

/// Older pipes that HELLO names as still alive: one that drains, and a few for
/// a server that keeps asking for another.
const MAX_LIVE: usize = 16;

/// Why a dial failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum DialError {
    /// The name has no address.
    #[error("the server's name {0} cannot be looked up: {1}")]
    Lookup(String, io::Error),
    /// No address took the connection.
    #[error("no connection to {0}: {1}")]
    Connect(SocketAddr, io::Error),
    /// TLS failed; the text names the cure.
    #[error("TLS with {address} failed: {text}")]
    Tls {
        /// The server.
        address: SocketAddr,
        /// A fixed word.
        reason: &'static str,
        /// What is wrong.
        text: String,
    },
    /// The pipe ended before it was up.
    #[error("the pipe to {0} did not open: {1}")]
    Open(SocketAddr, Why),
}

impl DialError {
    /// A fixed word for metrics, hooks and the event stream.
    fn reason(&self) -> &'static str {
        match self {
            Self::Lookup(..) => "dns",
            Self::Connect(_, error) => match error.kind() {
                io::ErrorKind::ConnectionRefused => "refused",
                io::ErrorKind::TimedOut => "timeout",
                _ => "connect",
            },
            Self::Tls { reason, .. } => reason,
            Self::Open(_, why) => why.reason(),
        }
    }

    /// How long the server asked to be left alone.
    fn retry_after(&self) -> Duration {
        match self {
            Self::Open(_, Why::PeerSaid { retry_after, .. }) => *retry_after,
            _ => Duration::ZERO,
        }
    }
}

/// A pipe that was dialled, with the end of its life in a task.
struct Live {
    peer: Arc<Peer>,
    /// The identity it was made with.
    content_hash: String,
    since: Instant,
}

/// Why another pipe is wanted.
enum Next {
    /// The last one is dead.
    Ended(Why),
    /// The last one is still good for a while.
    Replace(Duration),
    /// Another process with this node's instance name took its place.
    Displaced,
    /// The node stops.
    Stop,
}

/// Keeps one pipe to the server up.
#[derive(Debug)]
pub struct Dialer {
    server: ServerAddress,
    server_name: PeerName,
    parts: PipeParts,
    pipes: JoinSet<Why>,
}

impl Dialer {
    /// A dialler to `server`, whose certificate must carry `server_name`.
    ///
    /// # Errors
    /// If no certificate can carry that name.
    pub fn new(
        server: ServerAddress,
        server_name: &Hostname,
        parts: PipeParts,
    ) -> Result<Self, restpipe_identity::NameError> {
        let server_name = PeerName::parse(server_name.as_str())?;
        Ok(Self { server, server_name, parts, pipes: JoinSet::new() })
    }

    /// Dials until `stop`; open pipes end by being drained.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut backoff = Backoff::default();
        let mut live: Option<Live> = None;
        loop {
            while self.pipes.try_join_next().is_some() {}
            self.parts.recorder.dialling();
            let dialled = tokio::select! {
                () = stop.cancelled() => break,
                dialled = self.dial() => dialled,
            };
            let pause = match dialled {
                Ok(new) => {
                    if let Some(old) = live.take() {
                        let detail = "a newer pipe has taken over";
                        old.peer.pipe.go_away(GoAwayReason::Draining, detail, Duration::ZERO);
                    }
                    let next = self.until_next(&new, &stop).await;
                    if new.since.elapsed() >= HEALTHY {
                        backoff.reset();
                    }
                    match next {
                        Next::Stop => break,
                        Next::Replace(pause) => {
                            live = Some(new);
                            pause
                        }
                        Next::Ended(why) => pause_after(&why, &mut backoff),
                        Next::Displaced => pause_when_displaced(),
                    }
                }
                Err(error) => self.on_dial_error(&error, &mut backoff),
            };
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(pause) => {}
            }
        }
        // Who stops has told the pipes to drain; their tasks end with them.
        while self.pipes.join_next().await.is_some() {}
    }

    fn on_dial_error(&self, error: &DialError, backoff: &mut Backoff) -> Duration {
        let pause = backoff.pause().max(error.retry_after());
        warn!(server = %self.server, reason = error.reason(), detail = %error, retry_in = ?pause, "server not reached");
        let mut event = PresenceEvent::new(Change::ConnectFail, self.server_name.as_str());
        event.address = Some(self.server.to_string());
        event.reason = Some(error.reason().to_owned());
        let (reason, detail, at) = (error.reason().to_owned(), error.to_string(), event.at.clone());
        self.parts.last_failure.set(Some(Failure { reason, detail, at }));
        self.parts.presence.tell(event);
        pause
    }

    async fn dial(&mut self) -> Result<Live, DialError> {
        let started = Instant::now();
        let result = self.connect().await;
        let word = result.as_ref().map(|_| ()).map_err(DialError::reason);
        self.parts.recorder.dialled(started.elapsed(), word);
        result
    }

    async fn connect(&mut self) -> Result<Live, DialError> {
        let host = self.server.host.to_string();
        let host = host.trim_matches(['[', ']']);
        let lookup = |error| DialError::Lookup(self.server.to_string(), error);
        // Looked up anew each time: a Service or a DNS record may have moved.
        let addresses = tokio::net::lookup_host((host, self.server.port)).await.map_err(lookup)?;
        let mut last = lookup(io::Error::new(io::ErrorKind::NotFound, "no address"));
        for address in addresses {
            match self.connect_to(address).await {
                Ok(live) => return Ok(live),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn connect_to(&mut self, address: SocketAddr) -> Result<Live, DialError> {
        let refused = |error| DialError::Connect(address, error);
        let stream = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address))
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(refused)?;
        tune(&stream, self.parts.heartbeat).map_err(refused)?;
        let credentials = self.parts.creds.current();
        let tls = |(reason, text)| DialError::Tls { address, reason, text };
        let stream = self.handshake(stream, &credentials).await.map_err(tls)?;
        let verified = self.verify(&stream, address).map_err(tls)?;
        self.open(stream, verified, &credentials)
            .await
            .map_err(|why| self.early_end(address, why, &credentials))
    }

    async fn handshake(
        &self,
        stream: TcpStream,
        credentials: &Credentials,
    ) -> Result<TlsStream<TcpStream>, Refusal> {
        let config = credentials.client_config().map_err(|error| ("tls", error.to_string()))?;
        let name = self.server_name.to_server_name().map_err(|error| ("tls", error.to_string()))?;
        let handshake = TlsConnector::from(config).connect(name, stream);
        match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(explain_io(&error)),
            Err(_) => Err((
                "timeout",
                format!(
                    "no answer within {HANDSHAKE_TIMEOUT:?}: is this a RestPipe server's pipe listener?"
                ),
            )),
        }
    }

    fn verify(
        &self,
        stream: &TlsStream<TcpStream>,
        address: SocketAddr,
    ) -> Result<Verified, Refusal> {
        let verified = Verified::of(stream.get_ref().1, address)?;
        // rustls would take a wildcard; one exact name is what counts here.
        let name = peer_name(verified.leaf(), Usage::Server)
            .map_err(|error| ("bad_cert", error.to_string()))?;
        if name != self.server_name {
            let text = format!(
                "the server's certificate is for {name}, not for {}: set --server-name, or issue it anew",
                self.server_name
            );
            return Err(("wrong_name", text));
        }
        Ok(verified)
    }

    async fn open(
        &mut self,
        stream: TlsStream<TcpStream>,
        verified: Verified,
        credentials: &Arc<Credentials>,
    ) -> Result<Live, Why> {
        let epoch = self.parts.router.next_epoch();
        let live_epochs =
            self.parts.router.peers().iter().map(|peer| peer.epoch).take(MAX_LIVE).collect();
        let config = self.parts.config(credentials, epoch, live_epochs);
        let service =
            PeerService::new(self.parts.dispatcher.clone(), self.server_name.as_str().into());
        let (pipe, driver) = restpipe_pipe::open(stream, Role::Dialer, config, Arc::new(service));
        tokio::spawn(driver);
        let Verified { chain, address, not_after } = verified;
        let hello = settle(&pipe).await?;
        let peer = Peer {
            key: SERVER.into(),
            hostname: self.server_name.as_str().into(),
            pipe,
            hello,
            address,
            chain,
            not_after,
            since: SystemTime::now(),
            epoch,
        };
        let peer = self.parts.router.register(peer);
        self.parts.last_failure.set(None);
        let (parts, kept) = (self.parts.clone(), peer.clone());
        let own = credentials.clone();
        self.pipes.spawn(async move { parts.keep(kept, own).await });
        Ok(Live {
            peer,
            content_hash: credentials.content_hash().to_owned(),
            since: Instant::now(),
        })
    }

    /// TLS 1.3 lets a client finish before the server has looked at its
    /// certificate, so the server's refusal comes as the pipe's first error.
    fn early_end(&self, address: SocketAddr, why: Why, credentials: &Credentials) -> DialError {
        let alert = match &why {
            Why::Io(text) if text.contains("alert") => text,
            _ => return DialError::Open(address, why),
        };
        let reason = match alert {
            alert if alert.contains("CertificateExpired") => "refused_expired",
            alert if alert.contains("UnknownCA") => "refused_unknown_ca",
            _ => "refused_cert",
        };
        let leaf = credentials.leaf();
        let text = format!(
            "the server refused this node's certificate ({alert}): it is for {}, from {}, valid from {} to {}; the clock here says {}: compare with the server's log, its ca.crt and its clock",
            credentials.name(),
            leaf.issuer,
            restpipe_identity::rfc3339(leaf.not_before),
            restpipe_identity::rfc3339(leaf.not_after),
            restpipe_identity::rfc3339(SystemTime::now()),
        );
        DialError::Tls { address, reason, text }
    }

    /// Waits until another pipe is wanted.
    async fn until_next(&self, live: &Live, stop: &CancellationToken) -> Next {
        let mut state = live.peer.pipe.state();
        let mut renewals = self.parts.creds.changes();
        loop {
            let now = state.borrow_and_update().clone();
            // The pipe may have ended right behind that word.
            let farewell = live.peer.pipe.farewell();
            if farewell.is_some_and(|away| away.reason() == GoAwayReason::Replaced) {
                return Next::Displaced;
            }
            match now {
                PipeState::Ended(why) => return Next::Ended(why),
                PipeState::Replacing(away) | PipeState::Draining(away) => {
                    if stop.is_cancelled() {
                        return Next::Stop;
                    }
                    info!(server = %self.server, reason = restpipe_pipe::error::word(away.reason()), detail = %away.detail, "the server asks for another pipe");
                    return Next::Replace(Duration::from_millis(away.retry_after_ms.into()));
                }
                PipeState::Opening | PipeState::Open => {}
            }
            tokio::select! {
                () = stop.cancelled() => return Next::Stop,
                changed = state.changed() => if changed.is_err() { return Next::Ended(Why::Eof) },
                changed = renewals.changed() => {
                    let renewed = changed.is_ok() && self.parts.creds.current().content_hash() != live.content_hash;
                    if renewed {
                        return Next::Replace(RENEW_SPREAD.mul_f64(rand::random()));
                    }
                }
            }
        }
    }
}

/// The peer's HELLO, and a moment's look at whether it was a goodbye: a
/// server that refuses says so right behind it.
async fn settle(pipe: &PipeHandle) -> Result<Arc<restpipe_pipe::pb::Hello>, Why> {
    let info = pipe.opened().await?;
    debug!(software = %info.hello.software, "peer said hello");
    Ok(info.hello)
}

fn pause_after(why: &Why, backoff: &mut Backoff) -> Duration {
    match why {
        Why::PeerSaid { retry_after, .. } => backoff.pause().max(*retry_after),
        _ => backoff.pause(),
    }
}

fn pause_when_displaced() -> Duration {
    let pause = REPLACED_PAUSE + REPLACED_PAUSE.mul_f64(rand::random());
    warn!(
        ?pause,
        "another process uses this node's instance name: give each its own by --instance"
    );
    pause
}
