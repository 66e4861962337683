//! Several pipes: replicas of one hostname, instances that come again, peers
//! called by their address.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::Method;
use restpipe::presence::Change;
use restpipe::{Registry, Reply, Verb};
use restpipe_config::NodeArgs;
use restpipe_tests::nodes::{CLIENT, Pair, Pki, Running, SOON, Way};
use tokio::sync::Notify;

fn named(instance: &str) -> NodeArgs {
    NodeArgs { instance: Some(instance.parse().expect("a name")), ..NodeArgs::default() }
}

/// `who` says which replica answered; `hold` waits until it is let go.
fn replica(name: &'static str, holding: &Arc<AtomicUsize>, release: &Arc<Notify>) -> Registry {
    let (holding, release) = (holding.clone(), release.clone());
    Registry::new()
        .on(Verb::Get, "who", move |_| async move { Ok(Reply::ok("text/plain", name)) })
        .on(Verb::Get, "hold", move |_| {
            let (holding, release) = (holding.clone(), release.clone());
            async move {
                holding.fetch_add(1, Ordering::SeqCst);
                release.notified().await;
                Ok(Reply::ok("text/plain", name))
            }
        })
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let reached = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, reached).await.unwrap_or_else(|_| panic!("{what} within {SOON:?}"));
}

