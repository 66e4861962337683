//! The gateway against good and bad HTTP: rows G1 to G17 of what the project
//! promises about bad input.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use restpipe_tests::app::{App, Say};
use restpipe_tests::binary::{Node, eventually};
use restpipe_tests::http::{Answer, Ask, At, Connection, get};
use restpipe_tests::site::{CLIENT, HUB, Site};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Barrier, Semaphore};

const GOOD: &str = "GET /server/time HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// What becomes of the connection after an answer.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Then {
    /// It carries the next request.
    Stays,
    /// It is closed.
    Ends,
}
use Then::{Ends, Stays};

/// One bad or odd request: its row, its bytes, and what is answered. An empty
/// code is an answer of hyper or of a handler.
type Case = (&'static str, String, u16, &'static str, Then);

fn request(line: &str, headers: &[&str]) -> String {
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    format!("{line} HTTP/1.1\r\n{headers}\r\n")
}

fn with_host(line: &str, headers: &[&str]) -> String {
    request(line, &[&["Host: localhost"], headers].concat())
}

fn check(at: &At, cases: &[Case]) {
    for (row, bytes, status, code, then) in cases {
        let mut connection = Connection::open(at);
        connection.send(bytes);
        let start: String = bytes.chars().take(120).collect();
        let what = format!("{row}: {start:?}");
        let answer = connection.try_answer().unwrap_or_else(|error| panic!("{what}: {error}"));
        let said = (answer.status, answer.code());
        assert_eq!((said.0, said.1.as_str()), (*status, *code), "{what}: {}", answer.text());
        if !code.is_empty() {
            check_problem(&answer, &what);
        }
        match then {
            Stays => {
                connection.send(GOOD);
                assert_eq!(connection.answer().status, 200, "the next one after {what}");
            }
            Ends => assert!(connection.is_closed(), "{what}"),
        }
    }
}

/// Every problem says the same in its headers and its body, for new clients
/// and for the original's.
fn check_problem(answer: &Answer, what: &str) {
    let body = answer.json();
    assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{what}");
    assert_eq!(body["status"], answer.status, "{what}");
    assert_eq!(body["outcome"].as_str(), answer.header("x-event-outcome"), "{what}");
    let retriable = body["retriable"].as_bool().expect("a bool").to_string();
    assert_eq!(Some(retriable.as_str()), answer.header("x-event-retriable"), "{what}");
    assert_eq!(body["exception"]["message"], body["detail"], "{what}");
    assert!(!body["exception"]["class"].as_str().expect("a class").is_empty(), "{what}");
    let proxy_status = answer.header("proxy-status").unwrap_or_default();
    assert!(proxy_status.starts_with("restpipe; error="), "{what}");
    assert_eq!(answer.header("access-control-allow-origin"), None, "{what}");
}

/// A client whose gateway is on TCP and on a Unix socket, and its server.
fn pair(site: &Site) -> (Node, Node) {
    let gateways = format!("127.0.0.1:0,unix:{}", site.path("client.sock").display());
    site.pair_of(|server| server, |client| client.flag("--gateway", gateways))
}

#[test]
fn hosts_and_origins_that_a_web_page_would_send_are_turned_away() {
    let site = Site::new();
    let (_server, client) = pair(&site);
    let [tcp, unix] = client.gateways() else { panic!("two gateways") };
    let get = "GET /server/time";
    let origin = |value: &str| with_host(get, &[&format!("Origin: {value}")]);
    let both: [Case; 7] = [
        ("G1", request(get, &["Host: localhost", "Host: localhost"]), 400, "bad-request", Stays),
        ("G2", origin("https://evil.example"), 403, "forbidden", Stays),
        ("G2", origin("null"), 403, "forbidden", Stays),
        ("G2", origin("http://localhost.evil.example"), 403, "forbidden", Stays),
        ("G2", with_host(get, &["Sec-Fetch-Site: cross-site"]), 403, "forbidden", Stays),
        ("G2", origin("http://localhost"), 200, "", Stays),
        ("G2", with_host(get, &["Sec-Fetch-Site: same-origin"]), 200, "", Stays),
    ];
    check(tcp, &both);
    check(unix, &both);
    check(
        tcp,
        &[
            ("G1", request(get, &["Host: evil.com"]), 421, "bad-host", Stays),
            ("G1", request(get, &["Host: 127.0.0.2:7070"]), 421, "bad-host", Stays),
            ("G1", request(get, &["Host:"]), 421, "bad-host", Stays),
            ("G1", request(get, &[]), 400, "bad-request", Stays),
            ("G1", with_host("GET http://evil.com/server/time", &[]), 421, "bad-host", Stays),
            ("G1", with_host("GET http://localhost/server/time", &[]), 200, "", Stays),
            ("G1", request(get, &["Host: [::1]:1"]), 200, "", Stays),
        ],
    );
    // Here a proxy in front has chosen the Host.
    check(
        unix,
        &[
            ("G1", request(get, &["Host: rpclient.local"]), 200, "", Stays),
            ("G1", request(get, &[]), 200, "", Stays),
            (
                "G2",
                request(get, &["Host: a.local", "Origin: http://b.local"]),
                403,
                "forbidden",
                Stays,
            ),
            ("G2", request(get, &["Host: a.local", "Origin: http://a.local"]), 200, "", Stays),
        ],
    );
}

