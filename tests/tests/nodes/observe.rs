//! What a node tells about itself: metrics, statsd, logs, status.

use std::collections::BTreeSet;
use std::net::UdpSocket;

use restpipe_tests::binary::{SOON, eventually};
use restpipe_tests::http::{Ask, Connection, get};
use restpipe_tests::site::{CLIENT, HUB, Site};

const SECRET_NOUN: &str = "very-own-noun";

#[test]
fn metrics_have_fixed_labels_and_name_no_noun_and_no_host() {
    let site = Site::new();
    let (server, client) = site.pair();
    assert_eq!(get(client.gateway(), "/server/time").status, 200);
    assert_eq!(get(client.gateway(), &format!("/server/{SECRET_NOUN}")).status, 404);
    assert_eq!(get(server.gateway(), "/client/fs/time").status, 200);
    assert_eq!(get(client.gateway(), "/server/..").status, 400);
    let _ = Connection::open(&restpipe_tests::http::At::Tcp(server.pipe()));
    let metrics = || get(&server.admin(), "/metrics");
    eventually("the handshake that was none is counted", || {
        metrics().text().contains("restpipe_handshakes_failed_total{")
    });
    let answer = metrics();
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4"));
    let (at_server, at_client) = (answer.text(), get(&client.admin(), "/metrics").text());
    for line in [
        r#"restpipe_events_total{code="ok",direction="in",outcome="executed",verb="GET"} 1"#,
        r#"restpipe_events_total{code="no-handler",direction="in",outcome="executed",verb="GET"} 1"#,
        r#"restpipe_events_total{code="ok",direction="out",outcome="executed",verb="GET"} 1"#,
        "restpipe_pipes 1",
        "restpipe_pipes_opened_total 1",
        r#"restpipe_event_seconds_count{direction="in"} 2"#,
    ] {
        assert!(at_server.lines().any(|have| have == line), "{line} in {at_server}");
    }
    for line in [
        r#"restpipe_gateway_refused_total{code="bad-path"} 1"#,
        r#"restpipe_dials_total{result="ok"} 1"#,
        "restpipe_heartbeat_seconds_count ",
        "restpipe_certificate_not_after_seconds ",
        "process_resident_memory_bytes ",
    ] {
        assert!(at_client.lines().any(|have| have.starts_with(line)), "{line} in {at_client}");
    }
    let labels: BTreeSet<&str> = [&at_server, &at_client]
        .into_iter()
        .flat_map(|text| text.lines())
        .filter_map(|line| Some(line.split_once('{')?.1.split_once('}')?.0))
        .flat_map(|labels| labels.split(','))
        .filter_map(|label| label.split_once('=').map(|(name, _)| name))
        .collect();
    let known = BTreeSet::from(["code", "direction", "le", "outcome", "reason", "result", "verb"]);
    assert!(labels.is_subset(&known), "{labels:?}");
    for text in [&at_server, &at_client] {
        for word in [SECRET_NOUN, HUB, "\"fs\"", "time"] {
            let values = text.lines().filter(|line| !line.starts_with('#'));
            let told: Vec<&str> = values.filter(|line| line.contains(word)).collect();
            assert!(told.iter().all(|line| line.starts_with("process_")), "{word} in {told:?}");
        }
    }
}

#[test]
fn statsd_gets_the_original_s_names() {
    let site = Site::new();
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    socket.set_read_timeout(Some(SOON)).expect("a timeout");
    let statsd = socket.local_addr().expect("bound").to_string();
    let (server, client) = site.pair_of(
        |server| server.flag("--statsd", &statsd),
        |client| client.flag("--statsd", &statsd).flag("--heartbeat", "500ms"),
    );
    assert_eq!(get(client.gateway(), "/server/cat//x").status, 200);
    let mut wanted = BTreeSet::from([
        "client.connect.new.tick:",
        "client.connect.new.attempt.timing:",
        "client.connect.connected.tick:",
        "client.connect.heartbeat.timing:",
        "client.connect.heartbeat.success.tick:",
        "client.connect.broken.tick:",
        "message.send.tick:",
        "message.send.timing:",
        "message.receive.tick:",
        "message.receive.handle.timing:",
        "message.received.handle.get_cat.tick:",
        "message.received.handle.get_cat.timing:",
    ]);
    let mut server = Some(server);
    let mut packet = [0; 2048];
    while !wanted.is_empty() {
        let len = socket.recv(&mut packet).unwrap_or_else(|_| panic!("never came: {wanted:?}"));
        let text = String::from_utf8_lossy(&packet[..len]).into_owned();
        for line in text.lines() {
            assert!(line.ends_with("|c") || line.ends_with("|ms"), "{line}");
            wanted.retain(|name| !line.starts_with(name));
        }
        if wanted.len() == 1 {
            // Only the broken pipe is left to be told of.
            drop(server.take());
        }
    }
}