// On one thread, as nodes are: on two, both calls may be given a pipe before
// either counts.
#[tokio::test]
async fn calls_to_one_hostname_go_to_the_replica_with_the_least_in_flight() {
    let pki = Pki::default();
    let server = pki.server(NodeArgs::default(), Registry::new()).await;
    let pipe = server.pipe.expect("a listener");
    let (holding, release) = (Arc::<AtomicUsize>::default(), Arc::<Notify>::default());
    let first =
        pki.client(CLIENT, pipe, named("first"), replica("first", &holding, &release)).await;
    let second =
        pki.client(CLIENT, pipe, named("second"), replica("second", &holding, &release)).await;
    until("both are connected", || server.router.len() == 2).await;

    let path = Pair::path(Way::ToClient, "hold");
    let (a, b, ()) = tokio::join!(server.get(&path), server.get(&path), async {
        until("both are held", || holding.load(Ordering::SeqCst) == 2).await;
        release.notify_waiters();
    });
    let mut names = [a.body, b.body];
    names.sort();
    assert_eq!(names, [Bytes::from("first"), Bytes::from("second")]);
    let peers = server.get(&format!("/-/peers/{CLIENT}")).await.json();
    assert_eq!(peers["peers"].as_array().map(Vec::len), Some(2));

    // One replica leaves, and the other has it all.
    first.stopped().await;
    for _ in 0..4 {
        assert_eq!(server.get(&Pair::path(Way::ToClient, "who")).await.body, "second");
    }
    second.stopped().await;
    server.stopped().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_whose_app_is_not_up_gets_hardly_any_calls_while_another_answers() {
    const CALLS: usize = 20;
    let pki = Pki::default();
    let server = pki.server(NodeArgs::default(), Registry::new()).await;
    let pipe = server.pipe.expect("a listener");
    let closed =
        std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
    let app = Some(format!("http://{closed}").parse().expect("an app"));
    // Pipes that have nothing to do are taken in the order in which they came.
    let down = NodeArgs { app, ..named("down") };
    let down = pki.client(CLIENT, pipe, down, Registry::new()).await;
    server.connected().await;
    let ours =
        Registry::new().on(Verb::Post, "who", |_| async { Ok(Reply::ok("text/plain", "up")) });
    let up = pki.client(CLIENT, pipe, named("up"), ours).await;
    until("both are connected", || server.router.len() == 2).await;

    for _ in 0..CALLS {
        let path = Pair::path(Way::ToClient, "who");
        let answer = server.ask(Method::POST, &path, &[], Bytes::new()).await;
        assert_eq!((answer.status.as_u16(), answer.body.as_ref()), (200, &b"up"[..]));
    }
    let asked = |instance: &str| {
        let peers = server.router.peers();
        let peer = peers.iter().find(|peer| peer.hello.instance == instance);
        peer.expect("it is connected").pipe.events()
    };
    assert_eq!(asked("up"), CALLS as u64);
    assert!((1..5).contains(&asked("down")), "{}", asked("down"));
    up.stopped().await;
    // There is no other any more.
    let answer =
        server.ask(Method::POST, &Pair::path(Way::ToClient, "who"), &[], Bytes::new()).await;
    assert_eq!(answer.contract().3, "app-refused");
    down.stopped().await;
    server.stopped().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_process_of_an_instance_takes_the_place_of_the_old_one() {
    let pki = Pki::default();
    let server = pki.server(NodeArgs::default(), Registry::new()).await;
    let pipe = server.pipe.expect("a listener");
    let (holding, release) = (Arc::<AtomicUsize>::default(), Arc::<Notify>::default());
    let old = pki.client(CLIENT, pipe, named("same"), replica("old", &holding, &release)).await;
    server.connected().await;

    let path = Pair::path(Way::ToClient, "hold");
    let none = server.ask(Method::POST, &Pair::path(Way::ToClient, "who"), &[], Bytes::new()).await;
    assert_eq!(none.header("x-event-return-code"), "255", "POST has no handler");
    let call = server.ask(Method::GET, &path, &[("restpipe-timeout", "5s")], Bytes::new());
    let replaced = async {
        until("it is held by the old one", || holding.load(Ordering::SeqCst) == 1).await;
        let new = pki.client(CLIENT, pipe, named("same"), replica("new", &holding, &release)).await;
        until("the new one holds it", || holding.load(Ordering::SeqCst) == 2).await;
        release.notify_waiters();
        new
    };
    // The old process's call is lost, and as a GET it is sent again.
    let (answer, new) = tokio::join!(call, replaced);
    assert_eq!(answer.body, "new");
    assert_eq!(server.router.len(), 1);
    new.stopped().await;
    old.stopped().await;
    server.stopped().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_can_be_called_by_the_address_that_it_dialled_from() {
    let pair = Pair::connected(NodeArgs::default(), Registry::new()).await;
    let answer = pair.server.get("/client/127.0.0.1/time").await;
    assert_eq!(answer.status, 200);
    assert!(answer.json()["time_from_client"].is_f64());
    let answer = pair
        .server
        .ask(Method::GET, "/client/127.0.0.9/time", &[("prefer", "wait=0")], Bytes::new())
        .await;
    assert_eq!(answer.contract().3, "peer-away");
    pair.stopped().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_on_all_addresses_takes_pipes_over_ipv4_and_shows_them_as_such() {
    let pki = Pki::default();
    let every = Some("[::]:0".parse().expect("an address"));
    let args = NodeArgs { listen: every, ..NodeArgs::default() };
    let server = pki.server(args, Registry::new()).await;
    let port = server.pipe.expect("a listener").port();
    let pipe = ([127, 0, 0, 1], port).into();
    let client = pki.client(CLIENT, pipe, NodeArgs::default(), Registry::new()).await;
    server.connected().await;
    let peers = server.get("/-/peers").await.json();
    let address = peers["peers"][0]["address"].as_str().unwrap_or_default().to_owned();
    assert!(address.starts_with("127.0.0.1:"), "{address}");
    assert_eq!(server.get("/client/127.0.0.1/time").await.status, 200);
    client.stopped().await;
    server.stopped().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_is_cut_comes_back_by_itself_and_is_told_about() {
    let pair = Pair::connected(NodeArgs::default(), Registry::new()).await;
    let mut changes = pair.server.presence.listen();
    pair.client.cut();
    assert_eq!(pair.server.get(&Pair::path(Way::ToClient, "time")).await.status, 200);
    let first = changes.recv().await.expect("a change");
    let second = changes.recv().await.expect("a change");
    let mut seen = [(first.event, first.peer), (second.event, second.peer)];
    seen.sort_by_key(|(change, _)| change.word());
    assert_eq!(
        seen,
        [(Change::Connect, CLIENT.to_owned()), (Change::Disconnect, CLIENT.to_owned())]
    );
    pair.stopped().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_in_a_handler_leaves_no_trace_but_its_own_answer() {
    let registry = Registry::new().on(Verb::Get, "panic", |_| async { panic!("over") });
    let pair = Pair::connected(NodeArgs::default(), registry).await;
    for _ in 0..100 {
        assert_eq!(
            pair.server
                .get(&Pair::path(Way::ToClient, "panic"))
                .await
                .header("x-event-return-code"),
            "251"
        );
    }
    let idle = |node: &Running| {
        node.router.peers().iter().all(|peer| peer.pipe.serving() + peer.pipe.in_flight() == 0)
    };
    until("nothing is left open", || idle(&pair.server) && idle(&pair.client)).await;
    pair.stopped().await;
}
