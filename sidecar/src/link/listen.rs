//! The server's side: accept, verify, keep.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use restpipe_identity::{Credentials, PeerName, Usage};
use restpipe_pipe::pb::GoAwayReason;
use restpipe_pipe::tls::{HANDSHAKE_TIMEOUT, Refusal, Verified, tune};
use restpipe_pipe::{Heard, NoEvents, Role, Service, Why};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::PipeParts;
use super::turns::{self, Taken, Turn, Turns};
use crate::accept::{self, AcceptBackoff};
use crate::control::{Control, MAX_OPERATORS, MAX_QUESTIONS};
use crate::names::Names;
use crate::quiet::Quiet;
use crate::router::{Absent, Peer};

/// A client that is refused for what it is should not come back at once.
const REFUSED_RETRY: Duration = Duration::from_secs(5);

/// Connections that have said nothing yet, for each handshake that may go on:
/// they cost a file and a small task, and one that is honest speaks within a
/// round trip, so that the silent ones before it are the older ones by far.
const SILENT_PER_HANDSHAKE: usize = 4;

/// A newer connection may take the turn of a handshake that has gone on for
/// this long: an honest one needs two round trips and a few milliseconds.
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(1);

/// Whose certificate is let in, and as whom.
#[derive(Clone, Debug, Default)]
pub struct Admission {
    /// What is cut off a client's name.
    pub client_suffix: String,
    /// The whole name of an operator; without one there is none.
    pub operator_name: Option<PeerName>,
}

/// How many of what.
#[derive(Clone, Copy, Debug)]
pub struct ListenLimits {
    /// Pipes.
    pub pipes: usize,
    /// TLS handshakes at once.
    pub handshakes: usize,
    /// TLS handshakes at once from one address.
    pub handshakes_per_source: usize,
}

/// Accepts pipes.
#[derive(Debug)]
pub struct Listener {
    listener: TcpListener,
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    parts: PipeParts,
    admission: Admission,
    control: Control,
    limits: ListenLimits,
    /// Connections that have said nothing.
    silent: Turns,
    /// Those that have, until they are pipes.
    handshakes: Turns,
    /// A port scan must not fill the log.
    quiet: Quiet,
}

impl Listener {
    /// Binds the pipe listener.
    ///
    /// # Errors
    /// If the address cannot be had.
    pub fn bind(
        address: SocketAddr,
        admission: Admission,
        limits: ListenLimits,
        parts: PipeParts,
        names: Names,
    ) -> io::Result<Self> {
        let listener = accept::listen(address)?;
        let address = listener.local_addr()?;
        let ListenLimits { handshakes, handshakes_per_source: per_source, .. } = limits;
        let silent = |count: usize| count.saturating_mul(SILENT_PER_HANDSHAKE);
        let control = Control::new(parts.clone(), names);
        let shared = Arc::new(Shared {
            parts,
            admission,
            control,
            limits,
            // A newcomer always finds room here: the longest silent goes.
            silent: Turns::new(silent(handshakes), silent(per_source), Duration::ZERO),
            handshakes: Turns::new(handshakes, per_source, HANDSHAKE_PATIENCE),
            quiet: Quiet::default(),
        });
        Ok(Self { listener, address, shared })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts until `stop`, then waits for the pipes to end.
    pub async fn run(self, stop: CancellationToken) {
        let pipes = TaskTracker::new();
        let mut backoff = AcceptBackoff::default();
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, address)) => {
                    backoff.reset();
                    // On a listener for both, IPv4 comes dressed as IPv6.
                    let address = SocketAddr::new(address.ip().to_canonical(), address.port());
                    let shared = self.shared.clone();
                    match shared.silent.take(address.ip(), Instant::now()) {
                        Ok(turn) => drop(pipes.spawn(shared.serve(stream, address, turn))),
                        Err(taken) => shared.refuse(address, &taken.refusal()),
                    }
                }
                Err(error) => backoff.wait(&error).await,
            }
        }
        drop(self.listener);
        self.shared.control.stop();
        pipes.close();
        pipes.wait().await;
    }
}

