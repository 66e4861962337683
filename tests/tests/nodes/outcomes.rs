//! The outcome contract of docs/outcomes.md, row by row, both directions,
//! over real TLS.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::Method;
use restpipe::{Exception, Registry, Reply, Verb};
use restpipe_config::NodeArgs;
use restpipe_tests::nodes::{Answer, BOTH_WAYS, CLIENT, Pair, Pki, Way};
use tokio::sync::Notify;

/// Handlers whose starts are counted.
#[derive(Clone, Default)]
struct Handlers {
    started: Arc<AtomicUsize>,
    running: Arc<Notify>,
}

impl Handlers {
    fn registry(&self) -> Registry {
        let mut registry = Registry::new();
        for verb in Verb::ALL {
            let hang = self.clone();
            registry = registry
                .on(verb, "hang", move |_| {
                    hang.started.fetch_add(1, Ordering::SeqCst);
                    hang.running.notify_one();
                    std::future::pending()
                })
                .on(verb, "fail", |_| async {
                    Err(Exception::new("ValueError", "it does not fit"))
                })
                .on(verb, "panic", |_| async { panic!("it broke") });
        }
        registry
            .on(Verb::Get, "teapot", |_| async {
                let mut reply = Reply::ok("text/plain", "short and stout");
                reply.status = http::StatusCode::IM_A_TEAPOT;
                reply.code = 7;
                Ok(reply)
            })
            .on(Verb::Post, "echo", |mut event: restpipe::Event| async move {
                let body = event
                    .body
                    .read(1024)
                    .await
                    .map_err(|e| Exception::new("Body", e.to_string()))?;
                Ok(Reply::ok(&event.mime, body))
            })
    }

    fn started(&self) -> usize {
        self.started.load(Ordering::SeqCst)
    }
}

fn contract(
    status: u16,
    outcome: &'static str,
    retriable: &'static str,
    code: &str,
) -> (u16, &'static str, &'static str, String) {
    (status, outcome, retriable, code.to_owned())
}

async fn pair(args: NodeArgs) -> (Pair, Handlers) {
    let handlers = Handlers::default();
    (Pair::connected(args, handlers.registry()).await, handlers)
}

