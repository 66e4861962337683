//! Who is there: connects and disconnects, for `/-/events` and the hooks; and
//! how this node's own renewals go.

mod lines;

use std::time::SystemTime;

use serde::Serialize;
use tokio::sync::broadcast;

pub(crate) use lines::EventLines;

/// Events that a slow reader of the stream may lag behind before it misses
/// some; it is told that it did.
const BACKLOG: usize = 256;

/// What happened to a pipe, or to an identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// It is up.
    Connect,
    /// It could not be made.
    ConnectFail,
    /// It has ended.
    Disconnect,
    /// It has carried no event for a while.
    Idle,
    /// This node's identity was renewed; or its files, or a peer's, are good
    /// again.
    CertReload,
    /// The files of this node's identity, or of a peer's, have become bad; the
    /// old identity stays in use.
    CertReloadFailed,
}

impl Change {
    /// The word in the stream and in hooks.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::ConnectFail => "connect-fail",
            Self::Disconnect => "disconnect",
            Self::Idle => "idle",
            Self::CertReload => "cert-reload",
            Self::CertReloadFailed => "cert-reload-failed",
        }
    }
}

/// One change.
#[derive(Clone, Debug, Serialize)]
pub struct PresenceEvent {
    /// What happened.
    pub event: Change,
    /// The peer's verified hostname; of a server that was not reached, the
    /// name that its certificate was to carry. Of what happens to this node's
    /// identity, its own.
    pub peer: String,
    /// When, in RFC 3339.
    pub at: String,
    /// What the peer calls itself among those of its hostname.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// Where it is, as this side sees it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Why, for what ended or failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl PresenceEvent {
    /// A change that happens now.
    pub fn new(event: Change, peer: &str) -> Self {
        let at = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        Self { event, peer: peer.to_owned(), at, instance: None, address: None, reason: None }
    }
}

/// Hands changes to everybody who listens.
#[derive(Clone, Debug)]
pub struct Presence(broadcast::Sender<PresenceEvent>);

impl Default for Presence {
    fn default() -> Self {
        Self(broadcast::Sender::new(BACKLOG))
    }
}

impl Presence {
    /// Tells everybody.
    pub fn tell(&self, event: PresenceEvent) {
        // Nobody listening is fine.
        let _ = self.0.send(event);
    }

    /// Changes from now on.
    pub fn listen(&self) -> broadcast::Receiver<PresenceEvent> {
        self.0.subscribe()
    }
}