impl Shared {
    fn refuse(&self, address: SocketAddr, refusal: &Refusal) {
        self.failed(address, refusal.reason, &refusal.text);
    }

    fn failed(&self, address: SocketAddr, reason: &'static str, detail: &str) {
        self.parts.recorder.handshake_failed(reason);
        if let Some(more) = self.quiet.may_say() {
            warn!(%address, reason, detail, not_logged = more, "connection refused at the pipe listener");
        }
    }

    async fn serve(self: Arc<Self>, stream: TcpStream, address: SocketAddr, silent: Turn) {
        // What only the beginning needs is some kilobytes, and would be kept
        // for as long as the pipe lives: hence the boxes.
        let secured = match Box::pin(self.secure(stream, address, silent)).await {
            Ok(secured) => secured,
            Err(refusal) => return self.refuse(address, &refusal),
        };
        let Some(Opened { peer, credentials, driver }) = Box::pin(self.open(secured)).await else {
            return;
        };
        self.parts.keep(peer, credentials).await;
        // The driver says goodbye before it ends.
        let _ = driver.await;
    }

    /// TLS. A connection takes one of the few turns for it when its first
    /// bytes are there; one that gets none is dropped, which costs next to
    /// nothing, and its client comes back after a pause of its own.
    async fn secure(
        &self,
        stream: TcpStream,
        address: SocketAddr,
        mut silent: Turn,
    ) -> Result<Secured, Refusal> {
        let until = tokio::time::Instant::now() + HANDSHAKE_TIMEOUT;
        let late = |_| {
            let text = format!("no TLS handshake within {HANDSHAKE_TIMEOUT:?}");
            Refusal::new("timeout", text)
        };
        let speaks = silent.keep_for(tokio::time::timeout_at(until, speaks(&stream)));
        speaks.await.ok_or_else(turns::given_way)?.map_err(late)??;
        let turn = self.handshakes.take(address.ip(), Instant::now());
        drop(silent);
        let mut turn = turn.map_err(Taken::refusal)?;
        // One identity for all of it, whatever is renewed meanwhile.
        let credentials = self.parts.creds.current();
        let handshake = self.handshake(stream, address, &credentials);
        let handshake = turn.keep_for(tokio::time::timeout_at(until, handshake));
        let (stream, verified) = handshake.await.ok_or_else(turns::given_way)?.map_err(late)??;
        Ok(Secured { stream, verified, credentials, turn })
    }

    async fn handshake(
        &self,
        stream: TcpStream,
        address: SocketAddr,
        credentials: &Credentials,
    ) -> Result<(TlsStream<Heard<TcpStream>>, Verified), Refusal> {
        tune(&stream, self.parts.heartbeat).map_err(|error| Refusal::new("io", error))?;
        let config = credentials.server_config().map_err(|error| Refusal::new("tls", error))?;
        let stream = TlsAcceptor::from(config).accept(Heard::new(stream)).await;
        let stream = stream.map_err(|error| Refusal::of(&error))?;
        let verified = Verified::of(stream.get_ref().1, address, credentials)?;
        Ok((stream, verified))
    }

    /// Whom the certificate names, if it may come in.
    fn admit(&self, verified: &Verified) -> Result<Guest, (GoAwayReason, String)> {
        let identity = |text: String| (GoAwayReason::Identity, text);
        let name = verified.name(Usage::Client).map_err(identity)?;
        // The whole name, and before anything is cut off: neither can an
        // operator be taken for a client, nor a client for an operator.
        if self.admission.operator_name.as_ref() == Some(&name) {
            if self.parts.router.operators().len() >= MAX_OPERATORS {
                let text = format!("this server has its {MAX_OPERATORS} pipes of operators");
                return Err((GoAwayReason::Full, text));
            }
            return Ok(Guest { key: None, hostname: name.as_str().into() });
        }
        let hostname = name
            .strip_suffix(&self.admission.client_suffix)
            .map_err(|error| identity(error.to_string()))?;
        match self.parts.router.admit(hostname.as_str()) {
            Ok(()) => {}
            Err(Absent::Suspended) => {
                return Err((
                    GoAwayReason::Suspended,
                    format!("{hostname} is suspended at this server"),
                ));
            }
            Err(_) => {
                return Err(identity(format!(
                    "{hostname} is not among the clients of this server: add it to `clients`"
                )));
            }
        }
        self.room_for_a_pipe()?;
        let hostname: Arc<str> = hostname.as_str().into();
        Ok(Guest { key: Some(hostname.clone()), hostname })
    }

