//! Faults that are survived under load: every call goes through a history,
//! which is held against the contract of outcomes at the end.

use std::time::{Duration, Instant};

use restpipe_pipe::Outcome;
use restpipe_tests::binary::{Node, SOON, eventually};
use restpipe_tests::http::{Ask, Connection};
use restpipe_tests::rotation::change_ca;
use restpipe_tests::stage::Stage;
use restpipe_tests::traffic::{BIG, Load, Traffic};

/// Callers at the client ask the server, and the other way round.
const CLIENT_ASKS: usize = 0;
const SERVER_ASKS: usize = 1;

/// A node that is killed is started again so often.
const KILLS: usize = 3;

/// Calls of each direction that are executed between faults.
const SOME: usize = 60;

/// Pings after half a second of silence; the pipe is dead after one.
const QUICK: [(&str, &str); 1] = [("--heartbeat", "500ms")];

/// Work that is going on whenever a fault comes.
const BUSY: Load = Load { callers: 6, deadline: Duration::from_secs(20), work_ms: 300 };

#[test]
fn a_server_killed_and_restarted_under_load_breaks_no_promise() {
    let mut stage = Stage::on_loopback(&[]);
    let traffic = stage.traffic(Load::default());
    for _ in 0..KILLS {
        traffic.executes(SOME, 2 * SOON);
        stage.server.take().expect("it runs").kill();
        stage.start_server();
    }
    traffic.executes(SOME, 2 * SOON);
    let report = traffic.end();
    assert!(report.count(CLIENT_ASKS, Outcome::Unknown) > 0, "{:?}", report.summary);
    assert!(report.unanswered.iter().all(|route| *route == SERVER_ASKS), "{report:?}");
}

#[test]
fn a_client_killed_and_restarted_under_load_breaks_no_promise() {
    let mut stage = Stage::on_loopback(&[]);
    let traffic = stage.traffic(Load::default());
    for _ in 0..KILLS {
        traffic.executes(SOME, 2 * SOON);
        stage.client.take().expect("it runs").kill();
        stage.start_client();
    }
    traffic.executes(SOME, 2 * SOON);
    let report = traffic.end();
    assert!(report.count(SERVER_ASKS, Outcome::Unknown) > 0, "{:?}", report.summary);
    assert!(report.unanswered.iter().all(|route| *route == CLIENT_ASKS), "{report:?}");
}

/// Freezes a node until the other has given the pipe up, and lets it go on: it
/// then answers what it was asked before, and is not believed.
fn frozen_past_the_heartbeat(frozen: fn(&Stage) -> (&Node, &Node), asks: usize) {
    let stage = Stage::on_loopback(&QUICK);
    let traffic = stage.traffic(BUSY);
    traffic.executes(SOME, 2 * SOON);
    let (frozen, other) = frozen(&stage);
    let from = other.log().len();
    frozen.signal("STOP");
    other.log().line_since(from, &["pipe has ended", "silent"]);
    // Whoever was waiting for it knows by now; nothing comes behind that.
    frozen.signal("CONT");
    traffic.executes(SOME, 2 * SOON);
    let report = traffic.end();
    assert!(report.count(asks, Outcome::Unknown) > 0, "{:?}", report.summary);
    assert!(report.unanswered.is_empty(), "{report:?}");
    for node in [frozen, other] {
        eventually("one pipe is left", || {
            node.status()["peers"].as_array().is_some_and(|peers| peers.len() == 1)
        });
    }
}

#[test]
fn a_server_frozen_past_the_heartbeat_is_not_believed_for_the_old_pipe() {
    frozen_past_the_heartbeat(|stage| (stage.server(), stage.client()), CLIENT_ASKS);
}

#[test]
fn a_client_frozen_past_the_heartbeat_is_not_believed_for_the_old_pipe() {
    frozen_past_the_heartbeat(|stage| (stage.client(), stage.server()), SERVER_ASKS);
}

/// Freezes a node for longer than the callers' deadline and shorter than the
/// heartbeat: it answers late and on the same pipe.
fn frozen_past_the_deadline(frozen: fn(&Stage) -> &Node, asks: usize) {
    let stage = Stage::on_loopback(&[]);
    let load = Load { callers: 6, deadline: Duration::from_secs(1), work_ms: 300 };
    // Only those whose own node goes on can be answered in time.
    let traffic = Traffic::start(&stage.history, &stage.routes()[asks..=asks], load);
    traffic.executes(SOME, 2 * SOON);
    frozen(&stage).signal("STOP");
    traffic.told_of("peer-timeout", 2 * load.callers);
    frozen(&stage).signal("CONT");
    traffic.executes(SOME, 2 * SOON);
    let report = traffic.end();
    assert!(report.unanswered.is_empty(), "{report:?}");
    let ended = stage.client().log().lines().iter().any(|line| line.contains("pipe has ended"));
    assert!(!ended, "the pipe was to live");
}

