//! The admin port: `/live`, `/ready`, `/metrics` and `/status`, for kubelet,
//! Prometheus, the operator and people. It changes nothing: there is no way
//! to stop a node over HTTP (CVE-2024-40632 was one).

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Router as AxumRouter;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json};
use axum::routing::get;
use serde::{Deserialize, Serialize};

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::accept::AcceptBackoff;
use crate::creds::{Creds, InUse, ReloadFailed};
use crate::gateway::Gateway;
use crate::link::{Failure, LastFailure};
use crate::router::PeerView;
use crate::telemetry::Recorder;

/// Connections at once: kubelet, Prometheus, the operator and a few people.
/// The port is open to the network, so it has a bound of its own.
const MAX_CONNECTIONS: usize = 64;

/// The head of a request is here within this time.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes that a connection may buffer.
const MAX_BUFFER: usize = 16 * 1024;

/// What the admin port shows.
#[derive(Clone, Debug)]
pub struct AdminState {
    /// For readiness and the peers.
    pub gateway: Arc<Gateway>,
    /// For the certificate.
    pub creds: Creds,
    /// For metrics.
    pub recorder: Recorder,
    /// `server` or `client`.
    pub role: String,
    /// What this node calls itself.
    pub instance: String,
    /// Why the last dial failed.
    pub last_failure: LastFailure,
    /// Of a client: where its server is, and the name that it expects there.
    pub server: Option<(String, String)>,
}

/// The answer of `/status`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// `server` or `client`.
    pub role: String,
    /// Version of this software.
    pub version: String,
    /// What this node calls itself.
    pub instance: String,
    /// Whether an event could be carried now.
    pub ready: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_ready: Option<String>,
    /// Of a client: the server that it dials.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// Of a client: the name that the server's certificate must carry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// The identity in use.
    pub identity: IdentityStatus,
    /// The pipes that are up.
    pub peers: Vec<PeerView>,
    /// Why the last dial failed, unless a pipe has come up since.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<Failure>,
}

/// The certificate in use.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct IdentityStatus {
    /// The one name that counts.
    pub name: String,
    /// Serial number in hex.
    pub serial: String,
    /// Who issued it.
    pub issuer: String,
    /// When it ends, in RFC 3339.
    pub not_after: String,
    /// SHA-256 fingerprints of the trusted roots.
    pub trusts: Vec<String>,
    /// Why the files that are there now are not taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reload_failed: Option<ReloadFailed>,
}

/// Serves the admin endpoints until `stop`.
pub(crate) async fn run(listener: TcpListener, state: AdminState, stop: CancellationToken) {
    let endpoints = router(state);
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut backoff = AcceptBackoff::default();
    loop {
        let accept = async {
            let permit =
                connections.clone().acquire_owned().await.map_err(std::io::Error::other)?;
            Ok::<_, std::io::Error>((listener.accept().await?.0, permit))
        };
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = accept => accepted,
        };
        let (stream, permit) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                backoff.wait(&error).await;
                continue;
            }
        };
        backoff.reset();
        let (service, stop) = (TowerToHyperService::new(endpoints.clone()), stop.clone());
        tokio::spawn(async move {
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .max_buf_size(MAX_BUFFER)
                .serve_connection(TokioIo::new(stream), service);
            // Who reads a status is not told that the node ends.
            tokio::select! {
                _ = connection => {}
                () = stop.cancelled() => {}
            }
            drop(permit);
        });
    }
}

/// The admin endpoints.
fn router(state: AdminState) -> AxumRouter {
    AxumRouter::new()
        .route("/live", get(|| async { "live\n" }))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .route("/status", get(status))
        .with_state(state)
}

async fn ready(State(state): State<AdminState>) -> impl IntoResponse {
    match state.gateway.why_not_ready() {
        None => (StatusCode::OK, "ready\n"),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, why),
    }
}

async fn metrics(State(state): State<AdminState>) -> impl IntoResponse {
    match state.recorder.metrics().render() {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn status(State(state): State<AdminState>) -> Json<Status> {
    let InUse { credentials, reload_failed } = state.creds.in_use();
    let leaf = credentials.leaf();
    let not_ready = state.gateway.why_not_ready().map(|why| why.trim_end().to_owned());
    let (server, server_name) = state.server.unzip();
    let expired = leaf.not_after <= SystemTime::now();
    Json(Status {
        role: state.role,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        instance: state.instance,
        ready: not_ready.is_none(),
        not_ready: not_ready.or_else(|| expired.then(|| "the certificate has expired".to_owned())),
        server,
        server_name,
        identity: IdentityStatus {
            name: credentials.name().to_string(),
            serial: leaf.serial.clone(),
            issuer: leaf.issuer.clone(),
            not_after: restpipe_identity::rfc3339(leaf.not_after),
            trusts: credentials.roots().fingerprints(),
            reload_failed,
        },
        peers: state.gateway.views(None),
        last_failure: state.last_failure.get(),
    })
}