#[test]
fn logs_carry_the_trace_of_an_event_on_both_sides_and_never_a_key() {
    let site = Site::new();
    let (server, client) = site
        .pair_of(|server| server.flag("--log", "trace"), |client| client.flag("--log", "trace"));
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let answer =
        Ask::new("GET", "/server/time").header("traceparent", trace).send(client.gateway());
    assert_eq!(answer.status, 200);
    for (node, words) in [(&client, "event ended"), (&server, "event handled")] {
        let line = node.log().line(&[words, trace]);
        assert_eq!(line["span"]["noun"], "time");
        assert_eq!(line["span"]["verb"], "GET");
    }
    assert_eq!(server.log().line(&["event handled"])["span"]["peer"], CLIENT);

    // A request in no trace is in one from its gateway on.
    assert_eq!(get(client.gateway(), "/server/cat//own").status, 200);
    let ended = client.log().line(&["event ended", "\"noun\":\"cat\""]);
    let trace = ended["span"]["traceparent"].as_str().expect("a trace").to_owned();
    assert_eq!(trace.len(), 55);
    server.log().line(&["event handled", &trace]);

    for (node, name) in [(&server, HUB), (&client, CLIENT)] {
        let key = std::fs::read_to_string(site.path(name).join("tls.key")).expect("a key");
        let body: Vec<&str> = key.lines().filter(|line| !line.starts_with('-')).collect();
        let log = node.log().lines().concat();
        assert!(!log.contains("PRIVATE KEY"));
        assert!(body.iter().all(|line| !log.contains(line)), "the key of {name}");
    }
}

#[test]
fn text_logs_are_for_people_and_json_logs_for_programs() {
    let site = Site::new();
    let json = site.server().start();
    let first = json.log().line(&["is running"]);
    for field in [
        "timestamp",
        "level",
        "message",
        "role",
        "gateway",
        "admin",
        "pipe",
        "identity",
        "not_after",
    ] {
        assert!(first[field].is_string(), "{field} in {first}");
    }
    let lines = json.log().lines();
    assert!(lines.iter().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()));
}

#[test]
fn status_tells_all_that_is_asked_when_a_node_seems_wrong() {
    let site = Site::new();
    let (server, client) = site.pair();
    let status = server.status();
    assert_eq!(status["role"], "server");
    assert_eq!(status["ready"], true);
    assert_eq!(status["identity"]["name"], HUB);
    for field in ["serial", "issuer", "not_after"] {
        assert!(status["identity"][field].is_string(), "{field} in {status}");
    }
    assert_eq!(status["identity"]["trusts"][0].as_str().map(str::len), Some(64));
    let peer = &status["peers"][0];
    for (field, value) in [("hostname", CLIENT), ("state", "open")] {
        assert_eq!(peer[field], value);
    }
    for field in ["instance", "address", "since", "certificate_not_after", "software"] {
        assert!(peer[field].is_string(), "{field} in {peer}");
    }
    assert!(status["last_failure"].is_null() && status["not_ready"].is_null());
    for (path, code) in [("/live", 200), ("/ready", 200), ("/stop", 404)] {
        assert_eq!(get(&client.admin(), path).status, code, "{path}");
    }
    assert_eq!(Ask::new("POST", "/status").send(&client.admin()).status, 405);
}

#[test]
fn a_client_whose_server_is_down_tells_the_last_failure_until_a_pipe_is_up() {
    let site = Site::new();
    let server = site.server().start();
    let address = server.pipe().to_string();
    server.kill();
    let client = site.client_of(CLIENT, &address).start();
    let failure = || client.status()["last_failure"].clone();
    eventually("a dial has failed", || failure()["reason"] == "refused");
    let told = failure();
    assert!(told["detail"].as_str().expect("a sentence").contains(&address), "{told}");
    assert!(told["at"].as_str().expect("a time").ends_with('Z'), "{told}");
    let status = client.status();
    assert_eq!(
        (&status["ready"], &status["not_ready"]),
        (&false.into(), &"there is no pipe to the server".into())
    );
    assert_eq!(get(&client.admin(), "/ready").status, 503);
    assert_eq!(get(&client.admin(), "/live").status, 200);

    let _server = site.server().flag("--listen", &address).start();
    client.connected();
    eventually("the failure is forgotten", || failure().is_null());
    assert_eq!(get(&client.admin(), "/ready").status, 200);
}
