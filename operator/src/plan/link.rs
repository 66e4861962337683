//! A link: its identity, its routing record, and why it is not connected.

mod connected;
mod external;
mod known;

use std::time::{Duration, SystemTime};

use k8s_openapi::api::core::v1::Secret;
use restpipe_api::condition::{ACCEPTED, CONNECTED, IDENTITY_ISSUED, READY, reason};
use restpipe_api::{RestPipeLink, RestPipeLinkStatus};

use self::connected::Connected;
use super::claims::{self, Refusal};
use super::conditions::{Conditions, Finding};
use super::event;
use super::leaf::LeafPlan;
use super::server::first_names;
use super::time::{earlier, until};
use super::{Event, ServerView};
use crate::seen::{PipeSeen, PodSeen, SecretSeen, Trouble};

/// How soon is looked again for a plan of the server that knows the link.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// How soon is tried again what failed for a cause that no watch reports.
const RETRY: Duration = Duration::from_secs(30);

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
    let link = seen.link;
    let before = link.status.clone().unwrap_or_default();
    let found = match seen.server {
        LinkServer::Missing => Found::without_server(seen),
        LinkServer::External { imported } => external::find(seen, imported, now),
        LinkServer::Known(view) => match known::find(seen, view, now) {
            Some(found) => found,
            // The server's plan is older than the link: wait for the next.
            None => {
                return LinkPlan {
                    secret: None,
                    status: before,
                    events: Vec::new(),
                    again_in: Some(LOOK_AGAIN),
                };
            }
        },
    };
    found.plan(seen, before, now)
}

/// What was found out about a link.
struct Found {
    hostname: Option<String>,
    server: Option<String>,
    accepted: Finding,
    issued: Finding,
    leaf: LeafPlan,
    injected: Finding,
    connected: Connected,
}

impl Found {
    fn without_server(seen: &LinkSeen<'_>) -> Self {
        let server = claims::server_of(seen.link).map(|key| key.to_string()).unwrap_or_default();
        let refusal = Refusal {
            reason: reason::SERVER_NOT_FOUND,
            message: format!(
                "there is no RestPipeServer {server}: make it, or correct spec.server (kubectl get restpipeservers -A)"
            ),
        };
        Self::refused(seen, claims::hostname_of(seen.link), server, &refusal)
    }

    /// Nothing is issued, and pipes of the hostname are somebody else's.
    fn refused(seen: &LinkSeen<'_>, hostname: String, server: String, refusal: &Refusal) -> Self {
        let because = |type_| Finding::bad(type_, refusal.reason, refusal.message.clone());
        Self {
            hostname: Some(hostname),
            server: Some(server),
            accepted: because(ACCEPTED),
            issued: Finding::bad(
                IDENTITY_ISSUED,
                refusal.reason,
                "nothing is issued for a link that is not accepted",
            ),
            leaf: LeafPlan::default(),
            injected: connected::injected(seen),
            connected: Connected::Found(because(CONNECTED), Vec::new()),
        }
    }

    fn plan(self, seen: &LinkSeen<'_>, before: RestPipeLinkStatus, now: SystemTime) -> LinkPlan {
        let needed = [&self.accepted, &self.issued, &self.injected];
        let others_hold = needed.iter().all(|finding| finding.holds());
        let (connected, connections) = match self.connected {
            Connected::Found(finding, connections) => (Some(finding), connections),
            Connected::Kept => (None, before.connections.clone()),
        };
        let mut all: Vec<&Finding> = needed.into_iter().chain(&connected).collect();
        if connected.as_ref().is_some_and(|finding| finding.reason == reason::SUSPENDED) {
            // What somebody wants so is the reason, whether there are pods or not.
            all.swap(2, 3);
        }
        let ready = (connected.is_some() || !others_hold)
            .then(|| Finding::ready(&all, "the client has a pipe to its server"));

        let mut conditions =
            Conditions::new(&before.conditions, seen.link.metadata.generation, now);
        for finding in needed {
            conditions.set(finding);
        }
        for (finding, type_) in [(&connected, CONNECTED), (&ready, READY)] {
            match finding {
                Some(finding) => conditions.set(finding),
                None => conditions.keep(type_),
            };
        }
        let mut again_at = self.leaf.again_at;
        if self.leaf.problem.is_some() {
            again_at = earlier(again_at, now.checked_add(RETRY));
        }
        let mut events: Vec<Event> = self.leaf.event.into_iter().collect();
        // That a server cannot issue is told once, about the server, and not about all its links.
        let own = all.iter().copied().filter(|found| found.reason != reason::CA_UNAVAILABLE);
        events.extend(event::news(&before.conditions, &own.collect::<Vec<_>>()));
        LinkPlan {
            secret: self.leaf.secret,
            status: RestPipeLinkStatus {
                observed_generation: seen.link.metadata.generation,
                conditions: conditions.finish(),
                hostname: self.hostname,
                server: self.server,
                identity: self.leaf.identity,
                connections,
                pods_without_sidecar: first_names(seen.without_sidecar.iter().cloned()),
            },
            events,
            again_in: again_at.map(|at| until(at, now)),
        }
    }
}
