//! The webhook's HTTP: what comes in is bounded in size, time and number.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::metrics::Outcome;
use super::review::{Answer, Decision, review};
use super::{Certificate, Metrics};
use crate::inject::{InjectOptions, Links};
use crate::process::serve::{self, Limits};

/// Where API servers send their questions.
pub const INJECT_PATH: &str = "/inject";

/// Bytes of a request. API servers take objects of 3 MiB; a review has one and a little around it.
pub const MAX_BODY: usize = 4 * 1024 * 1024;

/// KiB of all requests at once: as JSON they take several times that in memory.
const BODY_BUDGET_KIB: usize = 16 * 1024;

/// An API server waits 5 s for an answer, as the chart tells it; later ones are for nobody.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(4);

/// TLS is there within this time. API servers are near.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(3);

/// Connections at once, each of one request; more wait in the kernel's queue. In all, one takes as
/// long as its head, its answer and the goodbye may, and a little.
const LIMITS: Limits = Limits {
    connections: 128,
    head_timeout: Duration::from_secs(3),
    whole_timeout: Duration::from_secs(12),
};

/// Reviews that are under way at once. One is a few milliseconds of work; what it has in memory
/// meanwhile may be twenty times the request.
const REVIEWS: usize = 2;

/// What runs when the end comes may be answered still.
const END_GRACE: Duration = Duration::from_secs(5);

/// What is sent in place of an AdmissionReview.
type NoAnswer = (StatusCode, String);

/// Answers API servers.
pub struct Server {
    options: InjectOptions,
    links: Arc<dyn Links + Send + Sync>,
    metrics: Arc<Metrics>,
    certificate: Certificate,
    budget: Semaphore,
    reviews: Semaphore,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Server {
    /// Injects by `options`, warns by what `links` knows, and shows `certificate`.
    pub fn new(
        options: InjectOptions,
        links: Arc<dyn Links + Send + Sync>,
        metrics: Arc<Metrics>,
        certificate: Certificate,
    ) -> Self {
        let (budget, reviews) = (Semaphore::new(BODY_BUDGET_KIB), Semaphore::new(REVIEWS));
        Self { options, links, metrics, certificate, budget, reviews }
    }

    /// Serves until `stop`.
    pub async fn run(self, listener: TcpListener, stop: CancellationToken) {
        let server = Arc::new(self);
        let router = Router::new().route(INJECT_PATH, post(answer)).with_state(server.clone());
        let handshake = move |stream| server.clone().handshake(stream);
        serve::run(listener, handshake, router, LIMITS, END_GRACE, stop).await;
    }

    async fn handshake(self: Arc<Self>, stream: TcpStream) -> Option<TlsStream<TcpStream>> {
        let failed = |why: &str| {
            self.metrics.handshakes_failed.inc();
            debug!(why, "no TLS");
        };
        let Some(config) = self.certificate.config() else {
            failed("there is no certificate yet");
            return None;
        };
        match timeout(HANDSHAKE_TIMEOUT, TlsAcceptor::from(config).accept(stream)).await {
            Ok(Ok(stream)) => return Some(stream),
            Ok(Err(error)) => failed(&error.to_string()),
            Err(_) => failed("it took too long"),
        }
        None
    }

    /// The whole body with its share of the budget, or the answer that says why not.
    async fn read(&self, body: Body) -> Result<(Bytes, Option<SemaphorePermit<'_>>), NoAnswer> {
        let too_large = || {
            let text = format!("the body is larger than {MAX_BODY} bytes, no pod is\n");
            (StatusCode::PAYLOAD_TOO_LARGE, text)
        };
        let size = body.size_hint();
        if size.lower() > MAX_BODY as u64 {
            return Err(too_large());
        }
        let most = size.upper().map_or(MAX_BODY, |upper| upper.min(MAX_BODY as u64) as usize);
        let share = most.div_ceil(1024).max(1) as u32;
        // Never closed, so this only waits.
        let share = self.budget.acquire_many(share).await.ok();
        match Limited::new(body, MAX_BODY).collect().await {
            Ok(body) => Ok((body.to_bytes(), share)),
            Err(error) if error.is::<http_body_util::LengthLimitError>() => Err(too_large()),
            Err(error) => Err((StatusCode::BAD_REQUEST, format!("the body broke off: {error}\n"))),
        }
    }

    async fn review(&self, body: &[u8]) -> Result<Answer, NoAnswer> {
        // Never closed either.
        let _turn = self.reviews.acquire().await.ok();
        // A mistake in here must not take down those that others are waiting for.
        let reviewed = catch_unwind(AssertUnwindSafe(|| review(body, &*self.links, &self.options)));
        match reviewed {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(bad)) => {
                info!(error = %bad, "a request that is none");
                Err((StatusCode::BAD_REQUEST, format!("{bad}\n")))
            }
            Err(_) => {
                error!("a review panicked: please report this with the pod that was created");
                let text = "the review failed, see the webhook's log\n".to_owned();
                Err((StatusCode::INTERNAL_SERVER_ERROR, text))
            }
        }
    }
}

async fn answer(State(server): State<Arc<Server>>, request: Request) -> Response {
    let started = Instant::now();
    let body = request.into_body();
    let answered = match timeout(ANSWER_TIMEOUT, server.read(body)).await {
        Ok(Ok((body, _share))) => server.review(&body).await,
        Ok(Err(no_answer)) => Err(no_answer),
        Err(_) => {
            let text = "the body did not arrive in time\n".to_owned();
            Err((StatusCode::REQUEST_TIMEOUT, text))
        }
    };
    server.metrics.seconds.observe(started.elapsed().as_secs_f64());
    match answered {
        Ok(answer) => {
            server.metrics.admission(log(&answer));
            ([(header::CONTENT_TYPE, "application/json")], answer.body).into_response()
        }
        Err(no_answer) => {
            server.metrics.admission(Outcome::Error);
            no_answer.into_response()
        }
    }
}

/// One line per request. Of what a pod says only names: a refused value may be anything.
fn log(answer: &Answer) -> Outcome {
    let Answer { namespace, pod, dry_run, .. } = answer;
    match &answer.decision {
        Decision::Injected(node) => {
            let (role, name) = (node.role.word(), &node.name);
            info!(namespace, pod, dry_run, role, name, decision = "injected", "admission");
            Outcome::Injected
        }
        Decision::Skipped => {
            debug!(namespace, pod, dry_run, decision = "skipped", "admission");
            Outcome::Skipped
        }
        Decision::Refused(refusal) => {
            let reason = refusal.reason();
            warn!(namespace, pod, dry_run, reason, decision = "refused", "admission");
            Outcome::Refused
        }
    }
}
