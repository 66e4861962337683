//! The server's side: accept, verify, keep.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use restpipe_identity::{Usage, peer_name};
use restpipe_pipe::Role;
use restpipe_pipe::pb::GoAwayReason;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::verified::{Refusal, Verified, explain_io};
use super::{HANDSHAKE_TIMEOUT, PipeParts, tune};
use crate::accept::{self, AcceptBackoff};
use crate::dispatch::PeerService;
use crate::quiet::Quiet;
use crate::router::{Absent, Peer};

/// A client that is refused for what it is should not come back at once.
const REFUSED_RETRY: Duration = Duration::from_secs(5);

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
    client_suffix: String,
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
        client_suffix: String,
        limits: ListenLimits,
        parts: PipeParts,
    ) -> io::Result<Self> {
        let listener = accept::listen(address)?;
        let address = listener.local_addr()?;
        let handshakes = Arc::new(Semaphore::new(limits.handshakes));
        let (sources, quiet) = (Mutex::default(), Quiet::default());
        let shared = Arc::new(Shared { parts, client_suffix, limits, handshakes, sources, quiet });
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
                    let shared = self.shared.clone();
                    let Some(turn) = shared.clone().turn(address) else { continue };
                    pipes.spawn(async move { shared.serve(stream, address, turn).await });
                }
                Err(error) => backoff.wait(&error).await,
            }
        }
        drop(self.listener);
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
        let source = address.ip().to_canonical();
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
        match self.handshake(stream, address).await {
            Ok((stream, verified)) => self.open(stream, verified, turn).await,
            Err((reason, detail)) => self.failed(address, reason, &detail),
        }
    }

    async fn handshake(
        &self,
        stream: TcpStream,
        address: SocketAddr,
    ) -> Result<(TlsStream<TcpStream>, Verified), Refusal> {
        tune(&stream, self.parts.heartbeat).map_err(|error| ("io", error.to_string()))?;
        let config = self
            .parts
            .creds
            .current()
            .server_config()
            .map_err(|error| ("tls", error.to_string()))?;
        let handshake = TlsAcceptor::from(config).accept(stream);
        let stream = match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(explain_io(&error)),
            Err(_) => {
                return Err(("timeout", format!("no TLS handshake within {HANDSHAKE_TIMEOUT:?}")));
            }
        };
        let verified = Verified::of(stream.get_ref().1, address)?;
        Ok((stream, verified))
    }

    /// Whom the certificate names, if it may come in.
    fn admit(&self, verified: &Verified) -> Result<Arc<str>, (GoAwayReason, String)> {
        let identity = |text: String| (GoAwayReason::Identity, text);
        let name = peer_name(verified.leaf(), Usage::Client)
            .map_err(|error| identity(error.to_string()))?;
        let hostname =
            name.strip_suffix(&self.client_suffix).map_err(|error| identity(error.to_string()))?;
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
        Ok(hostname.as_str().into())
    }

    async fn open(&self, stream: TlsStream<TcpStream>, verified: Verified, turn: Turn) {
        let credentials = self.parts.creds.current();
        let config = self.parts.config(&credentials, 0, Vec::new());
        let admitted = self.admit(&verified);
        let name: Arc<str> = admitted.as_ref().map_or_else(|_| "".into(), Clone::clone);
        let service = PeerService::new(self.parts.dispatcher.clone(), name);
        let (pipe, driver) = restpipe_pipe::open(stream, Role::Acceptor, config, Arc::new(service));
        let Verified { chain, address, not_after } = verified;
        let hostname = match admitted {
            Ok(hostname) => hostname,
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
        let epoch = hello.epoch;
        let since = SystemTime::now();
        let peer = Peer {
            key: hostname.clone(),
            hostname,
            pipe,
            hello,
            address,
            chain,
            not_after,
            since,
            epoch,
        };
        let peer = self.parts.router.register(peer);
        self.parts.keep(peer, credentials).await;
        // The driver says goodbye before it ends.
        let _ = task.await;
    }
}
