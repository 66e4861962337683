//! A link: its identity, its routing record, and why it is not connected.

use std::time::{Duration, SystemTime};

use k8s_openapi::api::core::v1::Secret;
use restpipe_api::{RestPipeLink, RestPipeLinkStatus};

use super::{Event, ServerView};
use crate::seen::{PipeSeen, PodSeen, SecretSeen, Trouble};

/// What is there of a link.
#[derive(Clone, Copy, Debug)]
pub struct LinkSeen<'a> {
    /// The object.
    pub link: &'a RestPipeLink,
    /// Its server.
    pub server: LinkServer<'a>,
    /// The Secret `<link>-restpipe-link`.
    pub secret: Option<&'a SecretSeen>,
    /// Injected pods of this link.
    pub pods: &'a [PodSeen],
    /// Pods that are annotated and have no sidecar, by name.
    pub without_sidecar: &'a [String],
    /// Pipes of its hostname at all pods of the server; none while no pod has told yet (what the
    /// status says is kept then). Ignored for external servers.
    pub pipes: Option<&'a [PipeSeen]>,
    /// What those pods have told that were asked.
    pub probes: &'a [ClientPodSeen],
}

/// The server of a link.
#[derive(Clone, Copy, Debug)]
pub enum LinkServer<'a> {
    /// There is no such RestPipeServer.
    Missing,
    /// One of this cluster, as its own plan left it.
    Known(&'a ServerView),
    /// `spec.server.external`.
    External {
        /// The imported Secret.
        imported: Option<&'a SecretSeen>,
    },
}

/// What a client's pod has told on its admin port, or why it tells nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientPodSeen {
    /// The pod's name.
    pub pod: String,
    /// Its pipes; if it has none, why ([`trouble_of`](super::trouble_of) its last failure), or
    /// [`CLIENT_SILENT`](restpipe_api::condition::reason::CLIENT_SILENT).
    pub state: Result<Vec<PeerSeen>, Trouble>,
}

/// A pipe that a client holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerSeen {
    /// What the server calls itself.
    pub instance: String,
    /// Where the server is.
    pub address: String,
    /// Since when, in RFC 3339.
    pub since: String,
}

/// What is to be done for a link.
#[derive(Debug)]
pub struct LinkPlan {
    /// The leaf Secret to apply, if it is not as it should be.
    pub secret: Option<Secret>,
    /// The whole status as it should be.
    pub status: RestPipeLinkStatus,
    /// What to tell.
    pub events: Vec<Event>,
    /// When to look again, if nothing happens before.
    pub again_in: Option<Duration>,
}

/// Plans one link.
#[must_use]
pub fn plan(seen: &LinkSeen<'_>, now: SystemTime) -> LinkPlan {
    let _ = (seen, now);
    todo!("the body follows")
}
