//! The node's own endpoints, all under `/-/` so that no noun can hide one.

use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use restpipe_config::Role;
use tokio::sync::mpsc;

use super::Gateway;
use super::body::GatewayBody;
use super::problem::{Problem, ProblemCode};
use crate::presence::EventLines;
use crate::router::PeerView;
use std::sync::atomic::Ordering;

/// Events that may wait for a slow reader before the stream is paused.
const STREAM_BACKLOG: usize = 64;

impl Gateway {
    pub(super) fn own<B>(
        &self,
        name: &str,
        request: &Request<B>,
    ) -> Result<Response<GatewayBody>, Problem> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return Err(Problem::new(
                ProblemCode::MethodNotAllowed,
                "endpoints under /-/ are only read",
            ));
        }
        match name {
            "live" => Ok(text(StatusCode::OK, "live\n")),
            "ready" => Ok(match self.why_not_ready() {
                None => text(StatusCode::OK, "ready\n"),
                Some(why) => text(StatusCode::SERVICE_UNAVAILABLE, why),
            }),
            "version" => Ok(json(&serde_json::json!({
                "name": "restpipe",
                "version": env!("CARGO_PKG_VERSION"),
                "protocol": restpipe_proto::VERSION,
                "role": self.role.to_string(),
            }))),
            "peers" => Ok(json(&serde_json::json!({ "peers": self.views(None) }))),
            "events" => Ok(self.events()),
            _ => match name.strip_prefix("peers/") {
                Some(host) => self.peer(host),
                None => {
                    let detail = "there are /-/live, /-/ready, /-/peers, /-/peers/HOSTNAME, /-/events and /-/version";
                    Err(Problem::new(ProblemCode::NoEndpoint, detail))
                }
            },
        }
    }

    /// Why no event could be carried now; `None` if one could.
    pub fn why_not_ready(&self) -> Option<&'static str> {
        if self.draining.load(Ordering::Relaxed) {
            return Some("this node is stopping\n");
        }
        let alone = self.role == Role::Client
            && !self.router.peers().iter().any(|peer| peer.pipe.is_usable());
        alone.then_some("there is no pipe to the server\n")
    }

    /// What the tables show, of all peers or of one hostname.
    pub fn views(&self, hostname: Option<&str>) -> Vec<PeerView> {
        let wanted = |view: &PeerView| hostname.is_none_or(|hostname| view.hostname == hostname);
        self.router.peers().iter().map(|peer| peer.view()).filter(wanted).collect()
    }

    fn peer(&self, host: &str) -> Result<Response<GatewayBody>, Problem> {
        let host = host.to_ascii_lowercase();
        let views = self.views(Some(&host));
        if views.is_empty() {
            let detail = format!("{} is not connected", host.escape_debug());
            return Err(Problem::new(ProblemCode::UnknownPeer, detail));
        }
        Ok(json(&serde_json::json!({ "peers": views })))
    }

    /// Connects and disconnects as server-sent events.
    fn events(&self) -> Response<GatewayBody> {
        let mut events = EventLines::begin(&self.router, &self.presence);
        let stop = self.stop.clone();
        let (lines, receiver) = mpsc::channel(STREAM_BACKLOG);
        tokio::spawn(async move {
            loop {
                let next = tokio::select! {
                    () = stop.cancelled() => return,
                    () = lines.closed() => return,
                    next = events.next() => next,
                };
                let Some(next) = next else { return };
                // Ends with its reader.
                if lines.send(next).await.is_err() {
                    return;
                }
            }
        });
        let mut response = Response::new(GatewayBody::Lines(receiver));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

fn text(status: StatusCode, text: &'static str) -> Response<GatewayBody> {
    let mut response = Response::new(GatewayBody::whole(text));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

fn json(value: &serde_json::Value) -> Response<GatewayBody> {
    let mut response = Response::new(GatewayBody::whole(format!("{value}\n")));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
