//! Pipes: how they are dialled, accepted, kept and replaced.

mod dial;
mod listen;
mod name;
mod turns;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use restpipe_identity::{Credentials, Usage};
use restpipe_pipe::clock::fraction;
use restpipe_pipe::pb::{GoAwayReason, Hello};
use restpipe_pipe::tls::trusted_roots;
use restpipe_pipe::{Budget, PipeConfig, Role, Why};
use tokio::time::Instant;
use tracing::{info, warn};

pub use dial::Dialer;
pub use listen::{Admission, ListenLimits, Listener};
pub use name::instance_name;

use crate::creds::Creds;
use crate::dispatch::{Dispatcher, PeerService};
use crate::presence::{Change, Presence, PresenceEvent};
use crate::router::{Peer, Router};
use crate::telemetry::Recorder;

/// A pipe is replaced this long before one of its certificates ends, or a
/// tenth of the certificate's life before, if that is less.
const REPLACE_BEFORE: Duration = Duration::from_secs(5 * 60);

/// Renewed credentials are shown by new pipes within this time, spread so that
/// the clients of one server do not all come at once.
const RENEW_SPREAD: Duration = Duration::from_secs(5);

/// Who is not trusted any more should not come back at once.
const UNTRUSTED_RETRY: Duration = Duration::from_secs(5);

/// No pipe is replaced sooner than this after it was made.
const REPLACE_AT_LEAST: Duration = Duration::from_secs(1);

/// What every pipe of a node needs; clones share it.
#[derive(Clone, Debug)]
pub struct PipeParts {
    /// The identity to show.
    pub creds: Creds,
    /// Where pipes are kept.
    pub router: Router,
    /// Who answers events.
    pub dispatcher: Arc<Dispatcher>,
    /// Who is told of connects and disconnects.
    pub presence: Presence,
    /// Who counts.
    pub recorder: Recorder,
    /// What this node calls itself.
    pub instance: String,
    /// Random bytes of this process.
    pub boot_id: [u8; 16],
    /// Streams that a peer may have open.
    pub max_streams: u32,
    /// Silence before a ping.
    pub heartbeat: Duration,
    /// Bytes of bodies that the process may hold.
    pub budget: Budget,
    /// A pipe that carried no event for this long is said to be idle.
    pub idle_after: Duration,
    /// Why the last dial failed.
    pub last_failure: LastFailure,
}

/// Why the last dial failed, for `/status`; clones share it.
#[derive(Clone, Debug, Default)]
pub struct LastFailure(Arc<std::sync::Mutex<Option<Failure>>>);

/// One failed dial.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Failure {
    /// A fixed word.
    pub reason: String,
    /// A sentence with the cause and the cure.
    pub detail: String,
    /// When, in RFC 3339.
    pub at: String,
}

impl LastFailure {
    fn set(&self, failure: Option<Failure>) {
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = failure;
    }

    /// The failure, unless a pipe has come up since.
    pub fn get(&self) -> Option<Failure> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
}

impl PipeParts {
    fn config(&self, credentials: &Credentials, epoch: u64, live_epochs: Vec<u64>) -> PipeConfig {
        let hello = Hello {
            instance: self.instance.clone(),
            boot_id: self.boot_id.to_vec().into(),
            epoch,
            live_epochs,
            trusted_roots: trusted_roots(credentials),
            software: concat!("restpipe/", env!("CARGO_PKG_VERSION")).to_owned(),
            ..Hello::default()
        };
        let (max_streams, heartbeat, budget) =
            (self.max_streams, self.heartbeat, self.budget.clone());
        PipeConfig { hello, max_streams, heartbeat, budget }
    }

    /// Who answers the events of `peer`, and tells its news.
    fn service(&self, peer: Arc<str>) -> PeerService {
        PeerService::new(self.dispatcher.clone(), peer, self.presence.clone())
    }

