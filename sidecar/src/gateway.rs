//! The gateway: plain HTTP on localhost, in front of the pipe.
//!
//! The way of a request: [`serve`] (sockets) and [`turns`] (how long it may
//! take to come) -> [`framing`] (where it ends) -> [`guard`] (who may ask) ->
//! [`path`] -> [`own`] endpoints, or [`call`] over a pipe -> [`answer`].

mod answer;
mod body;
mod call;
mod framing;
mod guard;
mod own;
pub mod path;
mod problem;
mod request;
mod serve;
mod source;
mod turns;
mod upload;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use http::{Method, Request, Response};
use hyper::body::Incoming;
use tokio_util::sync::CancellationToken;

pub use body::GatewayBody;
pub use problem::{Problem, ProblemCode};
pub use serve::{BoundGateway, bind, serve_stream};

use crate::presence::Presence;
use crate::router::Router;
use crate::telemetry::Recorder;
use guard::Guard;
use path::{Route, Target};
use restpipe_config::{Host, Role};
use upload::Upload;

/// How long requests wait and how many there may be.
#[derive(Clone, Copy, Debug)]
pub struct GatewayLimits {
    /// For an absent peer, if the request does not say otherwise.
    pub wait: Duration,
    /// For an answer, if the request does not say otherwise.
    pub timeout: Duration,
    /// For an answer, whatever the request says.
    pub max_timeout: Duration,
    /// Requests at once.
    pub requests: usize,
    /// Bytes of the largest body, if there is a limit.
    pub body: Option<u64>,
}

/// What the gateway needs of the node.
#[derive(Debug)]
pub struct Gateway {
    role: Role,
    router: Router,
    presence: Presence,
    recorder: Recorder,
    guard: Guard,
    limits: GatewayLimits,
    /// Events that wait for their answer.
    in_flight: AtomicUsize,
    draining: AtomicBool,
    /// Ends what would not end by itself: event streams.
    stop: CancellationToken,
}

/// One of the events that wait for their answer.
struct InFlight<'a> {
    all: &'a AtomicUsize,
    /// How many there were without it.
    before: usize,
}

impl<'a> InFlight<'a> {
    fn new(all: &'a AtomicUsize) -> Self {
        Self { all, before: all.fetch_add(1, Ordering::Relaxed) }
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.all.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What is known of the connection that a request came on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Via {
    /// Over TCP, so that a browser may have been made to send it.
    pub(crate) tcp: bool,
}

impl Gateway {
    /// A gateway in front of `router`.
    pub fn new(
        role: Role,
        hosts: &[Host],
        limits: GatewayLimits,
        router: Router,
        presence: Presence,
        recorder: Recorder,
    ) -> Self {
        Self {
            role,
            router,
            presence,
            recorder,
            guard: Guard::new(hosts),
            limits,
            in_flight: AtomicUsize::new(0),
            draining: AtomicBool::new(false),
            stop: CancellationToken::new(),
        }
    }

    /// Refuses new events from now on, and ends event streams.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
        self.stop.cancel();
    }

    /// Events that wait for their answer.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    pub(crate) async fn handle(
        self: Arc<Self>,
        via: Via,
        request: Request<Incoming>,
    ) -> Response<GatewayBody> {
        let is_head = request.method() == http::Method::HEAD;
        // It stays here: what is handed on by value is moved in every step.
        let mut request = Upload::within(request);
        let mut response = match self.answer(via, &mut request).await {
            Ok(response) => response,
            Err(problem) => {
                self.recorder.refused(problem.code.word());
                problem.into_response()
            }
        };
        if is_head {
            response.body_mut().empty();
        }
        response
    }

    async fn answer(
        &self,
        via: Via,
        request: &mut Request<Upload>,
    ) -> Result<Response<GatewayBody>, Problem> {
        self.guard.check(via, request)?;
        // These have targets that are no paths: an address, and `*`.
        if matches!(*request.method(), Method::CONNECT | Method::OPTIONS) {
            let detail = format!("{} is no verb of the pipe", request.method());
            return Err(Problem::new(ProblemCode::MethodNotAllowed, detail));
        }
        match path::parse(request.uri().path())? {
            Route::Own(name) => self.own(&name, request),
            Route::Event(target, path) => {
                self.check_direction(&target)?;
                if self.draining.load(Ordering::Relaxed) {
                    return Err(Problem::new(ProblemCode::Draining, "this node is stopping"));
                }
                let event = InFlight::new(&self.in_flight);
                if event.before >= self.limits.requests {
                    let detail = format!(
                        "{} requests are waiting already: fewer at once, or raise --max-requests",
                        self.limits.requests
                    );
                    return Err(Problem::new(ProblemCode::Busy, detail));
                }
                Ok(self.event(target, path, request).await)
            }
        }
    }

    /// A client has a server to ask and a server has clients.
    fn check_direction(&self, target: &Target) -> Result<(), Problem> {
        let detail = match (self.role, target) {
            (Role::Client, Target::Server)
            | (Role::Server, Target::Client(_) | Target::Address(_)) => return Ok(()),
            (Role::Client, _) => "this node is a client: ask its server by /server/NOUN",
            (Role::Server, _) => "this node is a server: ask a client by /client/HOSTNAME/NOUN",
        };
        Err(Problem::new(ProblemCode::WrongDirection, detail))
    }
}
