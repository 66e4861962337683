//! The admin port: `/live`, `/ready` and `/metrics`, for kubelet, Prometheus and people. It
//! changes nothing.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus::{Registry, TextEncoder};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::serve::{self, Limits};

/// Kubelet, Prometheus and a few people. The port is open to the network, so it has bounds; the
/// longest is Prometheus' time for a scrape, 10 s unless set, and some more.
const LIMITS: Limits = Limits {
    connections: 64,
    head_timeout: Duration::from_secs(10),
    whole_timeout: Duration::from_secs(30),
};

/// Who reads a status does not keep a process from ending.
const END_GRACE: Duration = Duration::ZERO;

/// Whether the process is ready, or a sentence why not.
type Ready = dyn Fn() -> Result<(), String> + Send + Sync;

/// A registry that has the process's own metrics: memory, CPU, open files.
///
/// # Errors
/// If two metrics have one name: a mistake in this program.
pub fn registry() -> prometheus::Result<Registry> {
    let registry = Registry::new();
    registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
    Ok(registry)
}

/// What the admin port shows.
#[derive(Clone)]
pub struct Admin {
    registry: Registry,
    ready: Arc<Ready>,
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").finish_non_exhaustive()
    }
}

impl Admin {
    /// Shows the metrics of `registry`, and what `ready` says when it is asked.
    pub fn new(
        registry: Registry,
        ready: impl Fn() -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        Self { registry, ready: Arc::new(ready) }
    }

    /// Serves until `stop`.
    pub async fn run(self, listener: TcpListener, stop: CancellationToken) {
        let router = Router::new()
            .route("/live", get(|| async { "live\n" }))
            .route("/ready", get(ready))
            .route("/metrics", get(metrics))
            .with_state(self);
        let plain = |stream| std::future::ready(Some(stream));
        serve::run(listener, plain, router, LIMITS, END_GRACE, stop).await;
    }
}

async fn ready(State(admin): State<Admin>) -> Response {
    match (admin.ready)() {
        Ok(()) => "ready\n".into_response(),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

async fn metrics(State(admin): State<Admin>) -> Response {
    match TextEncoder::new().encode_to_string(&admin.registry.gather()) {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    #[tokio::test]
    async fn the_admin_port_tells_life_readiness_and_metrics() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let address = listener.local_addr().expect("an address");
        let is_ready = Arc::new(AtomicBool::new(false));
        let asked = is_ready.clone();
        let ready = move || match asked.load(Ordering::SeqCst) {
            true => Ok(()),
            false => Err("not yet".to_owned()),
        };
        let stop = CancellationToken::new();
        let admin = Admin::new(registry().expect("metrics"), ready);
        let running = tokio::spawn(admin.run(listener, stop.clone()));
        let get = async |path: &str| {
            let mut stream = TcpStream::connect(address).await.expect("connected");
            let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
            stream.write_all(request.as_bytes()).await.expect("sent");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.expect("an answer");
            answer
        };
        assert!(get("/live").await.ends_with("\r\n\r\nlive\n"));
        let answer = get("/ready").await;
        assert!(answer.starts_with("HTTP/1.1 503") && answer.ends_with("not yet\n"), "{answer}");
        is_ready.store(true, Ordering::SeqCst);
        assert!(get("/ready").await.starts_with("HTTP/1.1 200"));
        assert!(get("/metrics").await.contains("process_resident_memory_bytes"));
        assert!(get("/shutdown").await.starts_with("HTTP/1.1 404"));
        stop.cancel();
        running.await.expect("ended");
    }
}
