//! The client's side: dial for ever, and replace a pipe before it must end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use restpipe_config::{Hostname, ServerAddress};
use restpipe_identity::PeerName;
use restpipe_pipe::backoff::{Backoff, HEALTHY};
use restpipe_pipe::dial::{DialError, Dialled, lookup, secure};
use restpipe_pipe::pb::GoAwayReason;
use restpipe_pipe::{PipeState, Why};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{Failure, PipeParts, RENEW_SPREAD};
use crate::creds::InUse;
use crate::presence::{Change, PresenceEvent};
use crate::router::{Peer, SERVER};

/// A node whose instance name another process uses waits this long, and up to
/// as long again, or the two would throw each other out without end.
const REPLACED_PAUSE: Duration = Duration::from_secs(30);

/// Longest pause after a dial into silence. That took its seconds already, and
/// its end must be noticed within a second.
const SILENCE_PAUSE: Duration = Duration::from_millis(250);

/// Older pipes that HELLO names as still alive: one that drains, and a few for
/// a server that keeps asking for another.
const MAX_LIVE: usize = 16;

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
                        self.pipes.spawn(old.peer.pipe.clone().retire());
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
        let pause = match error.is_silence() {
            true => SILENCE_PAUSE.mul_f64(rand::random()),
            false => backoff.pause().max(error.retry_after()),
        };
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
        // Looked up anew each time: a Service or a DNS record may have moved.
        let mut left = lookup(host.trim_matches(['[', ']']), self.server.port).await?;
        loop {
            let error = match self.connect_to(&left).await {
                Ok(live) => return Ok(live),
                Err(error) => error,
            };
            // Without one they have all been tried.
            let Some(tried) = error.reached() else { return Err(error) };
            left.retain(|address| *address != tried);
            if left.is_empty() {
                return Err(error);
            }
        }
    }

    async fn connect_to(&mut self, addresses: &[SocketAddr]) -> Result<Live, DialError> {
        let credentials = self.parts.creds.current();
        let heartbeat = self.parts.heartbeat;
        let secured = secure(addresses, &self.server_name, &credentials, heartbeat).await?;
        let epoch = self.parts.router.next_epoch();
        let live_epochs =
            self.parts.router.peers().iter().map(|peer| peer.epoch).take(MAX_LIVE).collect();
        let config = self.parts.config(&credentials, epoch, live_epochs);
        let server_name: Arc<str> = self.server_name.as_str().into();
        let service = self.parts.service(server_name.clone());
        let Dialled { pipe, hello, verified, driver } =
            secured.open(config, Arc::new(service)).await?;
        debug!(software = %hello.software, "peer said hello");
        let peer = Peer::new(Some(SERVER.into()), server_name, pipe, hello, verified);
        let peer = self.parts.router.register(Peer { epoch, ..peer });
        self.parts.last_failure.set(None);
        let (parts, kept) = (self.parts.clone(), peer.clone());
        let content_hash = credentials.content_hash().to_owned();
        self.pipes.spawn(async move {
            let why = parts.keep(kept, credentials).await;
            // A process that ended before its goodbye was read would reset
            // the connection, and take the goodbye back with it.
            let _ = driver.await;
            why
        });
        Ok(Live { peer, content_hash, since: Instant::now() })
    }

    /// Waits until another pipe is wanted.
    async fn until_next(&self, live: &Live, stop: &CancellationToken) -> Next {
        let mut state = live.peer.pipe.state();
        let mut renewals = self.parts.creds.changes();
        let mut told = String::new();
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
            let InUse { credentials, reload_failed } = self.parts.creds.in_use();
            if credentials.content_hash() != live.content_hash {
                return Next::Replace(RENEW_SPREAD.mul_f64(rand::random()));
            }
            let word = reload_failed.map(|failed| failed.reason).unwrap_or_default();
            if word != told {
                live.peer.pipe.tell_reload_failed(&word);
                told = word;
            }
            tokio::select! {
                () = stop.cancelled() => return Next::Stop,
                changed = state.changed() => if changed.is_err() { return Next::Ended(Why::Eof) },
                Ok(()) = renewals.changed() => {}
            }
        }
    }
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
