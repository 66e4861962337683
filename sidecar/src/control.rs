//! What an operator asks of a server over a pipe of its own: who is there, who
//! comes and goes, and who may connect from now on. No handler sees it, and
//! for every other peer the same nouns are ordinary ones.

use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use http::StatusCode;
use restpipe_config::MAX_FILE;
use restpipe_pipe::pb::ReplyHead;
use restpipe_pipe::{Incoming, ReadError, RecvBody, Responder, Service};
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::creds::InUse;
use crate::dispatch;
use crate::event::{Exception, Reply, Verb};
use crate::link::PipeParts;
use crate::names::{NameLists, Names};
use crate::presence::EventLines;
use crate::router::{PeerView, hex};

/// Pipes of operators at once: a leader, its successor, and those of them that
/// died and have not been missed yet.
pub(crate) const MAX_OPERATORS: usize = 8;

/// Questions of one operator at once: one of each kind, and one to spare.
pub(crate) const MAX_QUESTIONS: u32 = 4;

/// Bytes of the lists of names: those that are larger could not be in node.toml
/// either, and a restarted node would not know them.
const MAX_NAMES: usize = MAX_FILE as usize;

/// The service of operators' pipes; clones share what it is about.
#[derive(Clone, Debug)]
pub(crate) struct Control {
    parts: PipeParts,
    names: Names,
    /// Ends what would not end by itself: streams of events.
    stop: CancellationToken,
}

/// The answer to `-/peers`.
#[derive(Serialize)]
struct Peers {
    instance: String,
    boot_id: String,
    names_version: u64,
    identity: Identity,
    peers: Vec<PeerView>,
}

#[derive(Serialize)]
struct Identity {
    serial: String,
    not_after: String,
    trusts: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reload_failed: Option<String>,
}

impl Service for Control {
    fn serve(&self, event: Incoming) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(self.clone().answer(event))
    }
}

impl Control {
    pub(crate) fn new(parts: PipeParts, names: Names) -> Self {
        Self { parts, names, stop: CancellationToken::new() }
    }

    /// Ends the streams of events, which would hold a pipe that is drained.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }

    async fn answer(self, event: Incoming) {
        let Incoming { head, body, responder, .. } = event;
        let verb = Verb::from_wire(head.verb()).unwrap_or(Verb::Get);
        debug!(%verb, noun = %head.noun.escape_debug(), "an operator asks");
        let noun = if head.args.is_empty() { head.noun.as_str() } else { "" };
        let reply = match (verb, noun) {
            (Verb::Get, "-/events") => return self.events(responder).await,
            (Verb::Get, "-/peers") => self.peers(),
            (Verb::Put, "-/names") => self.take_names(body).await,
            _ => dispatch::no_handler(),
        };
        if let Err(error) = dispatch::send(verb, reply, responder).await {
            warn!(%error, "answer to an operator broken off");
        }
    }

    fn peers(&self) -> Reply {
        let InUse { credentials, reload_failed } = self.parts.creds.in_use();
        let answer = Peers {
            instance: self.parts.instance.clone(),
            boot_id: hex(&self.parts.boot_id),
            names_version: self.names.version(),
            identity: Identity {
                serial: credentials.leaf().serial.clone(),
                not_after: restpipe_identity::rfc3339(credentials.leaf().not_after),
                trusts: credentials.roots().fingerprints(),
                reload_failed: reload_failed.map(|failed| failed.reason),
            },
            peers: self.parts.router.peers().iter().map(|peer| peer.view()).collect(),
        };
        match serde_json::to_vec(&answer) {
            Ok(json) => Reply::ok("application/json", json),
            Err(error) => Reply::exception(&Exception::new("Peers", error.to_string())),
        }
    }

    /// The same lines as `/-/events` of the gateway. A deadline is over with
    /// the reply's head; the stream ends with the pipe.
    async fn events(&self, responder: Responder) {
        let mut lines = EventLines::begin(&self.parts.router, &self.parts.presence);
        let status = StatusCode::OK.as_u16().into();
        let head = ReplyHead { status, mime: "text/event-stream".into(), ..ReplyHead::default() };
        let Ok(mut out) = responder.reply_streamed(head, Bytes::new()) else { return };
        let stream = async {
            while let Some(line) = lines.next().await {
                // Waits for an operator that does not read, and misses changes
                // meanwhile: none is queued for it.
                if out.send(line).await.is_err() {
                    break;
                }
            }
        };
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = stream => {}
        }
        out.end();
    }

    async fn take_names(&self, mut body: RecvBody) -> Reply {
        let body = match body.read(MAX_NAMES).await {
            Ok(body) => body,
            Err(error @ ReadError::TooLarge(_)) => {
                return refused(StatusCode::PAYLOAD_TOO_LARGE, error.to_string());
            }
            Err(error) => return refused(StatusCode::BAD_REQUEST, error.to_string()),
        };
        match serde_json::from_slice::<NameLists>(&body) {
            Ok(lists) => Reply::json(&serde_json::json!({ "version": self.names.push(lists) })),
            Err(error) => {
                let text = format!(
                    r#"this is not {{"version": NUMBER, "clients": [NAMES], "suspended": [NAMES]}}: {error}"#
                );
                refused(StatusCode::BAD_REQUEST, text)
            }
        }
    }
}

fn refused(status: StatusCode, text: String) -> Reply {
    let mut reply = Reply::exception(&Exception::new("Names", text));
    reply.status = status;
    reply.code = status.as_u16().into();
    reply
}
