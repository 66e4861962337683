//! The server's side: accept, verify, keep.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use restpipe_identity::{Credentials, PeerName, Usage, peer_name};
use restpipe_pipe::pb::GoAwayReason;
use restpipe_pipe::tls::{HANDSHAKE_TIMEOUT, Refusal, Verified, tune};
use restpipe_pipe::{NoEvents, Role, Service};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::PipeParts;
use crate::accept::{self, AcceptBackoff};
use crate::control::{Control, MAX_OPERATORS, MAX_QUESTIONS};
use crate::dispatch::PeerService;
use crate::names::Names;
use crate::quiet::Quiet;
use crate::router::{Absent, Peer};

/// A client that is refused for what it is should not come back at once.
const REFUSED_RETRY: Duration = Duration::from_secs(5);

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
    handshakes: Arc<Semaphore>,
    sources: Mutex<HashMap<IpAddr, usize>>,
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
        let handshakes = Arc::new(Semaphore::new(limits.handshakes));
        let (sources, quiet) = (Mutex::default(), Quiet::default());
        let control = Control::new(parts.clone(), names);
        let shared = Shared { parts, admission, control, limits, handshakes, sources, quiet };
        let shared = Arc::new(shared);
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
                    let Some(turn) = shared.clone().turn(address) else { continue };
                    pipes.spawn(async move { shared.serve(stream, address, turn).await });
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

/// The right to make one handshake.
struct Turn {
    shared: Arc<Shared>,
    source: IpAddr,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut sources = self.shared.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = sources.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                sources.remove(&self.source);
            }
        }
    }
}

impl Shared {
    /// A connection that gets no turn is dropped before TLS, which costs next
    /// to nothing; its client comes back after a pause of its own.
    fn turn(self: Arc<Self>, address: SocketAddr) -> Option<Turn> {
        let source = address.ip();
        let Ok(permit) = self.handshakes.clone().try_acquire_owned() else {
            self.failed(address, "busy", "as many handshakes as there may be are going on");
            return None;
        };
        let over = {
            let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
            let count = sources.entry(source).or_default();
            let over = *count >= self.limits.handshakes_per_source;
            if !over {
                *count += 1;
            }
            over
        };
        if over {
            self.failed(
                address,
                "source-busy",
                "as many handshakes as one address may have are going on",
            );
            return None;
        }
        Some(Turn { shared: self, source, _permit: permit })
    }

    fn failed(&self, address: SocketAddr, reason: &'static str, detail: &str) {
        self.parts.recorder.handshake_failed(reason);
        if let Some(more) = self.quiet.may_say() {
            warn!(%address, reason, detail, not_logged = more, "connection refused at the pipe listener");
        }
    }

    async fn serve(self: Arc<Self>, stream: TcpStream, address: SocketAddr, turn: Turn) {
        // One identity for all of it, whatever is renewed meanwhile.
        let credentials = self.parts.creds.current();
        match self.handshake(stream, address, &credentials).await {
            Ok((stream, verified)) => self.open(stream, verified, credentials, turn).await,
            Err(Refusal { reason, text }) => self.failed(address, reason, &text),
        }
    }

    async fn handshake(
        &self,
        stream: TcpStream,
        address: SocketAddr,
        credentials: &Credentials,
    ) -> Result<(TlsStream<TcpStream>, Verified), Refusal> {
        tune(&stream, self.parts.heartbeat).map_err(|error| Refusal::new("io", error))?;
        let config = credentials.server_config().map_err(|error| Refusal::new("tls", error))?;
        let handshake = TlsAcceptor::from(config).accept(stream);
        let stream = match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(Refusal::of(&error)),
            Err(_) => {
                let text = format!("no TLS handshake within {HANDSHAKE_TIMEOUT:?}");
                return Err(Refusal::new("timeout", text));
            }
        };
        let verified = Verified::of(stream.get_ref().1, address, credentials)?;
        Ok((stream, verified))
    }

    /// Whom the certificate names, if it may come in.
    fn admit(&self, verified: &Verified) -> Result<Guest, (GoAwayReason, String)> {
        let identity = |text: String| (GoAwayReason::Identity, text);
        let name = peer_name(verified.certificate(), Usage::Client)
            .map_err(|error| identity(error.to_string()))?;
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
        if self.parts.router.len() >= self.limits.pipes {
            return Err((
                GoAwayReason::Full,
                format!("this server has its {} pipes", self.limits.pipes),
            ));
        }
        let hostname: Arc<str> = hostname.as_str().into();
        Ok(Guest { key: Some(hostname.clone()), hostname })
    }

    async fn open(
        &self,
        stream: TlsStream<TcpStream>,
        verified: Verified,
        credentials: Arc<Credentials>,
        turn: Turn,
    ) {
        let mut config = self.parts.config(&credentials, 0, Vec::new());
        let admitted = self.admit(&verified);
        let service: Arc<dyn Service> = match &admitted {
            Ok(Guest { key: Some(client), .. }) => {
                Arc::new(PeerService::new(self.parts.dispatcher.clone(), client.clone()))
            }
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
                return;
            }
        };
        let task = tokio::spawn(driver);
        let hello = match pipe.opened().await {
            Ok(info) => info.hello,
            Err(why) => return self.failed(address, why.reason(), &why.to_string()),
        };
        drop(turn);
        debug!(peer = %hostname, software = %hello.software, "peer said hello");
        let peer = Peer::new(key, hostname, pipe, hello, verified);
        let peer = self.parts.router.register(peer);
        // The names may have changed since it was let in.
        if let Some(Err(why)) = peer.key.as_deref().map(|name| self.parts.router.admit(name)) {
            peer.turn_away(why);
        }
        self.parts.keep(peer, credentials).await;
        // The driver says goodbye before it ends.
        let _ = task.await;
    }
}

/// Who has been let in.
struct Guest {
    /// Under what a client is called; an operator is not.
    key: Option<Arc<str>>,
    /// Its verified name.
    hostname: Arc<str>,
}
