//! The operator's pipes to real nodes, over TLS on loopback.

use std::collections::BTreeSet;
use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use restpipe::Registry;
use restpipe::presence::{Change, PresenceEvent};
use restpipe_config::{NodeArgs, OrOff, TcpAddress};
use restpipe_identity::{CertificateAuthority, Overwrite, Usage, save_ca};
use restpipe_operator::presence::{Followed, Presence, ProbeSeen, Prober, ServerPod};
use restpipe_operator::seen::{Key, Names, ServerPodSeen, ServerPodState, Trouble};
use restpipe_pipe::pb::ReplyHead;
use restpipe_pipe::{Incoming, PipeConfig, Role, Service};
use restpipe_tests::forged::{Fault, forge, listen};
use restpipe_tests::nodes::{Pki, Running, SERVER, SOON, loopback};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

const SUFFIX: &str = "clients.hub.shop.restpipe";

/// A server as the operator renders it.
async fn server(pki: &Pki, args: NodeArgs) -> Running {
    let args = NodeArgs {
        client_suffix: Some(SUFFIX.parse().expect("a suffix")),
        operator_name: Some("operator.restpipe".parse().expect("a name")),
        ..args
    };
    pki.server(args, Registry::new()).await
}

async fn client(pki: &Pki, name: &str, server: SocketAddr, args: NodeArgs) -> Running {
    let args = NodeArgs { instance: Some(format!("{name}-pod").parse().expect("a name")), ..args };
    pki.client(&format!("{name}.{SUFFIX}"), server, args, Registry::new()).await
}

fn key() -> Key {
    Key { namespace: "shop".into(), name: "hub".into() }
}

fn names(version: u64, clients: &[&str], suspended: &[&str]) -> Names {
    let set = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect();
    Names { version, clients: set(clients), suspended: set(suspended) }
}

fn pod(name: &str, address: SocketAddr) -> ServerPod {
    ServerPod { name: name.into(), uid: format!("uid of {name}"), address }
}

/// One pod at `address`, with everything of `pki`.
fn followed(pki: &Pki, address: SocketAddr, names: Names) -> Followed {
    let ca = pki.authority();
    let (cert, key) = (ca.cert_pem().as_bytes(), ca.key_pem());
    let authority = CertificateAuthority::from_pem(cert, key.expose().as_bytes()).expect("a CA");
    Followed {
        pods: vec![pod("hub-0", address)],
        server_name: SERVER.into(),
        authority: Arc::new(authority),
        bundle: ca.cert_pem().to_owned(),
        names,
    }
}

/// An operator, and what it is told of.
struct Watch {
    presence: Presence,
    changes: mpsc::UnboundedReceiver<Key>,
}

impl Default for Watch {
    fn default() -> Self {
        let (told, changes) = mpsc::unbounded_channel();
        let on_change = move |key: &Key| {
            let _ = told.send(key.clone());
        };
        Self { presence: Presence::new(on_change, "operator-0".into()), changes }
    }
}

impl Watch {
    fn follow(&self, followed: Followed) {
        self.presence.follow(key(), followed);
    }

    /// Waits, change by change, until `found` finds something in what is seen.
    async fn until<T>(&mut self, found: impl Fn(&[ServerPodSeen]) -> Option<T>) -> T {
        let mut seen = Vec::new();
        let look = async {
            loop {
                seen = self.presence.seen(&key());
                if let Some(found) = found(&seen) {
                    return found;
                }
                assert_eq!(self.changes.recv().await, Some(key()));
            }
        };
        let found = tokio::time::timeout(SOON, look).await;
        found.unwrap_or_else(|_| panic!("not within {SOON:?}: {seen:?}"))
    }

    /// Waits until the pod tells something that `good` likes.
    async fn state(&mut self, good: impl Fn(&ServerPodState) -> bool) -> ServerPodState {
        let told = |seen: &[ServerPodSeen]| seen.first()?.state.as_ref().ok().cloned();
        self.until(|seen| told(seen).filter(&good)).await
    }

    /// Waits until the pod is in trouble for `reason`.
    async fn trouble(&mut self, reason: &str) -> Trouble {
        let trouble = |seen: &[ServerPodSeen]| seen.first()?.state.as_ref().err().cloned();
        self.until(|seen| trouble(seen).filter(|trouble| trouble.reason == reason)).await
    }

    /// The value of a metric.
    fn counted(&self, name: &str, label: &str) -> f64 {
        let registry = prometheus::Registry::new();
        self.presence.metrics().register(&registry).expect("free names");
        let families = registry.gather();
        let family = families.iter().find(|family| family.name() == name);
        let metrics = family.map(|family| family.get_metric()).unwrap_or_default();
        let has = |metric: &&prometheus::proto::Metric| {
            label.is_empty() || metric.get_label().iter().any(|pair| pair.value() == label)
        };
        let found = metrics.iter().find(has);
        found
            .map_or(0.0, |metric| metric.get_counter().get_value() + metric.get_gauge().get_value())
    }
}

