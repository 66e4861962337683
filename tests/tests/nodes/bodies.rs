//! Bodies that are streamed, in this process over real TLS.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::Method;
use http_body_util::{BodyExt, StreamBody};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use restpipe::{Event, Exception, Registry, Reply, StreamError, Verb};
use restpipe_config::NodeArgs;
use restpipe_tests::nodes::{BOTH_WAYS, Pair, Running, SOON};
use tokio::net::TcpStream;
use tokio::sync::Notify;

const CHUNK: usize = 64 * 1024;

fn chunks(count: usize) -> impl http_body::Body<Data = Bytes, Error = StreamError> + Send {
    let chunk = Bytes::from(vec![b'x'; CHUNK]);
    let frames = (0..count).map(move |_| Ok(http_body::Frame::data(chunk.clone())));
    StreamBody::new(futures_util::stream::iter(frames))
}

/// `sink` counts what it is sent, `source` sends as many chunks as its
/// argument says, `echo` sends back what comes while it comes, `broken` breaks
/// off.
fn registry() -> Registry {
    Registry::new()
        .on(Verb::Post, "sink", |mut event: Event| async move {
            let mut bytes = 0;
            while let Some(chunk) = event.body.chunk().await {
                bytes += chunk.map_err(|error| Exception::new("Body", error.to_string()))?.len();
            }
            Ok(Reply::ok("text/plain", bytes.to_string()))
        })
        .on(Verb::Get, "source", |event: Event| async move {
            let count = event.args.first().and_then(|count| count.parse().ok()).unwrap_or(1);
            Ok(Reply::stream("application/octet-stream", chunks(count)))
        })
        .on(Verb::Post, "echo", |event: Event| async move {
            let body = event.body.map_err(|error| StreamError(error.to_string()));
            Ok(Reply::stream("application/octet-stream", body))
        })
        .on(Verb::Get, "broken", |_| async {
            let frames =
                [Ok(Bytes::from(vec![0; CHUNK])), Err(StreamError("the disk is gone".into()))];
            let frames = frames.map(|frame| frame.map(http_body::Frame::data));
            Ok(Reply::stream("text/plain", StreamBody::new(futures_util::stream::iter(frames))))
        })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_bodies_arrive_whole_in_both_directions() {
    let pair = Pair::connected(NodeArgs::default(), registry()).await;
    for way in BOTH_WAYS {
        let body = vec![7; 300 * CHUNK];
        let answer = pair.near(way).ask(Method::POST, &Pair::path(way, "sink"), &[], body).await;
        assert_eq!(answer.body, (300 * CHUNK).to_string(), "{way:?}");
        let answer = pair.near(way).get(&Pair::path(way, "source//300")).await;
        assert_eq!(answer.body.len(), 300 * CHUNK, "{way:?}");
        let body: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
        let answer =
            pair.near(way).ask(Method::POST, &Pair::path(way, "echo"), &[], body.clone()).await;
        assert!(answer.body == body, "{way:?}: an echo is what was sent");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reply_that_breaks_off_is_not_taken_for_a_whole_one() {
    let pair = Pair::connected(NodeArgs::default(), registry()).await;
    for way in BOTH_WAYS {
        let mut sender = connect(pair.near(way)).await;
        let response =
            sender.send_request(request(&Pair::path(way, "broken"))).await.expect("a head");
        // Either the break was seen before the head went out, or in the body.
        let told = response.status() == 502;
        assert!(response.into_body().collect().await.is_err() || told, "{way:?}");
        assert_eq!(pair.near(way).get(&Pair::path(way, "time")).await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_reads_nothing_slows_nobody_and_fills_no_memory() {
    let sent = Arc::new(AtomicU64::new(0));
    let counted = sent.clone();
    let registry = registry().on(Verb::Get, "endless", move |_| {
        let sent = counted.clone();
        async move {
            let chunk = Bytes::from(vec![b'x'; CHUNK]);
            let frames = std::iter::repeat_with(move || {
                sent.fetch_add(CHUNK as u64, Ordering::Relaxed);
                Ok(http_body::Frame::data(chunk.clone()))
            });
            Ok(Reply::stream("text/plain", StreamBody::new(futures_util::stream::iter(frames))))
        }
    });
    let pair = Pair::connected(NodeArgs::default(), registry).await;
    for way in BOTH_WAYS {
        let mut sender = connect(pair.near(way)).await;
        let stalled =
            sender.send_request(request(&Pair::path(way, "endless"))).await.expect("a head");
        for _ in 0..1000 {
            let answer = pair.near(way).ask(Method::POST, &Pair::path(way, "sink"), &[], "x").await;
            assert_eq!(answer.body, "1", "{way:?}");
        }
        // The kernel's socket buffers hold a few MiB, the nodes one window.
        let bytes = sent.swap(0, Ordering::Relaxed);
        assert!(bytes < 32 * 1024 * 1024, "{way:?}: {bytes} bytes were taken from the handler");
        drop(stalled);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_hangs_up_stops_the_handler() {
    let (running, dropped) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    struct Guard(Arc<Notify>);
    impl Drop for Guard {
        fn drop(&mut self) {
            self.0.notify_one();
        }
    }
    let (started, ended) = (running.clone(), dropped.clone());
    let registry = Registry::new().on(Verb::Get, "hang", move |_| {
        let (started, guard) = (started.clone(), Guard(ended.clone()));
        async move {
            let _guard = guard;
            started.notify_one();
            std::future::pending().await
        }
    });
    let pair = Pair::connected(NodeArgs::default(), registry).await;
    for way in BOTH_WAYS {
        let mut sender = connect(pair.near(way)).await;
        let asking = tokio::spawn(async move {
            sender.send_request(request(&Pair::path(way, "hang"))).await.map(drop)
        });
        running.notified().await;
        asking.abort();
        tokio::time::timeout(SOON, dropped.notified()).await.expect("the handler is stopped");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_given_before_the_upload_has_ended_reaches_the_caller() {
    let closed =
        std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
    let args = NodeArgs {
        app: Some(format!("http://{closed}").parse().expect("an app")),
        ..NodeArgs::default()
    };
    let pair = Pair::connected(args, Registry::new()).await;
    for way in BOTH_WAYS {
        let answer =
            pair.near(way).ask(Method::POST, &Pair::path(way, "x"), &[], vec![0; 8_000_000]).await;
        assert_eq!(answer.contract().3, "app-refused", "{way:?}");
    }
}

async fn connect(node: &Running) -> http1::SendRequest<http_body_util::Empty<Bytes>> {
    let stream = TcpStream::connect(node.gateway).await.expect("the gateway listens");
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("HTTP");
    // Ends with its sender and the bodies that it has given out.
    tokio::spawn(connection);
    sender
}

fn request(path: &str) -> http::Request<http_body_util::Empty<Bytes>> {
    http::Request::get(path)
        .header("host", "localhost")
        .body(http_body_util::Empty::new())
        .expect("a request")
}