#[test]
fn a_configured_host_is_answered_and_only_that() {
    let site = Site::new();
    let node = site.server().flag("--gateway-host", "Pipe.example,10.0.0.1").start();
    for (host, status) in
        [("pipe.example", 200), ("PIPE.EXAMPLE:80", 200), ("10.0.0.1", 200), ("example", 421)]
    {
        let mut connection = Connection::open(node.gateway());
        connection.send(request("GET /-/live", &[&format!("Host: {host}")]));
        assert_eq!(connection.answer().status, status, "{host}");
    }
}

#[test]
fn bodies_framed_in_two_ways_or_in_none_are_refused_and_the_connection_closed() {
    let site = Site::new();
    let (_server, client) = pair(&site);
    let post = "POST /server/cat";
    let raw = |headers: &[&str], body: &str| with_host(post, headers) + body;
    let chunked = "Transfer-Encoding: chunked";
    let bad: [Case; 18] = [
        ("G3", raw(&["Content-Length: 5", "Content-Length: 6"], "hello"), 400, "", Ends),
        ("G3", raw(&["Content-Length: 5, 5"], "hello"), 400, "", Ends),
        ("G3", raw(&["Content-Length: +5"], "hello"), 400, "", Ends),
        ("G3", raw(&["Content-Length: -5"], "hello"), 400, "", Ends),
        ("G3", raw(&["Content-Length: 0x5"], "hello"), 400, "", Ends),
        ("G3", raw(&["Content-Length: 99999999999999999999"], ""), 400, "", Ends),
        ("G3", raw(&["Transfer-Encoding: chunked, identity"], "0\r\n\r\n"), 400, "", Ends),
        ("G3", raw(&["Transfer-Encoding : chunked"], "0\r\n\r\n"), 400, "", Ends),
        ("G3", raw(&[chunked], "zz\r\nabc\r\n0\r\n\r\n"), 400, "bad-request", Ends),
        ("G3", raw(&[chunked], "+3\r\nabc\r\n0\r\n\r\n"), 400, "bad-request", Ends),
        ("G3", raw(&[chunked], "3\nabc\n0\n\n"), 400, "bad-request", Ends),
        ("G3", raw(&[chunked], "FFFFFFFFFFFFFFFFF\r\n"), 400, "bad-request", Ends),
        ("G3", raw(&[chunked], "3\r\nabc\r\n0\r\nA: b\n\r\n"), 400, "bad-request", Ends),
        ("G11", with_host("GET /server/time", &["X: a", " folded"]), 400, "", Ends),
        ("G11", with_host("GET /server/time", &["X: a\rX-Event-Foo: b"]), 400, "", Ends),
        ("G11", with_host("GET /server/time", &["X: a\0b"]), 400, "", Ends),
        ("G11", with_host("GET /server/time", &["X\u{fc}: a"]), 400, "", Ends),
        ("G11", request("GET /server/time", &[" Host: localhost"]), 400, "", Ends),
    ];
    check(client.gateway(), &bad);
}

#[test]
fn a_request_of_which_two_parsers_might_see_two_ends_is_refused_with_all_behind_it() {
    let site = Site::new();
    let (_server, client) = pair(&site);
    let chunked = "Transfer-Encoding: chunked";
    let length = &format!("Content-Length: {}", 5 + GOOD.len());
    let post = |headers: &[&str], rest: &str| with_host("POST /server/cat", headers) + rest + GOOD;
    for doubtful in [
        post(&[chunked, length], "0\r\n\r\n"),
        post(&[length, chunked], "0\r\n\r\n"),
        post(&[chunked, "CONTENT-LENGTH:0"], "0\r\n\r\n"),
        post(&["Content-Length: 5", "Content-Length: 5"], "hello"),
        post(&["Content-Length: 0", "A: b", "content-length: 0"], ""),
        GOOD.replace("1.1\r\n", "1.1\n"),
        GOOD.replace("localhost\r\n", "localhost\n"),
        GOOD.replace("\r\n\r\n", "\r\n\n"),
        GOOD.replace("\r\n", "\n"),
        format!("\n{GOOD}"),
    ] {
        let mut whole = Connection::open(client.gateway());
        whole.send(format!("{GOOD}{doubtful}{GOOD}"));
        assert_eq!(whole.answer().status, 200, "what came before is answered");
        assert_eq!(whole.answer().status, 400, "{doubtful:?}");
        assert!(whole.is_closed(), "{doubtful:?}");
    }
    let mut slow = Connection::open(client.gateway());
    for part in [GOOD.trim_end(), "\r\n", "\n"] {
        slow.send(part);
        assert_eq!(get(client.gateway(), "/-/live").status, 200);
    }
    assert_eq!(slow.answer().status, 400, "not 408 after ten seconds");
    assert!(slow.is_closed());
    let counted = r#"restpipe_gateway_refused_total{code="bad-request"} 11"#;
    eventually("each of them is counted", || {
        get(&client.admin(), "/metrics").text().contains(counted)
    });
}

