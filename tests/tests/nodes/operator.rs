//! What an operator sees and does over its own pipe, and what nobody else can.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use restpipe::presence::{Change, PresenceEvent};
use restpipe::{Registry, Reply, Verb};
use restpipe_config::NodeArgs;
use restpipe_identity::{Credentials, Usage};
use restpipe_pipe::pb;
use restpipe_tests::binary::eventually;
use restpipe_tests::nodes::{Pki, Running, SERVER, SOON};
use restpipe_tests::operator::{OPERATOR, Operator};
use restpipe_tests::site::{HUB, Site};

const SUFFIX: &str = "clients.hub.restpipe";

/// What the operator renders for a server.
fn rendered() -> NodeArgs {
    NodeArgs {
        client_suffix: Some(SUFFIX.parse().expect("a suffix")),
        operator_name: Some(OPERATOR.parse().expect("a name")),
        ..NodeArgs::default()
    }
}

async fn client(pki: &Pki, name: &str, server: &Running) -> Running {
    let pipe = server.pipe.expect("a listener");
    pki.client(&format!("{name}.{SUFFIX}"), pipe, NodeArgs::default(), Registry::new()).await
}

async fn operator_as(pki: &Pki, server: &Running, instance: &str) -> Result<Operator, String> {
    let identity = pki.identity(OPERATOR, Usage::Client);
    let pipe = server.pipe.expect("a listener");
    let dialled = Operator::dial(pipe, SERVER, &identity, instance).await;
    dialled.map_err(|error| format!("{}: {error}", error.reason()))
}

async fn operator(pki: &Pki, server: &Running) -> Operator {
    operator_as(pki, server, "operator-1").await.expect("a pipe")
}