    /// Keeps a pipe that is up until it ends: says so, has it replaced before
    /// a certificate ends, and takes it out of the router.
    async fn keep(&self, peer: Arc<Peer>, own: Arc<Credentials>) -> Why {
        if !peer.is_operator() {
            self.recorder.pipe_opened();
        }
        info!(peer = %peer.hostname, address = %peer.address, instance = %peer.hello.instance, "pipe is up");
        self.tell(&peer, Change::Connect, None);
        let why = self.until_end(&peer, &own).await;
        self.router.unregister(&peer);
        if !peer.is_operator() {
            self.recorder.pipe_ended(&why);
        }
        info!(peer = %peer.hostname, address = %peer.address, reason = why.reason(), detail = %why, "pipe has ended");
        self.tell(&peer, Change::Disconnect, Some(why.reason()));
        why
    }

    async fn until_end(&self, peer: &Arc<Peer>, own: &Credentials) -> Why {
        let end = own.leaf().not_after.min(peer.not_after);
        let left = end.duration_since(SystemTime::now()).unwrap_or_default();
        let expired = tokio::time::sleep(left);
        let replace = tokio::time::sleep(replace_in(left, own));
        tokio::pin!(expired, replace);
        // The other side knows both certificates too; one word is enough.
        let mut asks = peer.pipe.role() == Role::Acceptor;
        let (mut idle_told, mut events_before) = (false, 0);
        let mut idle = tokio::time::interval(self.idle_after);
        idle.tick().await;
        let mut renewals = self.creds.changes();
        loop {
            tokio::select! {
                why = peer.pipe.ended() => return why,
                Ok(()) = renewals.changed() => {
                    // A new pipe is told of renewals before it as well.
                    let renewed = self.creds.current().content_hash() != own.content_hash();
                    if !self.is_still_trusted(peer) || !renewed {
                        continue;
                    }
                    // A dialler makes its new pipe by itself.
                    asks = peer.pipe.role() == Role::Acceptor;
                    let spread = RENEW_SPREAD.mul_f64(fraction());
                    replace.as_mut().reset(Instant::now() + spread);
                }
                () = &mut replace, if asks => {
                    asks = false;
                    let detail = "a certificate of this pipe was renewed or is about to end";
                    peer.pipe.go_away(GoAwayReason::Replace, detail, Duration::ZERO);
                }
                () = &mut expired => {
                    peer.pipe.close("a certificate of this pipe has ended");
                    return peer.pipe.ended().await;
                }
                _ = idle.tick() => {
                    let events = peer.pipe.events();
                    let quiet = events == events_before && peer.pipe.in_flight() + peer.pipe.serving() == 0;
                    if quiet && !idle_told {
                        self.tell(peer, Change::Idle, None);
                    }
                    (idle_told, events_before) = (quiet, events);
                }
            }
        }
    }

    /// A handshake is checked only once: when the roots change, who is already
    /// connected is looked at again, and let go if need be.
    fn is_still_trusted(&self, peer: &Peer) -> bool {
        let usage = match peer.pipe.role() {
            Role::Dialer => Usage::Server,
            Role::Acceptor => Usage::Client,
        };
        let now = SystemTime::now();
        let Err(error) = self.creds.current().still_trusts(&peer.chain, usage, now) else {
            return true;
        };
        warn!(peer = %peer.hostname, %error, "pipe is closed: its certificate is not trusted any more");
        let detail = format!("your certificate is not trusted any more: {error}");
        peer.pipe.go_away(GoAwayReason::Identity, &detail, UNTRUSTED_RETRY);
        false
    }

    fn tell(&self, peer: &Peer, change: Change, reason: Option<&str>) {
        if peer.is_operator() {
            return;
        }
        let mut event = PresenceEvent::new(change, &peer.hostname);
        event.instance = Some(peer.hello.instance.clone());
        event.address = Some(peer.address.to_string());
        event.reason = reason.map(str::to_owned);
        self.presence.tell(event);
    }
}

/// When a pipe that has `left` to live should be replaced. One that was made
/// with a certificate near its end is replaced at half of what is left, again
/// and again, so that a renewal is taken up soon and nothing spins.
fn replace_in(left: Duration, own: &Credentials) -> Duration {
    let leaf = own.leaf();
    let life = leaf.not_after.duration_since(leaf.not_before).unwrap_or_default();
    left.saturating_sub(REPLACE_BEFORE.min(life / 10)).max(left / 2).max(REPLACE_AT_LEAST)
}