#[test]
fn what_is_no_http_1_is_refused() {
    let site = Site::new();
    let node = site.server().start();
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"GET /-/live\r\n\r\n",
        b"GET /-/live HTTP/3.0\r\nHost: localhost\r\n\r\n",
        b"GET  HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /-/a b HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x00\x01\x02\x03\r\n\r\n",
    ] {
        let mut connection = Connection::open(node.gateway());
        connection.send(bytes);
        assert_eq!(connection.answer().status, 400, "{:?}", String::from_utf8_lossy(bytes));
        assert!(connection.is_closed());
    }
    let mut connection = Connection::open(node.gateway());
    connection.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    assert!(connection.is_closed(), "HTTP/2 is not spoken");
    assert_eq!(get(node.gateway(), "/-/live").status, 200, "the node is well");
}

#[test]
fn bodies_over_the_limit_are_refused_before_anything_is_sent() {
    let site = Site::new();
    let app = App::tcp(|asked| Say::json(&asked.body.len().to_string()));
    let (_server, client) = site.pair_of(
        |server| server.flag("--app", app.url()),
        |client| client.flag("--max-body", "1000"),
    );
    let post = |headers: &[&str], body: &str| with_host("POST /server/size", headers) + body;
    let chunk = |len: usize| format!("{len:x}\r\n{}\r\n0\r\n\r\n", "a".repeat(len));
    let chunked = "Transfer-Encoding: chunked";
    check(
        client.gateway(),
        &[
            ("G4", post(&["Content-Length: 1001"], ""), 413, "too-large", Ends),
            (
                "G4",
                post(&["Content-Length: 1001", "Expect: 100-continue"], ""),
                413,
                "too-large",
                Ends,
            ),
            ("G4", post(&[chunked], &chunk(1001)), 413, "too-large", Stays),
        ],
    );
    // Its sender promised more and went away.
    let mut connection = Connection::open(client.gateway());
    connection.send(post(&["Content-Length: 900"], "short"));
    drop(connection);
    assert_eq!(
        Ask::new("POST", "/server/size").body("x".repeat(1000)).send(client.gateway()).text(),
        "1000"
    );
    let mut connection = Connection::open(client.gateway());
    connection.send(post(&[chunked], &chunk(1000)));
    assert_eq!(connection.answer().text(), "1000");
    let posts = app.asked().iter().filter(|asked| asked.path() == "/size").count();
    assert_eq!(posts, 2, "the refused ones did not reach the app");
}

#[test]
fn a_body_that_stops_is_answered_408_after_30_s_and_nothing_of_it_is_sent() {
    let site = Site::new();
    let app = App::tcp(|_| Say::json("1"));
    let (_server, client) = site.pair_of(|server| server.flag("--app", app.url()), |client| client);
    let began = Instant::now();
    let mut stopped = Connection::open(client.gateway());
    stopped.send(with_host("POST /server/stops", &["Content-Length: 900"]) + "short");
    let answer = stopped.answer();
    assert_eq!(answer.outcome(), (408, "not-sent", "false"), "G4: {}", answer.text());
    assert_eq!(answer.code(), "body-timeout");
    let took = began.elapsed();
    assert!((29..40).contains(&took.as_secs()), "{took:?}");
    assert_eq!(app.asked().len(), 0);
    assert_eq!(get(client.gateway(), "/server/goes-on").text(), "1");
}