/// Waits for the pipe of a refused peer to say why.
async fn farewell(dialled: Result<Operator, String>) -> String {
    match dialled {
        Err(text) => text,
        Ok(operator) => {
            let why = tokio::time::timeout(SOON, operator.pipe.ended()).await.expect("an end");
            format!("{}: {why}", why.reason())
        }
    }
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let reached = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, reached).await.unwrap_or_else(|_| panic!("{what} within {SOON:?}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_sees_who_is_there_and_who_comes_and_goes_and_is_no_client_itself() {
    let pki = Pki::default();
    // Room for one client, which an operator does not take.
    let max_pipes = Some(1_u32.try_into().expect("a count"));
    let server = pki.server(NodeArgs { max_pipes, ..rendered() }, Registry::new()).await;
    let operator = operator(&pki, &server).await;
    let mut events = operator.events().await;
    assert_eq!(events.next().await.as_deref(), Some(": what is, then what changes"));
    assert_eq!(operator.peers().await["peers"], serde_json::json!([]));

    let fs = client(&pki, "fs", &server).await;
    let (word, event) = events.event().await;
    assert_eq!((word.as_str(), &event["peer"]), ("connect", &"fs".into()));
    let seen = operator.peers().await;
    let peer = &seen["peers"][0];
    assert_eq!((&peer["hostname"], &peer["state"]), (&"fs".into(), &"open".into()));
    assert_eq!(peer["instance"], event["instance"]);
    let length = |value: &serde_json::Value| value.as_str().map(str::len);
    assert_eq!((length(&peer["boot_id"]), length(&seen["boot_id"])), (Some(32), Some(32)));
    assert_eq!(length(&peer["serial"]), Some(32));
    // Both trust the one root there is, and the peer is of it.
    assert_eq!(seen["identity"]["trusts"], peer["trusted_roots"]);
    assert_eq!(peer["trusted_roots"], serde_json::json!([peer["root"]]));
    assert_eq!(seen["names_version"], 0);
    assert!(seen["instance"].is_string() && seen["identity"]["serial"].is_string());
    // Made after the server's, and before one that is made now: all live equally long.
    let later = restpipe_identity::rfc3339(pki.identity("later", Usage::Client).leaf().not_after);
    let end = peer["certificate_not_after"].as_str().expect("a time");
    assert!(seen["identity"]["not_after"].as_str().is_some_and(|server| server <= end), "{end}");
    assert!(end <= later.as_str(), "{end}, {later}");
    assert!(server.router.operators()[0].is_operator());

    // Nobody calls it, and no table has it.
    assert_eq!(server.get("/-/peers").await.json()["peers"].as_array().map(Vec::len), Some(1));
    for name in [OPERATOR, "operator", "restpipe"] {
        let path = format!("/client/{name}/time");
        let answer = server.ask(Method::GET, &path, &[("prefer", "wait=0")], Bytes::new()).await;
        assert_eq!(answer.contract().1, "not-sent", "{name}");
    }
    assert_eq!(server.get("/client/127.0.0.1/time").await.status, 200, "that is the client");
    fs.stopped().await;
    let (word, event) = events.event().await;
    assert_eq!((word.as_str(), &event["peer"]), ("disconnect", &"fs".into()));
    server.stopped().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_that_an_operator_pushes_count_at_once() {
    let pki = Pki::default();
    let server = pki.server(rendered(), Registry::new()).await;
    let operator = operator(&pki, &server).await;
    let fs = client(&pki, "fs", &server).await;
    let plant = client(&pki, "plant", &server).await;
    until("both are connected", || server.router.len() == 2).await;
    let mut events = operator.events().await;
    let _ = (events.event().await, events.event().await);

    assert_eq!(operator.push(3, &["fs", "plant"], &["fs"]).await, 3);
    let (word, event) = events.event().await;
    assert_eq!((word.as_str(), &event["peer"]), ("disconnect", &"fs".into()));
    assert_eq!(operator.peers().await["names_version"], 3);
    let refused = server.get("/client/fs/time").await;
    assert_eq!(refused.contract(), (403, "not-sent", "false", "suspended".to_owned()));
    let none = fs.ask(Method::GET, "/server/time", &[("prefer", "wait=0")], Bytes::new()).await;
    assert_eq!(none.contract(), (503, "not-sent", "true", "peer-away".to_owned()));
    assert_eq!(server.get("/client/plant/time").await.status, 200, "the other is left alone");

    // An older word, of an operator that has been succeeded, does not count.
    assert_eq!(operator.push(2, &["fs", "plant"], &[]).await, 3);
    assert_eq!(server.get("/client/fs/time").await.contract().3, "suspended");
    // It comes back by itself, after the pause that its refusal asked for.
    assert_eq!(operator.push(4, &["fs"], &[]).await, 4);
    let (word, event) = events.event().await;
    assert_eq!((word.as_str(), &event["peer"]), ("disconnect", &"plant".into()));
    let (word, event) = events.event().await;
    assert_eq!((word.as_str(), &event["peer"]), ("connect", &"fs".into()));
    assert_eq!(server.get("/client/fs/time").await.status, 200);
    let gone = server.get("/client/plant/time").await;
    assert_eq!(gone.contract(), (404, "not-sent", "false", "unknown-peer".to_owned()));
    for node in [fs, plant, server] {
        node.stopped().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn for_a_client_the_operator_s_nouns_are_ordinary_ones() {
    let pki = Pki::default();
    let registry = Registry::new()
        .on(Verb::Put, "-/names", |_| async { Ok(Reply::ok("text/plain", "the app's")) });
    let server = pki.server(rendered(), registry).await;
    // It ends as the operator's name does, and is below the suffix all the same.
    let fs = client(&pki, OPERATOR, &server).await;
    server.connected().await;
    let lists = r#"{"version": 9, "clients": [], "suspended": ["operator.restpipe"]}"#;
    let answer = fs.ask(Method::PUT, "/server/-/names", &[], lists).await;
    assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, &b"the app's"[..]));
    for noun in ["-/peers", "-/events"] {
        let answer = fs.get(&format!("/server/{noun}")).await;
        assert_eq!((answer.status.as_u16(), answer.header("x-event-return-code")), (404, "255"));
    }
    assert!(server.router.operators().is_empty());
    assert_eq!(server.router.peers()[0].hostname.as_ref(), OPERATOR);
    fs.stopped().await;
    server.stopped().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_operator_asks_wrongly_is_answered_with_a_sentence_and_changes_nothing() {
    let pki = Pki::default();
    let server = pki.server(rendered(), Registry::new()).await;
    let operator = operator(&pki, &server).await;
    assert_eq!(operator.push(5, &["fs"], &[]).await, 5);
    for (body, words) in [
        ("", "EOF"),
        ("{}", "missing field"),
        (r#"{"version": 6, "clients": ["*"], "suspended": []}"#, "give a DNS name"),
        (r#"{"version": 6, "clients": [], "suspended": [], "more": 1}"#, "unknown field"),
    ] {
        let (status, answer) = operator.ask(pb::Verb::Put, "-/names", body).await;
        let message = answer["exception"]["message"].as_str().unwrap_or_default();
        assert_eq!(status, 400, "{answer}");
        assert!(message.contains("\"suspended\": [NAMES]") && message.contains(words), "{message}");
    }
    let large = format!(r#"{{"version": 6, "clients": [{}"x"]}}"#, "\"x\",".repeat(300_000));
    let (status, answer) = operator.ask(pb::Verb::Put, "-/names", large).await;
    assert_eq!(status, 413, "{answer}");
    for (verb, noun) in [
        (pb::Verb::Get, "-/names"),
        (pb::Verb::Put, "-/peers"),
        (pb::Verb::Head, "-/events"),
        (pb::Verb::Get, "time"),
        (pb::Verb::Get, ""),
    ] {
        assert_eq!(operator.ask(verb, noun, []).await.0, 404, "{verb:?} {noun}");
    }
    assert_eq!(operator.peers().await["names_version"], 5);

    // As many as fit node.toml fit here.
    let many: Vec<String> = (0..50_000).map(|number| format!("client-{number:08}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(operator.push(6, &many, &[]).await, 6);
    assert!(server.router.admit("client-00049999").is_ok());
    server.stopped().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_listed_only_and_nobody_listed_nobody_comes_in_but_the_operator() {
    let pki = Pki::default();
    let server =
        pki.server(NodeArgs { listed_only: Some(true), ..rendered() }, Registry::new()).await;
    let fs = client(&pki, "fs", &server).await;
    let operator = operator(&pki, &server).await;
    let mut told = fs.presence.listen();
    // It may come behind a pipe that was up for a moment.
    let refused = async {
        while told.recv().await.expect("a change").reason.as_deref() != Some("identity") {}
    };
    tokio::time::timeout(SOON, refused).await.expect("it is refused");
    assert_eq!(server.router.len(), 0);
    let unknown = server.get("/client/fs/time").await;
    assert_eq!(unknown.contract(), (404, "not-sent", "false", "unknown-peer".to_owned()));
    operator.push(1, &["fs"], &[]).await;
    server.connected().await;
    operator.push(2, &[], &[]).await;
    until("it is gone again", || server.router.is_empty()).await;
    fs.stopped().await;
    server.stopped().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_no_operator_is_named_its_certificate_is_that_of_a_stranger() {
    let pki = Pki::default();
    let server = pki.server(NodeArgs { operator_name: None, ..rendered() }, Registry::new()).await;
    let said = farewell(operator_as(&pki, &server, "operator-1").await).await;
    assert!(said.starts_with("identity: "), "{said}");
    assert!(said.contains("is not below clients.hub.restpipe"), "{said}");
    assert!(server.router.is_empty() && server.router.operators().is_empty());
    // A server's certificate of that name is for another role.
    let server = pki.server(rendered(), Registry::new()).await;
    let identity = pki.identity("other.restpipe", Usage::Client);
    let pipe = server.pipe.expect("a listener");
    let dialled = Operator::dial(pipe, SERVER, &identity, "operator-1").await;
    let said = farewell(dialled.map_err(|error| format!("{}: {error}", error.reason()))).await;
    assert!(said.starts_with("identity: "), "{said}");
    let wrong = Operator::dial(pipe, "other", &identity, "operator-1").await;
    assert_eq!(wrong.map(|_| ()).map_err(|error| error.reason()), Err("wrong_name"));
    server.stopped().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operators_are_few_and_a_new_process_of_one_takes_its_place() {
    let pki = Pki::default();
    let server = pki.server(rendered(), Registry::new()).await;
    let mut all = Vec::new();
    for number in 0..8 {
        let instance = format!("operator-{number}");
        all.push(operator_as(&pki, &server, &instance).await.expect("a pipe"));
    }
    until("all are there", || server.router.operators().len() == 8).await;
    let said = farewell(operator_as(&pki, &server, "operator-8").await).await;
    assert!(said.starts_with("full: "), "{said}");
    all[7].pipe.close("cut by the test");
    until("one is gone", || server.router.operators().len() == 7).await;
    // The same instance, as the server sees it dialled anew.
    let again = operator_as(&pki, &server, "operator-3").await.expect("a pipe");
    let why = tokio::time::timeout(SOON, all[3].pipe.ended()).await.expect("it is replaced");
    until("none is there twice", || server.router.operators().len() == 7).await;
    assert_eq!(again.peers().await["peers"], serde_json::json!([]), "{why}");
    server.stopped().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endless_stream_does_not_hold_a_server_that_stops() {
    let pki = Pki::default();
    let drain = Some("60s".parse().expect("a duration"));
    let server = pki.server(NodeArgs { drain, ..rendered() }, Registry::new()).await;
    let operator = operator(&pki, &server).await;
    let mut events = operator.events().await;
    assert!(events.next().await.is_some());
    tokio::time::timeout(Duration::from_secs(5), server.stopped()).await.expect("it stops");
    assert_eq!(events.next().await, None, "the stream has come to its end");
    let why = tokio::time::timeout(SOON, operator.pipe.ended()).await.expect("the pipe ends");
    assert_eq!(why.reason(), "drained");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_that_reads_slowly_misses_changes_and_is_told_so() {
    let pki = Pki::default();
    let server = pki.server(rendered(), Registry::new()).await;
    let operator = operator(&pki, &server).await;
    let mut events = operator.events().await;
    assert!(events.next().await.is_some());
    // More than pipe and backlog hold together, while nobody reads.
    for number in 0..20_000 {
        server.presence.tell(PresenceEvent::new(Change::Idle, &format!("c{number}")));
        if number % 64 == 0 {
            tokio::task::yield_now().await;
        }
    }
    let mut missed = 0;
    loop {
        let text = events.next().await.expect("it goes on");
        let count =
            text.strip_prefix(": ").and_then(|text| text.strip_suffix(" changes were missed"));
        missed += count.map_or(0, |count| count.parse::<usize>().expect("a number"));
        if text.contains("\"c19999\"") {
            break;
        }
    }
    assert!(missed > 1_000, "{missed}");
    server.stopped().await;
}

#[test]
fn older_names_in_a_file_do_not_undo_what_an_operator_pushed_and_newer_ones_do() {
    let site = Site::new();
    let toml = |version: u64, clients: &str| {
        let text = format!(
            "operator-name = \"{OPERATOR}\"\nlisted-only = true\nnames-version = {version}\nclients = [{clients}]\n"
        );
        let draft = site.file("draft", text);
        std::fs::rename(draft, site.path(HUB).join("node.toml")).expect("it takes its place");
    };
    site.identity("server", HUB);
    toml(1, "\"fs\"");
    let server = site.server().start();
    let fs = site.client("fs", &server).start();
    fs.connected();
    assert_eq!(fs.status()["server"], server.pipe().to_string());
    assert_eq!(fs.status()["server_name"], HUB);

    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let identity = identity_of(&site.identity("client", OPERATOR));
    let dial = Operator::dial(server.pipe(), HUB, &identity, "operator-1");
    let operator = runtime.block_on(dial).expect("a pipe");
    assert_eq!(runtime.block_on(operator.push(3, &[], &[])), 3);
    let names = || server.status()["peers"].as_array().map(Vec::len);
    eventually("it is cut off", || names() == Some(0));
    fs.log().line(&["not among the clients"]);

    let from = server.log().len();
    toml(2, "\"fs\", \"other\"");
    let line = server.log().line_since(from, &["names that may connect have changed"]);
    assert_eq!((&line["version"], &line["clients"]), (&3.into(), &0.into()), "{line}");
    let from = server.log().len();
    toml(4, "\"fs\"");
    let line = server.log().line_since(from, &["names that may connect have changed"]);
    assert_eq!((&line["version"], &line["clients"]), (&4.into(), &1.into()), "{line}");
    fs.connected();
    assert_eq!(runtime.block_on(operator.peers())["names_version"], 4);
}

fn identity_of(dir: &Path) -> Credentials {
    Credentials::load(dir, Usage::Client, std::time::SystemTime::now()).expect("an identity")
}
