//! What a link's pod says on its admin port: whether its pipe is up, and if not why. The answer is
//! that of somebody else's pod: it has bounds, and nothing of it is shown as it came.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use restpipe_api::condition::reason;
use restpipe_api::names::ADMIN_PORT;
use serde::Deserialize;
use serde::de::Deserializer;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::snapshot::{MAX_NAME, MAX_WORD, at_most, roots, time, words};
use super::words::{MAX_DETAIL, plain, trouble};
use crate::plan::PeerSeen;
use crate::seen::Trouble;

/// A whole answer is here within this time: it is read from memory, in the same cluster.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Bytes of an answer: a client has one pipe, and for a moment a few.
const MAX_BODY: usize = 64 * 1024;

/// Bytes that the connection buffers, which the answer's head has to fit.
const MAX_HEAD: usize = 16 * 1024;

/// Pods that are asked at once.
const MAX_PROBES: usize = 16;

/// An answer is good for this time: many links look at once after a server went away.
const FRESH: Duration = Duration::from_secs(5);

/// Answers that are kept.
const MAX_KEPT: usize = 4096;

/// Pipes in an answer.
const MAX_PIPES: usize = 64;

/// What a link's pod has told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeSeen {
    /// Whether it could carry an event.
    pub ready: bool,
    /// What it calls itself.
    pub instance: String,
    /// The name in its certificate.
    pub name: String,
    /// Serial number of its certificate.
    pub serial: String,
    /// When that certificate ends, if it says so.
    pub not_after: Option<SystemTime>,
    /// Fingerprints of the roots that it trusts.
    pub trusts: BTreeSet<String>,
    /// Its pipes to the server that are up.
    pub pipes: Vec<PeerSeen>,
    /// Why its last dial failed, unless a pipe has come up since.
    pub last_failure: Option<FailureSeen>,
}

/// A failed dial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailureSeen {
    /// What it means.
    pub trouble: Trouble,
    /// When it was, in RFC 3339 as the pod wrote it.
    pub at: String,
}

impl ProbeSeen {
    /// Its pipes, or why it has none.
    ///
    /// # Errors
    /// A reason and a sentence.
    pub fn state(self) -> Result<Vec<PeerSeen>, Trouble> {
        if !self.pipes.is_empty() {
            return Ok(self.pipes);
        }
        Err(self.last_failure.map(|failure| failure.trouble).unwrap_or_else(|| {
            let detail = "the client has no pipe and no failed attempt yet: it is dialling";
            Trouble { reason: reason::NOT_CONNECTED, detail: detail.to_owned() }
        }))
    }
}

type Answer = Result<ProbeSeen, Trouble>;

/// Asks pods; clones share what was answered.
#[derive(Clone, Debug)]
pub struct Prober {
    turns: Arc<Semaphore>,
    kept: Arc<Mutex<HashMap<SocketAddr, (Instant, Answer)>>>,
}

impl Default for Prober {
    fn default() -> Self {
        Self { turns: Arc::new(Semaphore::new(MAX_PROBES)), kept: Arc::default() }
    }
}

impl Prober {
    /// Asks the pod at `ip`, unless its last answer is a few seconds old.
    ///
    /// # Errors
    /// [`CLIENT_SILENT`](reason::CLIENT_SILENT) if it gives no good answer.
    pub async fn probe(&self, ip: IpAddr) -> Result<ProbeSeen, Trouble> {
        if !is_of_a_pod(ip) {
            let text = format!("{ip} is not asked for its status: no pod has such an address");
            return Err(silent(&text));
        }
        self.probe_at(SocketAddr::new(ip, ADMIN_PORT)).await
    }

    /// As [`Self::probe`], at any port and address.
    ///
    /// # Errors
    /// As [`Self::probe`].
    pub async fn probe_at(&self, address: SocketAddr) -> Result<ProbeSeen, Trouble> {
        if let Some(answer) = self.kept(address) {
            return answer;
        }
        // Never closed. Who has waited for a turn may find that another has asked.
        let _turn = self.turns.acquire().await;
        if let Some(answer) = self.kept(address) {
            return answer;
        }
        let answer = match tokio::time::timeout(TIMEOUT, ask(address)).await {
            Ok(Ok(status)) => Ok(status.seen()),
            Ok(Err(cause)) => Err(unanswered(address, &cause)),
            Err(_) => Err(unanswered(address, &format!("no answer within {TIMEOUT:?}"))),
        };
        self.keep(address, answer.clone());
        answer
    }