#[test]
fn heads_that_are_too_slow_are_answered_408_and_idle_connections_closed_in_silence() {
    let site = Site::new();
    let node = site.server().start();
    let mut slow = Connection::open(node.gateway());
    slow.send("GET /-/live HTTP/1.1\r\nHost: loc");
    let mut silent = Connection::open(node.gateway());
    let mut idle = Connection::open(node.gateway());
    idle.send(with_host("GET /-/live", &[]));
    assert_eq!(idle.answer().status, 200);
    let began = Instant::now();
    let answer = slow.answer();
    assert_eq!((answer.status, answer.header("connection")), (408, Some("close")));
    assert!(slow.is_closed() && silent.is_closed() && idle.is_closed());
    let took = began.elapsed();
    assert!((9..20).contains(&took.as_secs()), "{took:?}");
    let counted = r#"restpipe_gateway_refused_total{code="head-timeout"} 1"#;
    eventually("the one that began is counted", || {
        get(&node.admin(), "/metrics").text().contains(counted)
    });
}

#[test]
fn heads_that_are_too_large_are_answered_431() {
    let site = Site::new();
    let (_server, client) = pair(&site);
    let get = "GET /server/time";
    let many: Vec<String> = (0..100).map(|n| format!("X-{n}: 1")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let header = |len: usize| with_host(get, &[&format!("X: {}", "a".repeat(len))]);
    let whole = 64 * 1024 - 1 - header(0).len();
    check(
        client.gateway(),
        &[
            ("G5", with_host(get, &many), 431, "", Ends),
            ("G5", with_host(get, &many[1..]), 200, "", Stays),
            ("G5", header(1024 * 1024), 431, "", Ends),
            // Of 64 KiB the end is not waited for; one byte less is a head.
            ("G5", header(64 * 1024)[..64 * 1024].to_owned(), 431, "", Ends),
            ("G5", header(whole), 431, "headers-too-large", Stays),
            ("G5", header(20 * 1024), 431, "headers-too-large", Stays),
            ("G5", header(12 * 1024), 200, "", Stays),
            ("G5", with_host(&format!("GET /server/{}", "a".repeat(100_000)), &[]), 414, "", Ends),
        ],
    );
}

#[test]
fn paths_that_hide_something_are_refused_and_escapes_are_undone_once() {
    let site = Site::new();
    let (_server, client) = pair(&site);
    let refused =
        |row, path: &str| (row, with_host(&format!("GET {path}"), &[]), 400, "bad-path", Stays);
    let long = format!("/server/{}", "a".repeat(1025));
    check(
        client.gateway(),
        &[
            refused("G6", "/server/../admin"),
            refused("G6", "/server/%2e%2e/admin"),
            refused("G6", "/server/%2E./admin"),
            refused("G6", "/server/cat//.."),
            refused("G6", "/server/./time"),
            refused("G6", "/server/ti%2fme"),
            refused("G6", "/server/time%00"),
            refused("G6", "/server/time%zz"),
            refused("G6", "/server/time%2"),
            refused("G6", "/server/ti\\me"),
            refused("G6", "/server/%c0%ae%c0%ae"),
            refused("G6", "/server/%ff"),
            refused("G8", "/server//x"),
            refused("G8", "/server/"),
            refused("G8", "/server"),
            refused("G8", "/server/time/"),
            refused("G10", &long),
            ("G6", with_host("GET /", &[]), 404, "no-endpoint", Stays),
            ("G6", with_host("GET //server/time", &[]), 404, "no-endpoint", Stays),
            ("G6", with_host("GET /Server/time", &[]), 404, "no-endpoint", Stays),
            ("G10", with_host("GET /client/fs/time", &[]), 404, "wrong-direction", Stays),
        ],
    );
    for (path, args) in [
        ("/server/cat//hello%20/world", "hello world"),
        ("/server/cat//a%2Fb/c", "a/bc"),
        ("/server/cat//a%252Fb", "a%2Fb"),
        ("/server/cat///a", "a"),
        ("/server/cat//", ""),
        ("/server/cat", ""),
        ("/server/cat//%C3%BC?q=//..%2F", "\u{fc}"),
        ("/server/c%61t//x", "x"),
    ] {
        let answer = get(client.gateway(), path);
        assert_eq!(
            (answer.status, answer.text()),
            (200, format!("{{\"result_from_server\": \"{args}\"}}")),
            "{path}"
        );
    }
}

#[test]
fn hostnames_are_taken_in_any_case_and_refused_in_any_other_form() {
    let site = Site::new();
    let (server, _client) =
        site.pair_of(|server| server.flag("--clients", "fs,away"), |client| client);
    let status = |host: &str| {
        let answer = Ask::new("GET", &format!("/client/{host}/time"))
            .header("Prefer", "wait=0")
            .send(server.gateway());
        (answer.status, answer.code())
    };
    let long = "a".repeat(300);
    for (host, expected) in [
        ("fs", (200, "")),
        ("FS", (200, "")),
        ("%66s", (200, "")),
        ("127.0.0.1", (200, "")),
        ("fs.", (400, "bad-path")),
        ("*", (400, "bad-path")),
        ("..", (400, "bad-path")),
        ("a_b", (400, "bad-path")),
        ("b%C3%BCro", (400, "bad-path")),
        (&long, (400, "bad-path")),
        ("", (400, "bad-path")),
        ("ghost", (404, "unknown-peer")),
        ("away", (503, "peer-away")),
    ] {
        let (status, code) = status(host);
        assert_eq!((status, code.as_str()), expected, "{host}");
    }
    let wrong = get(server.gateway(), "/server/time");
    assert_eq!((wrong.status, wrong.code().as_str()), (404, "wrong-direction"));
    assert!(wrong.text().contains("/client/HOSTNAME/NOUN"));
}

#[test]
fn verbs_that_are_none_of_the_pipe_are_405_and_say_which_are() {
    let site = Site::new();
    let (_server, client) = pair(&site);
    let verb = |line: &str| ("G15", with_host(line, &[]), 405, "method-not-allowed", Stays);
    check(
        client.gateway(),
        &[
            verb("TRACE /server/time"),
            verb("OPTIONS /server/time"),
            verb("OPTIONS *"),
            verb("get /server/time"),
            verb("CONNECT /server/time"),
            verb("CONNECT localhost:80"),
            verb("POST /-/live"),
        ],
    );
    let answer = Ask::new("TRACE", "/server/time").send(client.gateway());
    assert_eq!(answer.header("allow"), Some("GET, HEAD, POST, PUT, DELETE, PATCH"));
    // Upgrades are not taken up, as RFC 9110 section 7.8 allows.
    let upgrade = ["Connection: upgrade", "Upgrade: websocket"];
    check(client.gateway(), &[("G15", with_host("GET /server/time", &upgrade), 200, "", Stays)]);
}

#[test]
fn head_is_get_without_the_body_and_http_1_0_is_answered() {
    let site = Site::new();
    let (_server, client) = pair(&site);
    let mut connection = Connection::open(client.gateway());
    connection.send(with_host("HEAD /server/cat//hello", &[]));
    let head = connection.answer_to_head();
    let whole = get(client.gateway(), "/server/cat//hello");
    assert_eq!((head.status, head.header("content-length")), (200, Some("31")));
    assert_eq!(whole.header("content-length"), Some("31"), "{}", whole.text());
    connection.send(with_host("HEAD /-/live", &[]));
    assert_eq!(connection.answer_to_head().status, 200);
    connection.send(with_host("HEAD /server/no-such", &[]));
    assert_eq!(connection.answer_to_head().status, 404);
    connection.send(GOOD);
    assert_eq!(connection.answer().status, 200, "no body was left behind");
    let mut old = Connection::open(client.gateway());
    old.send("GET /server/time HTTP/1.0\r\nHost: localhost\r\n\r\n");
    assert_eq!(old.answer().status, 200);
    assert!(old.is_closed());
}

#[test]
fn a_hundred_requests_sent_at_once_are_answered_in_their_order() {
    let site = Site::new();
    let (_server, client) = pair(&site);
    let all: String = (0..100).map(|n| with_host(&format!("GET /server/cat//{n}"), &[])).collect();
    let mut connection = Connection::open(client.gateway());
    connection.send(all);
    for n in 0..100 {
        assert_eq!(connection.answer().text(), format!("{{\"result_from_server\": \"{n}\"}}"));
    }
}

#[test]
fn a_caller_that_asks_before_it_sends_its_body_is_told_to_go_on() {
    let site = Site::new();
    let app = App::tcp(|asked| Say::json(&String::from_utf8_lossy(&asked.body)));
    let (_server, client) = site.pair_of(|server| server.flag("--app", app.url()), |client| client);
    let mut connection = Connection::open(client.gateway());
    let headers = ["Content-Length: 4", "Expect: 100-continue"];
    connection.send(with_host("POST /server/x", &headers));
    assert_eq!(connection.answer().status, 100);
    connection.send("\"ab\"");
    assert_eq!(connection.answer().text(), "\"ab\"");
    assert_eq!(app.last().header("expect"), None);
    // Nobody is told to go on towards a refusal.
    for (line, status) in [("POST /server/../x", 400), ("POST /client/x/y", 404)] {
        let mut connection = Connection::open(client.gateway());
        connection.send(with_host(line, &headers));
        assert_eq!(connection.answer().status, status);
    }
}

#[test]
fn connection_takes_off_what_it_names_and_never_what_the_pipe_says_itself() {
    let site = Site::new();
    let app = App::tcp(|_| {
        let named = "x-event-outcome, x-event-return-code, content-type, x-hop";
        let headers = [
            ("connection", named),
            ("x-event-return-code", "7"),
            ("content-type", "text/plain"),
            ("x-hop", "1"),
            ("x-end", "2"),
        ];
        Say::answer("200 OK", &headers, "answered")
    });
    let (_server, client) = site.pair_of(|server| server.flag("--app", app.url()), |client| client);
    let headers = [
        "Connection: x-event-noun, RestPipe-Noun, restpipe-from, host, content-type, x-hop, close",
        "X-Event-Noun: other",
        "RestPipe-Noun: other",
        "Content-Type: text/x-own",
        "X-Hop: 1",
        "X-End: 2",
    ];
    let mut connection = Connection::open(client.gateway());
    connection.send(with_host("GET /server/named", &headers));
    let answer = connection.answer();
    assert!(connection.is_closed(), "G12: `close` is among them");

    let asked = app.last();
    for (name, value) in [
        ("restpipe-noun", Some("named")),
        ("restpipe-from", Some(CLIENT)),
        ("content-type", Some("text/x-own")),
        ("x-event-noun", None),
        ("x-hop", None),
        ("x-end", Some("2")),
    ] {
        assert_eq!(asked.header(name), value, "G12: {name} in {asked:?}");
    }
    assert!(asked.header("host").is_some(), "G12: {asked:?}");
    assert_eq!(answer.outcome(), (200, "executed", "-"), "G12");
    for (name, value) in [
        ("x-event-return-code", Some("7")),
        ("content-type", Some("text/plain")),
        ("x-hop", None),
        ("x-end", Some("2")),
    ] {
        assert_eq!(answer.header(name), value, "G12: {name} in {answer:?}");
    }
}

#[test]
fn of_what_a_handler_answers_no_browser_is_to_guess_the_type() {
    let site = Site::new();
    site.script("handlers/get_plain", r"printf 'Content-Type: text/plain\nbody'");
    site.script("handlers/get_json", "echo 1");
    site.script("handlers/get_fail", "exit 1");
    let handlers = site.path("handlers");
    let app = App::tcp(|asked| match asked.path() {
        "/own" => Say::answer("200 OK", &[("x-content-type-options", "own")], "1"),
        "/missing" => Say::answer("404 Not Found", &[("content-type", "text/html")], "none"),
        _ => Say::answer("200 OK", &[], "<html>"),
    });
    let (server, client) = site.pair_of(
        |server| server.flag("--handlers", &handlers),
        |client| client.flag("--app", app.url()),
    );
    let to_server = ["plain", "json", "fail", "none"].map(|noun| format!("/server/{noun}"));
    let to_client = ["untyped", "missing"].map(|noun| format!("/client/{CLIENT}/{noun}"));
    for (at, paths) in [(client.gateway(), &to_server[..]), (server.gateway(), &to_client[..])] {
        for path in paths {
            let answer = get(at, path);
            assert_eq!(answer.header("x-event-outcome"), Some("executed"), "{path}");
            let options = answer.header("x-content-type-options");
            assert_eq!(options, Some("nosniff"), "G13: {path}");
        }
    }
    // An app that says something itself is not talked over.
    let answer = get(server.gateway(), &format!("/client/{CLIENT}/own"));
    assert_eq!(answer.header("x-content-type-options"), Some("own"), "G13");
}

#[test]
fn a_reply_that_is_none_is_told_from_one_that_is() {
    let site = Site::new();
    site.script("handlers/get_split", r"printf 'Content-Type: text/html\rSet-Cookie: a\nbody'");
    site.script("handlers/get_plain", r"printf 'Content-Type: text/plain\nbody'");
    let handlers = site.path("handlers");
    let (_server, client) =
        site.pair_of(|server| server.flag("--handlers", &handlers), |client| client);
    let answer = get(client.gateway(), "/server/split");
    assert_eq!((answer.status, answer.code().as_str()), (502, "bad-reply"), "G13");
    assert_eq!(answer.header("set-cookie"), None);
    let answer = get(client.gateway(), "/server/plain");
    assert_eq!(answer.header("content-type"), Some("text/plain"));
}

#[test]
fn return_codes_of_any_size_pass_and_what_is_no_number_does_not() {
    let site = Site::new();
    let app = App::tcp(|asked| {
        let code = asked.path().trim_start_matches('/').to_owned();
        Say::answer("200 OK", &[("x-event-return-code", &code)], "")
    });
    let (_server, client) = site.pair_of(|server| server.flag("--app", app.url()), |client| client);
    for (code, seen) in
        [("7", "7"), ("99999", "99999"), ("4294967295", "4294967295"), ("-1", "0"), ("x", "0")]
    {
        let answer = get(client.gateway(), &format!("/server/{code}"));
        assert_eq!(
            (answer.status, answer.header("x-event-return-code")),
            (200, Some(seen)),
            "G14: {code}"
        );
    }
}

fn is_alive(pid: &str) -> bool {
    Path::new("/proc").join(pid).exists()
}

#[test]
fn a_handler_is_stopped_when_its_caller_hangs_up() {
    let site = Site::new();
    let gate = site.gate("gate");
    let started = site.path("started");
    let (path, note) = (gate.path.display(), started.display());
    site.script(
        "handlers/get_wait",
        &format!("echo $$ > {note}.new\nmv {note}.new {note}\nread line < {path}"),
    );
    let handlers = site.path("handlers");
    let (server, client) =
        site.pair_of(|server| server.flag("--handlers", &handlers), |client| client);
    let mut connection = Connection::open(client.gateway());
    connection.send(with_host("GET /server/wait", &[]));
    eventually("the handler runs", || started.exists());
    let pid = std::fs::read_to_string(&started).expect("its number").trim().to_owned();
    assert!(is_alive(&pid));
    drop(connection);
    eventually("the handler is gone", || !is_alive(&pid));
    eventually("its slot is free", || server.status()["peers"][0]["serving"] == 0);
    assert_eq!(client.status()["peers"][0]["in_flight"], 0);
}

#[test]
fn the_node_s_own_endpoints_tell_how_it_is() {
    let site = Site::new();
    let server = site.server().start();
    let address = server.pipe().to_string();
    assert_eq!(get(server.gateway(), "/-/ready").status, 200, "a server needs no pipe");
    let none = get(server.gateway(), "/-/peers").json();
    assert_eq!(none["peers"].as_array().map(Vec::len), Some(0));

    let client = site.client_of(CLIENT, &address).start();
    client.connected();
    server.connected();
    for node in [&server, &client] {
        for (path, text) in [("/-/live", "live\n"), ("/-/ready", "ready\n")] {
            let answer = get(node.gateway(), path);
            assert_eq!((answer.status, answer.text().as_str()), (200, text), "{path}");
        }
        let version = get(node.gateway(), "/-/version").json();
        assert_eq!(version["name"], "restpipe");
        assert!(version["version"].is_string() && version["protocol"].is_number());
        let unknown = get(node.gateway(), "/-/stop");
        assert_eq!((unknown.status, unknown.code().as_str()), (404, "no-endpoint"));
        assert!(unknown.text().contains("/-/events"), "it says which there are");
    }
    assert_eq!(get(server.gateway(), "/-/version").json()["role"], "server");
    let peers = get(server.gateway(), "/-/peers/FS").json();
    assert_eq!(peers["peers"][0]["hostname"], CLIENT);
    let peer = get(server.gateway(), "/-/peers/ghost");
    assert_eq!((peer.status, peer.code().as_str()), (404, "unknown-peer"));

    server.kill();
    eventually("the client is not ready", || get(client.gateway(), "/-/ready").status == 503);
    assert_eq!(get(client.gateway(), "/-/live").status, 200, "not ready is not dead");
}

/// The next event of a stream: its word and its data.
pub(crate) fn next_event(stream: &mut Connection) -> (String, serde_json::Value) {
    let mut word = String::new();
    loop {
        let line = stream.line().expect("the stream goes on");
        if let Some(event) = line.strip_prefix("event: ") {
            word = event.to_owned();
        }
        if let Some(data) = line.strip_prefix("data: ") {
            return (word, serde_json::from_str(data).expect("JSON"));
        }
    }
}

pub(crate) fn event_stream(at: &At) -> Connection {
    let mut stream = Connection::open(at);
    // HTTP/1.0 has no chunks, so the lines come as they are.
    stream.send("GET /-/events HTTP/1.0\r\nHost: localhost\r\n\r\n");
    let mut head = Vec::new();
    while let Some(line) = stream.line().filter(|line| !line.starts_with(": ")) {
        head.push(line);
    }
    assert!(head[0].ends_with("200 OK"), "{head:?}");
    assert!(head.contains(&"content-type: text/event-stream".to_owned()), "{head:?}");
    stream
}

#[test]
fn the_stream_of_events_tells_of_connects_and_disconnects_on_both_sides() {
    let site = Site::new();
    let server = site.server().start();
    let mut at_server = event_stream(server.gateway());
    let client = site.client(CLIENT, &server).flag("--instance", "one").start();
    let (word, data) = next_event(&mut at_server);
    assert_eq!((word.as_str(), &data["event"]), ("connect", &"connect".into()));
    assert_eq!((&data["peer"], &data["instance"]), (&CLIENT.into(), &"one".into()));
    assert!(data["address"].as_str().expect("an address").starts_with("127.0.0.1:"));
    client.kill();
    let (word, data) = next_event(&mut at_server);
    assert_eq!((word.as_str(), &data["peer"]), ("disconnect", &CLIENT.into()));
    assert!(data["reason"].is_string());

    let client = site.client(CLIENT, &server).start();
    client.connected();
    let mut at_client = event_stream(client.gateway());
    server.kill();
    let (word, data) = next_event(&mut at_client);
    let up = (word.as_str(), &data["peer"]);
    assert_eq!(up, ("connect", &HUB.into()), "what is comes before what changes");
    assert_eq!(next_event(&mut at_client).0, "disconnect");
    let (word, data) = next_event(&mut at_client);
    assert_eq!((word.as_str(), &data["reason"]), ("connect-fail", &"refused".into()));
}

/// Calls so far, and whether they may go on.
#[derive(Default)]
struct Held {
    waiting: AtomicUsize,
    open: Mutex<bool>,
    opened: Condvar,
}

impl Held {
    fn wait(&self) {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let open = self.open.lock().expect("no panic");
        drop(self.opened.wait_while(open, |open| !*open).expect("no panic"));
    }

    fn open(&self) {
        *self.open.lock().expect("no panic") = true;
        self.opened.notify_all();
    }
}

/// A connection that the node has accepted.
async fn opened(gateway: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(gateway).await.expect("a connection");
    stream.write_all(with_host("GET /-/live", &[]).as_bytes()).await.expect("it is read");
    assert!(stream.read(&mut [0; 1024]).await.expect("an answer") > 0);
    stream
}

/// The status of an answer, and whether it says that too much is asked at once
/// and when to come back.
async fn slow_answer(mut stream: TcpStream, gateway: SocketAddr) -> (String, bool) {
    let request = with_host("GET /server/slow", &["Connection: close"]);
    loop {
        let mut answer = String::new();
        let sent = stream.write_all(request.as_bytes()).await;
        let read = stream.read_to_string(&mut answer).await;
        if sent.is_ok() && read.is_ok() && !answer.is_empty() {
            let status = answer.split(' ').nth(1).unwrap_or_default().to_owned();
            let busy = ["\"code\":\"busy\"", "\r\nretry-after: "];
            return (status, busy.iter().all(|words| answer.contains(words)));
        }
        // It was idle too long on a slow machine, and closed unused.
        stream = TcpStream::connect(gateway).await.expect("a connection");
    }
}

#[test]
fn ten_thousand_requests_at_once_are_all_answered_and_the_node_is_well_after() {
    const ALL: usize = 10_000;
    const LIMIT: usize = 50;
    let site = Site::new();
    let held = Arc::new(Held::default());
    let in_app = held.clone();
    let app = App::tcp(move |asked| {
        if asked.path() == "/slow" {
            in_app.wait();
        }
        Say::json("1")
    });
    let (_server, client) = site.pair_of(
        |server| server.flag("--app", app.url()),
        |client| {
            let limit = LIMIT.to_string();
            client.flag("--max-requests", limit).flag("--max-connections", "12000")
        },
    );
    let At::Tcp(gateway) = *client.gateway() else { panic!("TCP") };
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().expect("a runtime");
    let (answers, mut counted) = tokio::sync::mpsc::unbounded_channel();
    // All connect before any asks, a few at a time, so that none waits for
    // the kernel to try again.
    let (connecting, all) = (Arc::new(Semaphore::new(200)), Arc::new(Barrier::new(ALL)));
    for _ in 0..ALL {
        let (answers, connecting, all) = (answers.clone(), connecting.clone(), all.clone());
        runtime.spawn(async move {
            let turn = connecting.acquire().await.expect("open");
            let stream = opened(gateway).await;
            drop(turn);
            all.wait().await;
            answers.send(slow_answer(stream, gateway).await).expect("somebody counts");
        });
    }
    let mut seen = BTreeMap::<_, usize>::new();
    runtime.block_on(async {
        for n in 0..ALL {
            if n == ALL - LIMIT {
                // All that could be refused is.
                held.open();
            }
            let answer = tokio::time::timeout(Duration::from_secs(40), counted.recv()).await;
            *seen.entry(answer.expect("in time").expect("an answer")).or_default() += 1;
        }
    });
    let expected = [(("200".to_owned(), false), LIMIT), (("429".to_owned(), true), ALL - LIMIT)];
    assert_eq!(seen, BTreeMap::from(expected), "G17");
    assert_eq!(get(client.gateway(), "/server/quick").status, 200);
    assert_eq!(get(client.gateway(), "/-/ready").status, 200);
    assert_eq!(client.status()["peers"][0]["in_flight"], 0);
}