#[test]
fn late_answers_of_a_server_frozen_past_the_deadline_are_not_taken() {
    frozen_past_the_deadline(Stage::server, CLIENT_ASKS);
}

#[test]
fn late_answers_of_a_client_frozen_past_the_deadline_are_not_taken() {
    frozen_past_the_deadline(Stage::client, SERVER_ASKS);
}

#[test]
fn small_calls_pass_beside_an_answer_that_its_caller_never_reads() {
    let stage = Stage::on_loopback(&[]);
    let mut readers: Vec<_> = stage
        .routes()
        .iter()
        .map(|route| {
            let mut reader = Connection::open(&route.at);
            reader.send(Ask::new("GET", &format!("{}/big", route.prefix)).bytes());
            reader
        })
        .collect();
    let big = || stage.app.asked().iter().filter(|asked| asked.path() == "/big").count();
    eventually("both large answers are on their way", || big() == readers.len());
    let traffic = stage.traffic(Load { work_ms: 0, ..Load::default() });
    traffic.executes(1000, 3 * SOON);
    let report = traffic.end();
    report.none_failed(2000);
    assert!(report.longest() < Duration::from_secs(5), "{:?}", report.longest());
    // Whoever reads at last gets all of it.
    for reader in &mut readers {
        assert_eq!(reader.answer().body.len(), BIG);
    }
}

#[test]
fn certificates_and_ca_are_replaced_under_load_and_no_call_fails() {
    let stage = Stage::on_loopback(&[]);
    let traffic = stage.traffic(Load { callers: 4, ..Load::default() });
    traffic.executes(SOME, 2 * SOON);
    change_ca(&stage.site, stage.server(), stage.client());
    traffic.executes(SOME, 2 * SOON);
    traffic.end().none_failed(500);
}

/// Stops a node by SIGTERM and starts it again. What was running is finished,
/// what could not be begun is told so.
fn stopped(stage: &mut Stage, traffic: Traffic, node: fn(&mut Stage) -> &mut Option<Node>) {
    traffic.executes(SOME, 2 * SOON);
    let mut stopping = node(stage).take().expect("it runs");
    stopping.signal("TERM");
    assert_eq!(stopping.exit_code(), Some(0));
    drop(stopping);
    match stage.server {
        None => stage.start_server(),
        Some(_) => stage.start_client(),
    }
    traffic.executes(SOME, 2 * SOON);
    let report = traffic.end();
    // Nobody is left to guess: what a drain ends is finished or was not begun.
    assert_eq!(report.summary.unknown - report.unanswered.len(), 0, "{report:#?}");
}

#[test]
fn a_server_that_gets_sigterm_under_load_finishes_what_runs() {
    let mut stage = Stage::on_loopback(&[]);
    let traffic = stage.traffic(Load { work_ms: 100, ..Load::default() });
    stopped(&mut stage, traffic, |stage| &mut stage.server);
}

#[test]
fn a_client_that_gets_sigterm_under_load_finishes_what_runs() {
    let mut stage = Stage::on_loopback(&[]);
    let traffic = stage.traffic(Load { work_ms: 100, ..Load::default() });
    stopped(&mut stage, traffic, |stage| &mut stage.client);
}

#[test]
fn what_a_drain_cannot_wait_for_is_told_so_under_load() {
    // Of calls of up to 2 s some always take longer; in 200 ms all could end, and once did.
    let mut stage = Stage::on_loopback(&[("--drain", "20ms")]);
    let slow = Load { work_ms: 2000, ..Load::default() };
    let traffic = stage.traffic(slow);
    traffic.executes(2 * slow.callers, 3 * SOON);
    let mut server = stage.server.take().expect("it runs");
    let began = Instant::now();
    server.signal("TERM");
    assert_eq!(server.exit_code(), Some(0));
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    drop(server);
    stage.start_server();
    traffic.executes(2 * slow.callers, 3 * SOON);
    let report = traffic.end();
    assert!(report.count(CLIENT_ASKS, Outcome::Unknown) > 0, "{:?}", report.summary);
    assert!(report.unanswered.iter().all(|route| *route == SERVER_ASKS), "{report:?}");
}
