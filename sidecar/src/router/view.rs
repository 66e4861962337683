//! What is shown and told of a peer.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use restpipe_identity::MAX_ROOTS;
use restpipe_pipe::pb::{GoAwayReason, Hello};
use restpipe_pipe::tls::Verified;
use restpipe_pipe::{PipeHandle, PipeState};
use serde::{Deserialize, Serialize};

use super::{Absent, Peer, Refusals};
use crate::presence::{Change, PresenceEvent};

/// Bytes of a boot id, and of a fingerprint: a peer may say anything in HELLO,
/// and what is none of these is not shown.
const BOOT_ID: usize = 16;
const FINGERPRINT: usize = 32;

/// What the tables show of a peer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PeerView {
    /// The verified hostname.
    pub hostname: String,
    /// What it calls itself.
    pub instance: String,
    /// Random bytes of its process, in hex.
    #[serde(default)]
    pub boot_id: String,
    /// Where it is.
    pub address: String,
    /// `open`, `replacing` or `draining`.
    pub state: String,
    /// When it came, in RFC 3339.
    pub since: String,
    /// Calls to it that wait for an answer.
    pub in_flight: usize,
    /// Events of it that are being handled.
    pub serving: usize,
    /// When its certificate ends, in RFC 3339.
    pub certificate_not_after: String,
    /// Serial number of its certificate, in hex.
    #[serde(default)]
    pub serial: String,
    /// SHA-256 fingerprint, in hex, of the root that its certificate is of.
    #[serde(default)]
    pub root: Option<String>,
    /// SHA-256 fingerprints, in hex, of the roots that it says it trusts.
    #[serde(default)]
    pub trusted_roots: Vec<String>,
    /// Why it does not take the newest files of its identity, in a word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reload_failed: Option<String>,
    /// Its software.
    pub software: String,
}

impl Peer {
    /// A peer that has just said hello; `key` is under what it is called.
    pub(crate) fn new(
        key: Option<Arc<str>>,
        hostname: Arc<str>,
        pipe: PipeHandle,
        hello: Arc<Hello>,
        verified: Verified,
    ) -> Self {
        let Verified { chain, leaf, root, address } = verified;
        let (not_after, serial, epoch) = (leaf.not_after, leaf.serial, hello.epoch);
        Self {
            key,
            hostname,
            pipe,
            hello,
            address,
            chain,
            not_after,
            serial,
            root,
            since: SystemTime::now(),
            epoch,
            refusals: Refusals::default(),
        }
    }

    /// Whether it is an operator, which no table shows.
    pub fn is_operator(&self) -> bool {
        self.key.is_none()
    }

    /// Ends its pipe, as its name may not connect any more.
    pub(crate) fn turn_away(&self, why: Absent) {
        let name = &self.hostname;
        let (reason, detail) = match why {
            Absent::Suspended => {
                (GoAwayReason::Suspended, format!("{name} is suspended at this server"))
            }
            _ => (
                GoAwayReason::Identity,
                format!("{name} is not among the clients of this server any more"),
            ),
        };
        self.pipe.go_away(reason, &detail, Duration::ZERO);
    }

    /// That it is connected, since when it is.
    pub fn as_event(&self) -> PresenceEvent {
        let mut event = PresenceEvent::new(Change::Connect, &self.hostname);
        event.at = humantime::format_rfc3339_millis(self.since).to_string();
        event.instance = Some(self.hello.instance.clone());
        event.address = Some(self.address.to_string());
        event
    }

    /// What the tables show.
    pub fn view(&self) -> PeerView {
        let time = |at: SystemTime| humantime::format_rfc3339_seconds(at).to_string();
        let state = match &*self.pipe.state().borrow() {
            PipeState::Opening => "opening",
            PipeState::Open => "open",
            PipeState::Replacing(_) => "replacing",
            PipeState::Draining(_) => "draining",
            PipeState::Ended(_) => "ended",
        };
        PeerView {
            hostname: self.hostname.to_string(),
            instance: self.hello.instance.clone(),
            boot_id: hex(self.hello.boot_id.get(..BOOT_ID).unwrap_or_default()),
            address: self.address.to_string(),
            state: state.to_owned(),
            since: time(self.since),
            in_flight: self.pipe.in_flight(),
            serving: self.pipe.serving(),
            certificate_not_after: time(self.not_after),
            serial: self.serial.clone(),
            root: self.root.clone(),
            trusted_roots: self
                .hello
                .trusted_roots
                .iter()
                .filter(|root| root.len() == FINGERPRINT)
                .take(MAX_ROOTS)
                .map(|root| hex(root))
                .collect(),
            reload_failed: self.pipe.reload_failed(),
            software: self.hello.software.clone(),
        }
    }
}

/// Lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