fn duration(text: &str) -> NodeArgs {
    NodeArgs { wait: Some(text.parse().expect("a duration")), ..NodeArgs::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_executed_event_gives_the_handler_s_status_and_return_code() {
    let (pair, _) = pair(NodeArgs::default()).await;
    for way in BOTH_WAYS {
        for (noun, status, code) in [
            ("time", 200, "0"),
            ("teapot", 418, "7"),
            ("fail", 500, "251"),
            ("panic", 500, "251"),
            ("nothing", 404, "255"),
        ] {
            let answer = pair.ask(way, Method::GET, noun, &[]).await;
            assert_eq!(answer.status, status, "{way:?} {noun}");
            assert_eq!(answer.header("x-event-outcome"), "executed", "{way:?} {noun}");
            assert_eq!(answer.header("x-event-return-code"), code, "{way:?} {noun}");
            assert_eq!(answer.header("x-event-retriable"), "", "{way:?} {noun}");
        }
        let failed = pair.ask(way, Method::GET, "fail", &[]).await.json();
        assert_eq!(failed["exception"]["class"], "ValueError");
        assert_eq!(failed["exception"]["message"], "it does not fit");
        let panicked = pair.ask(way, Method::GET, "panic", &[]).await.json();
        assert_eq!(panicked["exception"]["message"], "it broke");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_is_away_is_waited_for_and_then_nothing_was_sent() {
    let pki = Pki::default();
    let known = NodeArgs { clients: Some(CLIENT.parse().expect("a list")), ..duration("50ms") };
    let server = pki.server(known, Registry::new()).await;
    let away = contract(503, "not-sent", "true", "peer-away");
    let answer =
        server.ask(Method::POST, &Pair::path(Way::ToClient, "time"), &[], Bytes::new()).await;
    assert_eq!(answer.contract(), away);
    assert_eq!(answer.header("retry-after"), "1");
    assert_eq!(answer.header("proxy-status"), "restpipe; error=destination_unavailable");

    let nobody =
        std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
    let client = pki.client(CLIENT, nobody, duration("50ms"), Registry::new()).await;
    let answer = client.ask(Method::POST, "/server/time", &[], Bytes::new()).await;
    assert_eq!(answer.contract(), away);
    client.stopped().await;
    server.stopped().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_waits_for_a_peer_that_comes_in_time() {
    let pki = Pki::default();
    let server = pki.server(NodeArgs::default(), Registry::new()).await;
    let pipe = server.pipe.expect("a listener");
    let path = Pair::path(Way::ToClient, "time");
    let (answer, client) = tokio::join!(
        server.get(&path),
        pki.client(CLIENT, pipe, NodeArgs::default(), Registry::new())
    );
    assert_eq!(answer.status, 200);
    client.stopped().await;
    server.stopped().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_pipe_is_an_unknown_outcome_that_only_idempotent_verbs_may_repeat() {
    for way in BOTH_WAYS {
        for (method, retriable, runs) in [
            (Method::POST, "false", 1),
            (Method::PATCH, "false", 1),
            (Method::PUT, "true", 1),
            (Method::DELETE, "true", 1),
            // The pipe itself sends it again, at most twice.
            (Method::GET, "true", 3),
        ] {
            let (pair, handlers) = pair(NodeArgs::default()).await;
            let cut = async {
                for _ in 0..runs {
                    handlers.running.notified().await;
                    pair.near(way).cut();
                }
            };
            let (answer, ()) = tokio::join!(pair.ask(way, method.clone(), "hang", &[]), cut);
            assert_eq!(
                answer.contract(),
                contract(502, "unknown", retriable, "peer-lost"),
                "{way:?} {method}"
            );
            assert_eq!(handlers.started(), runs, "{way:?} {method}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_safe_request_survives_a_broken_pipe_by_being_sent_again() {
    for way in BOTH_WAYS {
        let handlers = Handlers::default();
        let (first, counted) = (handlers.clone(), handlers.clone());
        let registry = Registry::new().on(Verb::Get, "once", move |_| {
            let first = first.clone();
            async move {
                if first.started.fetch_add(1, Ordering::SeqCst) == 0 {
                    first.running.notify_one();
                    std::future::pending::<()>().await;
                }
                Ok(Reply::ok("text/plain", "second"))
            }
        });
        let pair = Pair::connected(NodeArgs::default(), registry).await;
        let cut = async {
            counted.running.notified().await;
            pair.far(way).cut();
        };
        let (answer, ()) = tokio::join!(pair.ask(way, Method::GET, "once", &[]), cut);
        assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, &b"second"[..]), "{way:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_may_have_run_stays_unknown_when_it_cannot_be_sent_again() {
    let handlers = Handlers::default();
    let pki = Pki::default();
    let server = pki.server(NodeArgs::default(), handlers.registry()).await;
    let pipe = server.pipe.expect("a listener");
    let client = pki.client(CLIENT, pipe, duration("300ms"), Registry::new()).await;
    client.connected().await;
    let lose = async {
        handlers.running.notified().await;
        // Its handler has started; nobody is there for a second try.
        server.cut();
        server.stopped().await;
    };
    let (answer, ()) = tokio::join!(client.get("/server/hang"), lose);
    assert_eq!(answer.contract(), contract(502, "unknown", "true", "peer-lost"));
    assert_eq!(handlers.started(), 1);
    client.stopped().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_after_sending_is_an_unknown_outcome_and_stops_the_handler() {
    for way in BOTH_WAYS {
        let (pair, handlers) = pair(NodeArgs::default()).await;
        let timeout = [("restpipe-timeout", "100ms")];
        let answer = pair.ask(way, Method::POST, "hang", &timeout).await;
        assert_eq!(answer.contract(), contract(504, "unknown", "false", "peer-timeout"), "{way:?}");
        let answer = pair.ask(way, Method::GET, "hang", &timeout).await;
        assert_eq!(answer.contract(), contract(504, "unknown", "true", "peer-timeout"), "{way:?}");
        assert_eq!(handlers.started(), 2, "not sent again after the deadline");
        // The next answer comes on the same pipe, behind the cancels.
        assert_eq!(pair.ask(way, Method::GET, "time", &[]).await.status, 200);
        assert!(pair.far(way).router.peers().iter().all(|peer| peer.pipe.serving() == 0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_app_that_takes_no_connections_refuses_and_any_verb_may_be_sent_again() {
    let closed =
        std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
    let args = NodeArgs {
        app: Some(format!("http://{closed}").parse().expect("an app")),
        ..NodeArgs::default()
    };
    let pair = Pair::connected(args, Registry::new()).await;
    for way in BOTH_WAYS {
        let answer = pair.ask(way, Method::POST, "time", &[]).await;
        assert_eq!(answer.contract(), contract(503, "refused", "true", "app-refused"), "{way:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopping_node_finishes_what_runs_and_sends_nothing_new() {
    for way in BOTH_WAYS {
        let release = Arc::new(Notify::new());
        let (held, handlers) = (release.clone(), Handlers::default());
        let running = handlers.running.clone();
        let registry = Registry::new().on(Verb::Post, "slow", move |_| {
            let (held, running) = (held.clone(), running.clone());
            async move {
                running.notify_one();
                held.notified().await;
                Ok(Reply::ok("text/plain", "done"))
            }
        });
        let pair = Pair::connected(NodeArgs::default(), registry).await;
        let near = pair.near(way);
        let stop = async {
            handlers.running.notified().await;
            near.tell_to_stop();
            let refused = loop {
                let answer = pair.ask(way, Method::POST, "slow", &[]).await;
                if answer.contract() != contract(504, "unknown", "false", "peer-timeout") {
                    break answer;
                }
            };
            release.notify_one();
            refused
        };
        let (answer, refused) = tokio::join!(pair.ask(way, Method::POST, "slow", &[]), stop);
        assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, &b"done"[..]), "{way:?}");
        assert_eq!(refused.contract(), contract(503, "not-sent", "true", "draining"), "{way:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_the_limit_of_requests_the_next_one_is_turned_away() {
    let (pair, handlers) = pair(NodeArgs {
        max_requests: Some(1_u32.try_into().expect("a count")),
        ..NodeArgs::default()
    })
    .await;
    for way in BOTH_WAYS {
        let second = async {
            handlers.running.notified().await;
            pair.ask(way, Method::POST, "hang", &[]).await
        };
        let (_, answer) = tokio::join!(
            pair.ask(way, Method::POST, "hang", &[("restpipe-timeout", "1s")]),
            second
        );
        assert_eq!(answer.contract(), contract(429, "not-sent", "true", "busy"), "{way:?}");
        assert_eq!(answer.header("retry-after"), "1");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mistakes_of_the_caller_are_named_and_not_to_be_repeated() {
    let limits = NodeArgs {
        max_body: Some("1KiB".parse().expect("a size")),
        clients: Some(format!("{CLIENT},elsewhere").parse().expect("names")),
        suspended: Some("elsewhere".parse().expect("a name")),
        ..NodeArgs::default()
    };
    let pki = Pki::default();
    let server = pki.server(limits.clone(), Registry::new()).await;
    let only_body = NodeArgs { max_body: limits.max_body, ..NodeArgs::default() };
    let client =
        pki.client(CLIENT, server.pipe.expect("a listener"), only_body, Registry::new()).await;
    let pair = Pair { server, client };
    pair.client.connected().await;
    let no = |status, code| contract(status, "not-sent", "false", code);
    let ask = async |node: &restpipe_tests::nodes::Running, path: &str| -> Answer {
        node.get(path).await
    };

    assert_eq!(ask(&pair.server, "/client/typo/time").await.contract(), no(404, "unknown-peer"));
    assert_eq!(ask(&pair.server, "/client/elsewhere/time").await.contract(), no(403, "suspended"));
    assert_eq!(ask(&pair.server, "/server/time").await.contract(), no(404, "wrong-direction"));
    assert_eq!(ask(&pair.client, "/client/x/time").await.contract(), no(404, "wrong-direction"));
    assert_eq!(ask(&pair.client, "/server/a/../b").await.contract(), no(400, "bad-path"));
    assert_eq!(ask(&pair.client, "/elsewhere").await.contract(), no(404, "no-endpoint"));
    for way in BOTH_WAYS {
        let large = vec![0; 2048];
        let answer = pair.near(way).ask(Method::POST, &Pair::path(way, "echo"), &[], large).await;
        assert_eq!(answer.contract(), no(413, "too-large"), "{way:?}");
        let answer = pair.ask(way, Method::OPTIONS, "time", &[]).await;
        assert_eq!(answer.contract(), no(405, "method-not-allowed"), "{way:?}");
        let long = "x".repeat(20_000);
        let answer = pair.ask(way, Method::GET, "time", &[("x-long", &long)]).await;
        assert_eq!(answer.contract(), no(431, "headers-too-large"), "{way:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_caller_sends_comes_back_as_it_was() {
    let (pair, _) = pair(NodeArgs::default()).await;
    for way in BOTH_WAYS {
        let mime = [("content-type", "application/x-thing; charset=utf-8")];
        let answer = pair
            .near(way)
            .ask(Method::POST, &Pair::path(way, "echo"), &mime, "\u{0}bytes\u{ff}")
            .await;
        assert_eq!(&answer.body[..], "\u{0}bytes\u{ff}".as_bytes());
        assert_eq!(answer.header("content-type"), "application/x-thing; charset=utf-8");
    }
    pair.stopped().await;
}