    fn room_for_a_pipe(&self) -> Result<(), (GoAwayReason, String)> {
        let pipes = self.limits.pipes;
        if self.parts.router.len() < pipes {
            return Ok(());
        }
        Err((GoAwayReason::Full, format!("this server has its {pipes} pipes")))
    }

    /// HELLO, and who it is. `None` where it may not stay, which it has been told.
    async fn open(&self, secured: Secured) -> Option<Opened> {
        let Secured { stream, verified, credentials, turn } = secured;
        let mut config = self.parts.config(&credentials, 0, Vec::new());
        let admitted = self.admit(&verified);
        let service: Arc<dyn Service> = match &admitted {
            Ok(Guest { key: Some(client), .. }) => Arc::new(self.parts.service(client.clone())),
            Ok(Guest { key: None, .. }) => {
                config.max_streams = MAX_QUESTIONS;
                Arc::new(self.control.clone())
            }
            Err(_) => Arc::new(NoEvents),
        };
        let (pipe, driver) = restpipe_pipe::open(stream, Role::Acceptor, config, service);
        let address = verified.address;
        let Guest { key, hostname } = match admitted {
            Ok(guest) => guest,
            Err((reason, detail)) => {
                // Over TLS the client learns why; an alert would only say "no".
                self.failed(address, restpipe_pipe::error::word(reason), &detail);
                pipe.go_away(reason, &detail, REFUSED_RETRY);
                driver.await;
                return None;
            }
        };
        let driver = tokio::spawn(driver);
        let hello = match pipe.opened().await {
            Ok(info) => info.hello,
            Err(why) => {
                self.failed(address, why.reason(), &why.to_string());
                return None;
            }
        };
        drop(turn);
        if key.is_some()
            && let Err((reason, detail)) = self.room_for_a_pipe()
        {
            // Several may have been let in while one place was left.
            self.failed(address, restpipe_pipe::error::word(reason), &detail);
            pipe.go_away(reason, &detail, REFUSED_RETRY);
            let _ = driver.await;
            return None;
        }
        debug!(peer = %hostname, software = %hello.software, "peer said hello");
        let peer = Peer::new(key, hostname, pipe, hello, verified);
        let peer = self.parts.router.register(peer);
        // The names may have changed since it was let in.
        if let Some(Err(why)) = peer.key.as_deref().map(|name| self.parts.router.admit(name)) {
            peer.turn_away(why);
        }
        Some(Opened { peer, credentials, driver })
    }
}

/// A pipe that is up, and the task that drives it.
struct Opened {
    peer: Arc<Peer>,
    credentials: Arc<Credentials>,
    driver: JoinHandle<Why>,
}

/// A peer that TLS has verified, and its turn.
struct Secured {
    stream: TlsStream<Heard<TcpStream>>,
    verified: Verified,
    credentials: Arc<Credentials>,
    turn: Turn,
}

/// Waits for the first byte, and leaves it where it is.
async fn speaks(stream: &TcpStream) -> Result<(), Refusal> {
    match stream.peek(&mut [0]).await {
        Ok(0) => Err(Refusal::new("tls", "the other side ended the connection before TLS")),
        Ok(_) => Ok(()),
        Err(error) => Err(Refusal::of(&error)),
    }
}

/// Who has been let in.
struct Guest {
    /// Under what a client is called; an operator is not.
    key: Option<Arc<str>>,
    /// Its verified name.
    hostname: Arc<str>,
}