    fn kept(&self, address: SocketAddr) -> Option<Answer> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, answer) = kept.get(&address)?;
        (at.elapsed() < FRESH).then(|| answer.clone())
    }

    fn keep(&self, address: SocketAddr, answer: Answer) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= MAX_KEPT {
            kept.retain(|_, (at, _)| at.elapsed() < FRESH);
        }
        if kept.len() < MAX_KEPT {
            kept.insert(address, (Instant::now(), answer));
        }
    }
}

/// Pods' addresses come from the API server. Still, nothing makes the operator ask itself, its
/// node, or a cloud's metadata service.
fn is_of_a_pod(ip: IpAddr) -> bool {
    let nobody = ip.is_loopback() || ip.is_unspecified() || ip.is_multicast();
    let local = match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_broadcast() || ip.is_loopback(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    !nobody && !local
}

fn silent(text: &str) -> Trouble {
    Trouble { reason: reason::CLIENT_SILENT, detail: plain(text, MAX_DETAIL) }
}

fn unanswered(address: SocketAddr, cause: &str) -> Trouble {
    silent(&format!(
        "the client's pod does not tell its status at {address}: {cause}: does it run, and does a NetworkPolicy keep the operator from it?"
    ))
}

async fn ask(address: SocketAddr) -> Result<Status, String> {
    let text = |error: &dyn std::error::Error| error.to_string();
    let stream = TcpStream::connect(address).await.map_err(|error| text(&error))?;
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(MAX_HEAD)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| text(&error))?;
    let question = async {
        let request = Request::get("/status").header("host", address.to_string());
        let request = request.body(Empty::<Bytes>::new()).map_err(|error| text(&error))?;
        let answer = sender.send_request(request).await.map_err(|error| text(&error))?;
        if answer.status() != StatusCode::OK {
            return Err(format!("it answers {}", answer.status().as_u16()));
        }
        let body = Limited::new(answer.into_body(), MAX_BODY).collect().await;
        Ok(body.map_err(|error| error.to_string())?.to_bytes())
    };
    // The connection is driven here, so that it ends with the question.
    tokio::pin!(question);
    let body = tokio::select! {
        body = &mut question => body?,
        // What ended it is told to who asked.
        _ = connection => question.await?,
    };
    serde_json::from_slice(&body).map_err(|error| format!("it is no status of a node: {error}"))
}

#[derive(Deserialize)]
struct Status {
    #[serde(default)]
    ready: bool,
    #[serde(default)]
    instance: String,
    identity: Identity,
    #[serde(default, deserialize_with = "peers")]
    peers: Vec<Peer>,
    #[serde(default)]
    last_failure: Option<Failure>,
}

#[derive(Deserialize)]
struct Identity {
    #[serde(default)]
    name: String,
    serial: String,
    #[serde(default)]
    not_after: String,
    #[serde(default, deserialize_with = "roots")]
    trusts: Vec<String>,
}

#[derive(Deserialize)]
struct Peer {
    #[serde(default)]
    instance: String,
    address: String,
    #[serde(default)]
    state: String,
    since: String,
}

#[derive(Deserialize)]
struct Failure {
    reason: String,
    #[serde(default)]
    detail: String,
    #[serde(default)]
    at: String,
}

fn peers<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Peer>, D::Error> {
    at_most::<MAX_PIPES, _, _>(from)
}

impl Status {
    fn seen(self) -> ProbeSeen {
        let Self { ready, instance, identity, peers, last_failure } = self;
        ProbeSeen {
            ready,
            instance: plain(&instance, MAX_NAME),
            name: plain(&identity.name, MAX_NAME),
            serial: plain(&identity.serial, MAX_WORD),
            not_after: time(&identity.not_after),
            trusts: words(&identity.trusts),
            pipes: peers.into_iter().filter_map(Peer::seen).collect(),
            last_failure: last_failure.map(|failure| FailureSeen {
                trouble: trouble(&failure.reason, &failure.detail),
                at: plain(&failure.at, MAX_WORD),
            }),
        }
    }
}

impl Peer {
    /// `None` unless it is up.
    fn seen(self) -> Option<PeerSeen> {
        time(&self.since).filter(|_| matches!(self.state.as_str(), "open" | "replacing"))?;
        Some(PeerSeen {
            instance: plain(&self.instance, MAX_NAME),
            address: plain(&self.address, MAX_WORD),
            since: plain(&self.since, MAX_WORD),
        })
    }
}

#[cfg(test)]
mod tests;
