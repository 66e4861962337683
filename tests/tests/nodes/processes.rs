//! Nodes as processes that start, die, stop and get new identities.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use restpipe_tests::binary::{Node, SOON, eventually, found_within};
use restpipe_tests::http::{Answer, Ask, At, Connection, get};
use restpipe_tests::rotation::{RENEWED, change_ca, peer_since, replace, serial};
use restpipe_tests::site::{CLIENT, Gate, HUB, Site};

/// Who shows a renewed leaf has its pipes replaced within this time, and one
/// second that is left over.
const RENEW_SPREAD: Duration = Duration::from_secs(6);

/// A call in a thread of its own.
fn ask(at: &At, path: &str) -> thread::JoinHandle<Answer> {
    let (at, path) = (at.clone(), path.to_owned());
    thread::spawn(move || get(&at, &path))
}

/// A call with a deadline of its own.
fn ask_for(at: &At, path: &str, timeout: &str) -> thread::JoinHandle<Answer> {
    let (at, asked) = (at.clone(), Ask::new("GET", path).header("RestPipe-Timeout", timeout));
    thread::spawn(move || asked.send(&at))
}

fn answer(asked: thread::JoinHandle<Answer>) -> Answer {
    asked.join().expect("an answer")
}

/// A pair whose server has a handler `wait` that waits for the gate and then
/// answers, and has made `started` before.
fn with_gate(site: &Site, server_flags: &[(&str, &str)]) -> (Node, Node, Gate) {
    let gate = site.gate("gate");
    let started = site.path("started");
    let (path, started) = (gate.path.display(), started.display());
    site.script(
        "handlers/get_wait",
        &format!("touch {started}\nread line < {path}\necho '\"done\"'"),
    );
    let handlers = site.path("handlers");
    let (server, client) = site.pair_of(
        |server| {
            let server = server.flag("--handlers", &handlers).switch("--builtin");
            server_flags.iter().fold(server, |server, (flag, value)| server.flag(flag, value))
        },
        |client| client,
    );
    (server, client, gate)
}

#[test]
fn a_client_started_before_its_server_has_its_waiting_call_answered() {
    let site = Site::new();
    let free = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
    let address = free.to_string();
    let client = site.client_of(CLIENT, &address).start();
    let asked = ask(client.gateway(), "/server/time");
    eventually("a dial has failed", || !client.status()["last_failure"].is_null());
    let _server = site.server().flag("--listen", &address).start();
    assert_eq!(answer(asked).status, 200);
}

#[test]
fn a_server_that_was_killed_and_started_again_has_its_client_back_in_both_directions() {
    let site = Site::new();
    let (server, client) = site.pair();
    let address = server.pipe().to_string();
    server.kill();
    eventually("the client knows", || get(client.gateway(), "/-/ready").status == 503);
    let from_client = ask(client.gateway(), "/server/time");
    let server = site.server().flag("--listen", &address).start();
    // A server that was just started waits for clients that it does not know.
    let from_server = ask(server.gateway(), "/client/fs/time");
    assert_eq!(answer(from_client).outcome(), (200, "executed", "-"));
    assert_eq!(answer(from_server).outcome(), (200, "executed", "-"));
}

#[test]
fn a_call_that_runs_while_the_server_is_killed_is_of_unknown_outcome_and_get_runs_again() {
    let site = Site::new();
    let (server, client, mut gate) = with_gate(&site, &[]);
    let address = server.pipe().to_string();
    let asked = ask(client.gateway(), "/server/wait");
    eventually("the handler runs", || site.path("started").exists());
    std::fs::remove_file(site.path("started")).expect("it was there");
    server.kill();
    let handlers = site.path("handlers");
    let _server = site.server().flag("--listen", &address).flag("--handlers", &handlers).start();
    eventually("the handler runs again", || site.path("started").exists());
    // One for the killed server's, which may have been left waiting.
    gate.open();
    gate.open();
    assert_eq!(answer(asked).outcome(), (200, "executed", "-"));
}

#[test]
fn a_client_that_was_killed_and_started_again_is_one_client_and_is_waited_for() {
    let site = Site::new();
    let (server, client) = site.pair();
    client.kill();
    let none = || server.status()["peers"].as_array().is_some_and(Vec::is_empty);
    eventually("the server knows", none);
    let asked = ask(server.gateway(), "/client/fs/time");
    let client = site.client(CLIENT, &server).start();
    assert_eq!(answer(asked).outcome(), (200, "executed", "-"));
    client.connected();
    assert_eq!(server.status()["peers"].as_array().map(Vec::len), Some(1));
}