/// Waits for a condition that only the router or a counter tells.
async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let reached = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    within(SOON, what, reached).await;
}

async fn within<T>(time: Duration, what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(time, future).await.unwrap_or_else(|_| panic!("{what} within {time:?}"))
}

/// An address where nobody listens.
fn nobody() -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    listener.local_addr().expect("an address")
}

/// What a client that does not reach its server says, and ends then.
async fn failing(pki: &Pki, server: SocketAddr, args: NodeArgs) -> ProbeSeen {
    let node = client(pki, "fs", server, args).await;
    let found = async {
        loop {
            // Each time another one: answers are kept for a while.
            let seen = Prober::default().probe_at(node.admin.expect("a port")).await;
            if let Some(seen) = seen.ok().filter(|seen| seen.last_failure.is_some()) {
                return seen;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let seen = within(SOON, "a failed dial", found).await;
    node.stopped().await;
    seen
}

fn with_admin() -> NodeArgs {
    NodeArgs { admin: Some(OrOff::On(loopback())), ..NodeArgs::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_connected_is_seen_with_certificate_and_roots_and_told_once() {
    let pki = Pki::default();
    let server = server(&pki, NodeArgs::default()).await;
    let address = server.pipe.expect("a listener");
    let mut watch = Watch::default();
    assert_eq!(watch.presence.seen(&key()), []);
    watch.follow(followed(&pki, address, Names::default()));
    let root = pki.authority().info().fingerprint.clone();
    let roots = BTreeSet::from([root.clone()]);

    let alone = watch.state(|_| true).await;
    assert_eq!((alone.pipes.len(), alone.names_version), (0, 0));
    assert_eq!((&alone.root, &alone.trusts), (&root, &roots));
    assert_eq!(alone.serial.len(), 32);
    assert_eq!(watch.counted("restpipe_operator_pipes", ""), 1.0);
    assert!(server.router.is_empty(), "the operator is no client");

    let heartbeat = Some("500ms".parse().expect("a duration"));
    let fs = client(&pki, "fs", address, NodeArgs { heartbeat, ..with_admin() }).await;
    let told = watch.state(|state| !state.pipes.is_empty()).await;
    let [pipe] = &told.pipes[..] else { panic!("{told:?}") };
    assert_eq!((pipe.hostname.as_str(), pipe.instance.as_str()), ("fs", "fs-pod"));
    assert_eq!((pipe.server_pod.as_str(), &pipe.root), ("hub-0", &root));
    assert_eq!((&pipe.trusts, pipe.serial.len()), (&roots, 32));
    assert!(pipe.address.starts_with("127.0.0.1:"), "{}", pipe.address);
    let told = Prober::default().probe_at(fs.admin.expect("a port")).await.expect("an answer");
    assert_eq!(pipe.serial, told.serial);

    // Heartbeats, calls and looks that find nothing new are not told.
    let heartbeats = || fs.recorder.metrics().render().unwrap_or_default();
    let three = || {
        !["0", "1", "2"]
            .iter()
            .any(|few| heartbeats().contains(&format!("restpipe_heartbeat_seconds_count {few}\n")))
    };
    eventually("three heartbeats", three).await;
    assert_eq!(fs.get("/server/time").await.status, 200);
    server.presence.tell(PresenceEvent::new(Change::Connect, "nobody"));
    assert!(watch.changes.try_recv().is_err());
    watch.follow(followed(&pki, address, names(1, &["fs"], &[])));
    watch.state(|state| state.names_version == 1).await;
    assert!(watch.changes.try_recv().is_err());

    fs.stopped().await;
    watch.state(|state| state.pipes.is_empty()).await;
    watch.presence.forget(&key());
    assert_eq!(watch.presence.seen(&key()), []);
    eventually("the pipe is closed", || server.router.operators().is_empty()).await;
    server.stopped().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_are_pushed_at_once_and_again_to_a_server_that_was_restarted() {
    let pki = Pki::default();
    let first = server(&pki, NodeArgs::default()).await;
    let address = first.pipe.expect("a listener");
    let mut watch = Watch::default();
    watch.follow(followed(&pki, address, names(1, &["fs", "plant"], &[])));
    watch.state(|state| state.names_version == 1).await;
    let fs = client(&pki, "fs", address, NodeArgs::default()).await;
    let plant = client(&pki, "plant", address, NodeArgs::default()).await;
    watch.state(|state| state.pipes.len() == 2).await;

    let mut changes = first.router.changes();
    watch.follow(followed(&pki, address, names(2, &["fs", "plant"], &["fs"])));
    let cut_off = async {
        while first.router.len() > 1 {
            changes.changed().await.expect("the router lives");
        }
    };
    within(Duration::from_secs(1), "the suspended client is cut off", cut_off).await;
    let told = watch.state(|state| state.names_version == 2 && state.pipes.len() == 1).await;
    assert_eq!(told.pipes[0].hostname, "plant");
    // Older names are not sent.
    watch.follow(followed(&pki, address, names(1, &[], &[])));
    let pushes = || watch.counted("restpipe_operator_names_pushes_total", "taken");
    assert_eq!(pushes(), 2.0);
    watch.follow(followed(&pki, address, names(2, &["fs", "plant"], &["fs"])));

    first.stopped().await;
    let trouble = watch.trouble("ConnectionRefused").await;
    assert!(trouble.detail.contains("pod hub-0 was not reached"), "{}", trouble.detail);
    assert_eq!(watch.counted("restpipe_operator_pipes", ""), 0.0);
    assert!(watch.counted("restpipe_operator_dial_failures_total", "refused") >= 1.0);
    let again = NodeArgs { listen: Some(TcpAddress(address)), ..NodeArgs::default() };
    let second = server(&pki, again).await;
    // Without node.toml it knows no names at first, and both may come in for a moment.
    let only_plant = |state: &ServerPodState| {
        state.names_version == 2 && state.pipes.iter().map(|pipe| &pipe.hostname).eq(["plant"])
    };
    watch.state(only_plant).await;
    assert!(second.router.admit("fs").is_err());

    watch.presence.shutdown().await;
    assert_eq!(watch.presence.seen(&key()), []);
    eventually("the pipe is closed", || second.router.operators().is_empty()).await;
    for node in [fs, plant, second] {
        node.stopped().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_keeps_the_operator_from_a_pod_has_a_reason_and_its_cure_works_at_once() {
    let (pki, other) = (Pki::default(), Pki::default());
    let server = server(&pki, NodeArgs::default()).await;
    let address = server.pipe.expect("a listener");
    let mut watch = Watch::default();
    watch.follow(followed(&other, address, Names::default()));
    let trouble = watch.trouble("UnknownCa").await;
    assert!(trouble.detail.contains("add that CA"), "{}", trouble.detail);

    // The server does not know the CA that signs for the operator.
    let mut mixed = followed(&other, address, Names::default());
    mixed.bundle += pki.authority().cert_pem();
    watch.presence.forget(&key());
    watch.follow(mixed);
    let trouble = watch.trouble("UnknownCa").await;
    assert!(trouble.detail.contains("refused this node's certificate"), "{}", trouble.detail);

    let server_name = "other.shop.servers.restpipe".to_owned();
    watch.follow(Followed { server_name, ..followed(&pki, address, Names::default()) });
    watch.trouble("NameMismatch").await;
    let without_key = Followed {
        bundle: other.authority().cert_pem().to_owned(),
        ..followed(&pki, address, Names::default())
    };
    watch.follow(without_key);
    watch.trouble("CaUnavailable").await;
    watch.follow(followed(&pki, address, Names::default()));
    watch.state(|_| true).await;

    let client_suffix = Some(SUFFIX.parse().expect("a suffix"));
    let args = NodeArgs { client_suffix, ..NodeArgs::default() };
    let stranger = pki.server(args, Registry::new()).await;
    watch.follow(followed(&pki, stranger.pipe.expect("a listener"), Names::default()));
    let seen = watch.presence.seen(&key());
    assert!(
        seen.iter().all(|seen| seen.state.is_err()),
        "another address is another pod: {seen:?}"
    );
    let trouble = watch.trouble("CertificateRefused").await;
    assert!(trouble.detail.contains("operator.restpipe"), "{}", trouble.detail);
    stranger.stopped().await;
    server.stopped().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_too_many_pods_only_some_are_followed() {
    let pki = Pki::default();
    let mut watch = Watch::default();
    let pods = (0..40).map(|number| pod(&format!("hub-{number:02}"), nobody())).collect();
    watch.follow(Followed { pods, ..followed(&pki, nobody(), Names::default()) });
    let seen = watch.until(|seen| (seen.len() >= 16).then(|| seen.to_vec())).await;
    let last = seen.last().expect("some");
    assert_eq!((seen.len(), last.pod.as_str()), (16, "hub-15"));
    assert!(seen.iter().all(|seen| seen.state.is_err()));
    watch.presence.shutdown().await;
}

/// A pod of somebody's own making: its table never ends, and it takes names.
struct Forged(mpsc::UnboundedSender<Bytes>);

impl Service for Forged {
    fn serve(&self, event: Incoming) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let Incoming { head, mut body, responder, .. } = event;
        let (told, ok) = (self.0.clone(), ReplyHead { status: 200, ..ReplyHead::default() });
        Box::pin(async move {
            if head.noun == "-/names" {
                let _ = told.send(body.read(1024).await.expect("names"));
                let _ = responder.reply(ok, Bytes::from_static(b"{\"version\": 7}"));
                return;
            }
            let mut out = responder.reply_streamed(ok, Bytes::new()).expect("a small head");
            if head.noun == "-/events" {
                return std::future::pending().await;
            }
            while out.send(Bytes::from_static(&[b' '; 16 * 1024])).await.is_ok() {}
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_whose_table_has_no_end_is_in_trouble_and_is_told_the_names_all_the_same() {
    let pki = Pki::default();
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let identity = pki.identity(SERVER, Usage::Server).server_config().expect("a configuration");
    let (told, mut pushed) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("the operator");
        let stream = restpipe_pipe::Heard::new(stream);
        let stream = TlsAcceptor::from(identity).accept(stream).await.expect("TLS");
        let service = Arc::new(Forged(told));
        let (_pipe, driver) =
            restpipe_pipe::open(stream, Role::Acceptor, PipeConfig::default(), service);
        driver.await
    });
    let mut watch = Watch::default();
    watch.follow(followed(&pki, address, names(7, &["fs"], &[])));
    let trouble = watch.trouble("NotConnected").await;
    assert!(trouble.detail.contains("larger than 25165824 bytes"), "{}", trouble.detail);
    let names = within(SOON, "names are told", pushed.recv()).await.expect("names");
    assert_eq!(names, &br#"{"version":7,"clients":["fs"],"suspended":[]}"#[..]);
    watch.presence.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_links_pod_tells_wrong_times_and_silence_apart() {
    let pki = Pki::default();
    let ca = tempfile::tempdir().expect("a directory");
    save_ca(ca.path(), pki.authority(), Overwrite::Refuse).expect("it can be written");
    for (fault, reason) in
        [(Fault::Expired, "CertificateExpired"), (Fault::NotYetValid, "ClockSkew")]
    {
        let server = listen(&forge(ca.path(), "server", SERVER, fault));
        let trouble = failing(&pki, server, with_admin()).await.state().expect_err("no pipe");
        assert_eq!(trouble.reason, reason, "{}", trouble.detail);
        // What changes with every try would have the status written at every look.
        assert!(!trouble.detail.contains("clock ("), "{}", trouble.detail);
    }
    // Connections come up, and nobody is behind them.
    let silent = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let address = silent.local_addr().expect("an address");
    let trouble = failing(&pki, address, with_admin()).await.state().expect_err("no pipe");
    assert_eq!(trouble.reason, "ServerSilent", "{}", trouble.detail);
    assert!(trouble.detail.contains("NetworkPolicy"), "{}", trouble.detail);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_links_pod_says_why_it_is_not_connected() {
    let pki = Pki::default();
    let server = server(&pki, NodeArgs::default()).await;
    let address = server.pipe.expect("a listener");
    let seen = failing(&pki, nobody(), with_admin()).await;
    assert!(!seen.ready && seen.pipes.is_empty());
    assert_eq!((seen.name, seen.instance), (format!("fs.{SUFFIX}"), "fs-pod".to_owned()));
    assert!(seen.not_after.is_some() && seen.trusts.len() == 1 && seen.serial.len() == 32);
    let failure = seen.last_failure.expect("a failure");
    assert_eq!(failure.trouble.reason, "ConnectionRefused");
    assert!(!failure.at.is_empty());
    let trouble =
        failing(&Pki::default(), address, with_admin()).await.state().expect_err("no pipe");
    assert_eq!(trouble.reason, "UnknownCa");

    let server_name = Some("other.shop.servers.restpipe".parse().expect("a name"));
    let misnamed = NodeArgs { server_name, ..with_admin() };
    let trouble = failing(&pki, address, misnamed).await.state().expect_err("no pipe");
    assert_eq!(trouble.reason, "NameMismatch");

    let fs = client(&pki, "fs", address, with_admin()).await;
    fs.connected().await;
    let seen = Prober::default().probe_at(fs.admin.expect("a port")).await.expect("an answer");
    assert!(seen.ready && seen.last_failure.is_none());
    let pipes = seen.state().expect("it is connected");
    assert_eq!((pipes.len(), pipes[0].address.clone()), (1, address.to_string()));

    let silent = Prober::default().probe_at(nobody()).await.expect_err("no answer");
    assert_eq!(silent.reason, "ClientSilent");
    fs.stopped().await;
    server.stopped().await;
}