#[test]
fn sigterm_lets_a_running_call_finish_refuses_new_ones_and_exits_0() {
    let site = Site::new();
    let (mut server, mut client, mut gate) = with_gate(&site, &[]);
    let asked = ask(client.gateway(), "/server/wait");
    eventually("the handler runs", || site.path("started").exists());
    server.signal("TERM");
    server.log().line(&["running calls are finished first"]);
    eventually("it is not ready", || get(&server.admin(), "/ready").status == 503);
    let late = get(server.gateway(), "/client/fs/time");
    assert_eq!((late.outcome(), late.code().as_str()), ((503, "not-sent", "true"), "draining"));
    let late = Ask::new("GET", "/server/time").header("Prefer", "wait=0").send(client.gateway());
    assert_eq!((late.status, late.header("x-event-retriable")), (503, Some("true")));
    assert!(server.runs(), "it waits for the call");
    gate.open();
    let answered = answer(asked);
    assert_eq!(
        (answered.outcome(), answered.text().as_str()),
        ((200, "executed", "-"), "\"done\"\n")
    );
    assert_eq!(server.exit_code(), Some(0));
    server.log().line(&["stopped"]);
    client.signal("INT");
    assert_eq!(client.exit_code(), Some(0), "nothing runs, so it ends at once");
}

#[test]
fn a_call_that_outlives_the_drain_time_is_told_so_and_the_node_still_exits_0() {
    let site = Site::new();
    let (mut server, client, _gate) = with_gate(&site, &[("--drain", "300ms")]);
    let asked = ask_for(client.gateway(), "/server/wait", "3s");
    eventually("the handler runs", || site.path("started").exists());
    server.signal("TERM");
    assert_eq!(server.exit_code(), Some(0));
    server.log().line(&["the drain time is over"]);
    let answered = answer(asked);
    assert!([502, 503, 504].contains(&answered.status), "{answered:?}");
    assert_eq!(answered.header("x-event-retriable"), Some("true"));
}

#[test]
fn a_second_signal_ends_the_node_at_once() {
    let site = Site::new();
    let (mut server, client, _gate) = with_gate(&site, &[("--drain", "60s")]);
    let asked = ask_for(client.gateway(), "/server/wait", "2s");
    eventually("the handler runs", || site.path("started").exists());
    server.signal("TERM");
    server.log().line(&["running calls are finished first"]);
    assert!(server.runs());
    server.signal("TERM");
    assert_eq!(server.exit_code(), Some(130));
    let answered = answer(asked);
    assert!([502, 503, 504].contains(&answered.status), "{answered:?}");
}

/// Calls in both directions, one after the other, until it is dropped.
struct Traffic {
    stop: Arc<AtomicBool>,
    calls: Arc<AtomicUsize>,
    callers: Vec<thread::JoinHandle<Vec<String>>>,
}

impl Traffic {
    fn between(server: &Node, client: &Node) -> Self {
        let (stop, calls) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let ways = [(client.gateway(), "/server/time"), (server.gateway(), "/client/fs/time")];
        let callers = ways.map(|(at, path)| {
            let (at, stop, calls) = (at.clone(), stop.clone(), calls.clone());
            thread::spawn(move || {
                let mut lost = Vec::new();
                let mut connection = Connection::open(&at);
                while !stop.load(Ordering::SeqCst) {
                    connection.send(Ask::new("POST", path).bytes());
                    let answer = connection.answer();
                    // The handlers have no POST: its answer is 404, executed.
                    if answer.outcome() != (404, "executed", "-") {
                        lost.push(answer.text());
                    }
                    calls.fetch_add(1, Ordering::SeqCst);
                }
                lost
            })
        });
        Self { stop, calls, callers: callers.into() }
    }

    /// Ends it; no call may have been lost.
    fn end(self) {
        self.stop.store(true, Ordering::SeqCst);
        let lost: Vec<String> =
            self.callers.into_iter().flat_map(|caller| caller.join().expect("no panic")).collect();
        let calls = self.calls.load(Ordering::SeqCst);
        assert!(lost.is_empty() && calls > 100, "{calls} calls, lost: {lost:#?}");
    }
}

#[test]
fn new_leafs_of_the_same_ca_are_taken_under_calls_and_none_is_lost() {
    let site = Site::new();
    let (server, client) = site.pair();
    let traffic = Traffic::between(&server, &client);
    let before = (serial(&server), serial(&client), peer_since(&server));
    site.issue("ca", "server", HUB, &site.path(HUB), &[]);
    site.issue("ca", "client", CLIENT, &site.path(CLIENT), &[]);
    for node in [&server, &client] {
        node.log().line(&["identity renewed"]);
    }
    assert_ne!(before.0, serial(&server));
    assert_ne!(before.1, serial(&client));
    found_within(RENEWED, "a pipe with the new leaf is up", || {
        (peer_since(&server) != before.2).then_some(())
    });
    eventually("the old one is gone", || {
        server.status()["peers"].as_array().is_some_and(|peers| peers.len() == 1)
    });
    traffic.end();
}

/// Holds for as long as the clients of one server are spread over.
fn stays(what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + RENEW_SPREAD;
    while Instant::now() < end {
        assert!(condition(), "{what}");
        thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_server_s_new_leaf_replaces_each_pipe_once_and_not_those_that_come_after() {
    let site = Site::new();
    let (server, client) = site.pair();
    site.issue("ca", "server", HUB, &site.path(HUB), &[]);
    client.log().line(&["the server asks for another pipe"]);
    let asked = || {
        let lines = client.log().lines();
        lines.iter().filter(|line| line.contains("the server asks for another pipe")).count()
    };
    eventually("one pipe is left", || {
        server.status()["peers"].as_array().is_some_and(|peers| peers.len() == 1)
    });
    stays("the new pipe is left alone", || asked() == 1);
}

#[test]
fn a_ca_is_changed_with_overlap_and_no_call_is_lost() {
    let site = Site::new();
    let (server, client) = site.pair();
    let traffic = Traffic::between(&server, &client);
    change_ca(&site, &server, &client);
    traffic.end();
}

#[test]
fn a_pipe_ends_within_five_seconds_of_its_peer_s_ca_being_trusted_no_more() {
    thread::scope(|scope| {
        for distrusting in ["server", "client"] {
            scope.spawn(move || pipe_ends_when_the_ca_is_dropped_by(distrusting));
        }
    });
}

fn pipe_ends_when_the_ca_is_dropped_by(distrusting: &str) {
    let site = Site::new();
    site.make_ca("other");
    let read = |path: &str| std::fs::read_to_string(site.path(path)).expect("a CA");
    let (own, other) = (read("ca/ca.crt"), read("other/ca.crt"));
    site.issue("ca", "server", HUB, &site.path(HUB), &[]);
    site.issue("other", "client", CLIENT, &site.path(CLIENT), &[]);
    for dir in [HUB, CLIENT] {
        replace(&site, &format!("{dir}/ca.crt"), &(own.clone() + &other));
    }
    let (server, client) = site.pair();
    let (dir, kept) = if distrusting == "server" { (HUB, &own) } else { (CLIENT, &other) };
    replace(&site, &format!("{dir}/ca.crt"), kept);
    found_within(Duration::from_secs(5), &format!("the {distrusting} ends the pipe"), || {
        let gone = |node: &Node| node.status()["peers"].as_array().is_some_and(Vec::is_empty);
        (gone(&server) && gone(&client)).then_some(())
    });
    client.log().line(&["server not reached", "CA"]);
    server.log().line(&["connection refused at the pipe listener"]);
}

#[test]
fn a_suspended_hostname_is_cut_off_within_five_seconds_and_let_in_again() {
    let site = Site::new();
    site.identity("server", HUB);
    let file = format!("{HUB}/node.toml");
    site.file(&file, "");
    let (server, client) = site.pair();
    let began = Instant::now();
    replace(&site, &file, "suspended = [\"fs\"]\n");
    found_within(Duration::from_secs(5), "the pipe is cut", || {
        server.status()["peers"].as_array().is_some_and(Vec::is_empty).then_some(())
    });
    assert!(began.elapsed() < Duration::from_secs(5));
    let refused = get(server.gateway(), "/client/fs/time");
    assert_eq!(
        (refused.outcome(), refused.code().as_str()),
        ((403, "not-sent", "false"), "suspended")
    );
    client.log().line(&["suspended"]);
    eventually("the client can say why", || {
        client.status()["last_failure"]["detail"].as_str().unwrap_or_default().contains("suspended")
    });
    // A file that makes no sense changes nothing.
    replace(&site, &file, "suspended = 5\n");
    server.log().line(&["settings cannot be read again", "line 1"]);
    assert_eq!(get(server.gateway(), "/client/fs/time").status, 403);
    replace(&site, &file, "suspended = []\n");
    found_within(2 * SOON, "the pipe is back", || {
        server.status()["peers"].as_array().is_some_and(|peers| peers.len() == 1).then_some(())
    });
    assert_eq!(get(server.gateway(), "/client/fs/time").status, 200);
}

#[test]
fn of_two_nodes_with_one_instance_name_the_later_stays_and_the_other_says_what_to_do() {
    let site = Site::new();
    let server = site.server().start();
    let client = || site.client(CLIENT, &server).flag("--instance", "one").start();
    let first = client();
    first.connected();
    let second = client();
    second.connected();
    first.log().line(&["another process uses this node's instance name", "--instance"]);
    eventually("the first is out", || {
        first.status()["peers"].as_array().is_some_and(Vec::is_empty)
    });
    eventually("one is left", || server.status()["peers"].as_array().map(Vec::len) == Some(1));
    assert_eq!(get(server.gateway(), "/client/fs/time").status, 200);
    assert_eq!(get(second.gateway(), "/server/time").status, 200);
}

#[test]
fn nodes_with_one_hostname_and_instances_of_their_own_share_the_calls() {
    let site = Site::new();
    let server = site.server().start();
    let clients: Vec<Node> = (0..3).map(|_| site.client(CLIENT, &server).start()).collect();
    eventually("all are there", || server.status()["peers"].as_array().map(Vec::len) == Some(3));
    for _ in 0..20 {
        assert_eq!(get(server.gateway(), "/client/fs/time").status, 200);
    }
    drop(clients);
    eventually("all are gone", || server.status()["peers"].as_array().is_some_and(Vec::is_empty));
}
