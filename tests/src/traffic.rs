//! Load over the gateways, each call of which is noted in a [`History`]: what
//! callers asked and were told, and what the app ran.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use restpipe_pipe::Outcome;

use crate::app::{App, Asked, Say};
use crate::binary::{eventually, found_within};
use crate::history::{History, Id, Run, Summary};
use crate::http::{Answer, Ask, At, Connection};

/// The header in which the app says which run an answer is of.
pub const RUN: &str = "x-run";

/// Verbs that callers use in turn: half of them must never run twice.
const VERBS: [&str; 4] = ["POST", "GET", "PATCH", "PUT"];

/// Every so many calls one has a body that is streamed and not sent in one
/// piece with its head.
const LARGE_EVERY: u64 = 16;

/// Bytes of such a body.
const LARGE: usize = 40_000;

/// Between two looks at a gateway on which nobody listens.
const AWAY_PAUSE: Duration = Duration::from_millis(20);

/// What an answer may come too late, on a machine that is busy.
pub const GRACE: Duration = Duration::from_secs(1);

/// Bytes of the answer to `/big`.
pub const BIG: usize = 32 << 20;

/// An app at a Unix socket that takes `/run/ID?ms=N`, notes the run in
/// `history`, works for N milliseconds, and puts the run into its answer; for
/// `/big` it answers with [`BIG`] bytes.
pub fn noting_app(socket: &Path, history: &History) -> App {
    let history = history.clone();
    App::unix(socket, move |asked| note_run(&history, asked))
}

fn note_run(history: &History, asked: &Asked) -> Say {
    let (path, query) = asked.path().split_once('?').unwrap_or((asked.path(), ""));
    if path == "/big" {
        return Say::answer("200 OK", &[], &"x".repeat(BIG));
    }
    let id = path.strip_prefix("/run/").and_then(|id| id.parse().ok());
    let Some(id) = id else { return Say::answer("404 Not Found", &[], "") };
    let run = history.started(id);
    let ms = query.strip_prefix("ms=").and_then(|ms| ms.parse().ok()).unwrap_or(0);
    thread::sleep(Duration::from_millis(ms));
    history.ended(run);
    Say::answer("200 OK", &[(RUN, &run.to_string())], "done")
}

/// Callers of one direction.
#[derive(Clone, Debug)]
pub struct Route {
    /// Their gateway.
    pub at: At,
    /// What stands before the noun: `/server`, `/client/NAME`.
    pub prefix: String,
}

/// How hard the load is.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Callers for each direction; each waits for one answer before it asks again.
    pub callers: usize,
    /// The deadline of each call, whole seconds.
    pub deadline: Duration,
    /// The app works up to this long, milliseconds.
    pub work_ms: u64,
}

impl Default for Load {
    fn default() -> Self {
        Self { callers: 6, deadline: Duration::from_secs(20), work_ms: 40 }
    }
}

/// One call that was answered.
#[derive(Clone, Debug)]
pub struct Told {
    /// The index of its [`Route`].
    pub route: usize,
    /// Its verb.
    pub verb: &'static str,
    /// What it was told.
    pub outcome: Outcome,
    /// Status.
    pub status: u16,
    /// The problem's code, if it is one.
    pub code: String,
    /// When it was asked.
    pub asked: Instant,
    /// When it had its answer.
    pub answered: Instant,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    ids: AtomicU64,
    told: Mutex<Vec<Told>>,
    unanswered: Mutex<Vec<usize>>,
}

/// Callers in the background.
#[derive(Debug)]
pub struct Traffic {
    history: History,
    load: Load,
    routes: usize,
    shared: Arc<Shared>,
    callers: Vec<JoinHandle<()>>,
}

/// What became of all calls.
#[derive(Clone, Debug)]
pub struct Report {
    /// How many had which outcome; the contract was kept.
    pub summary: Summary,
    /// The answered ones, in the order of their answers.
    pub told: Vec<Told>,
    /// Calls whose own gateway went away before it had answered: their routes.
    pub unanswered: Vec<usize>,
}

impl Traffic {
    /// Starts to call.
    pub fn start(history: &History, routes: &[Route], load: Load) -> Self {
        let shared = Arc::new(Shared::default());
        let caller = |index: usize, route: &Route| {
            let (history, route, shared) = (history.clone(), route.clone(), shared.clone());
            let caller = Caller { history, index, route, load, shared, connection: None };
            thread::spawn(move || caller.run())
        };
        let callers = routes.iter().enumerate().flat_map(|(index, route)| {
            (0..load.callers).map(move |_| (index, route)).collect::<Vec<_>>()
        });
        let callers = callers.map(|(index, route)| caller(index, route)).collect();
        Self { history: history.clone(), load, routes: routes.len(), shared, callers }
    }

    fn told(&self) -> Vec<Told> {
        locked(&self.shared.told).clone()
    }

    /// Waits until `count` calls of each direction that were asked from now on
    /// are executed.
    ///
    /// # Panics
    /// If they are not within `limit`.
    pub fn executes(&self, count: usize, limit: Duration) {
        let from = Instant::now();
        let what = format!("{count} calls of each direction are executed");
        found_within(limit, &what, || {
            let told = self.told();
            let executed = |route| {
                let of = |call: &&Told| call.route == route && call.outcome == Outcome::Executed;
                told.iter().rev().filter(of).filter(|call| call.asked >= from).count()
            };
            (0..self.routes).all(|route| executed(route) >= count).then_some(())
        });
    }

    /// Waits until `count` calls have ended with a problem of that code.
    ///
    /// # Panics
    /// If they have not soon.
    pub fn told_of(&self, code: &str, count: usize) {
        let told = || self.told().iter().filter(|call| call.code == code).count();
        eventually(&format!("{count} calls are told {code}"), || told() >= count);
    }

    /// Ends it. Every call must have been answered in time, and as the contract
    /// says.
    ///
    /// # Panics
    /// If one was not.
    pub fn end(self) -> Report {
        self.shared.stop.store(true, Ordering::SeqCst);
        for caller in self.callers {
            caller.join().expect("a caller does not panic");
        }
        let told = std::mem::take(&mut *locked(&self.shared.told));
        let unanswered = std::mem::take(&mut *locked(&self.shared.unanswered));
        let summary = self.history.check().unwrap_or_else(|faults| panic!("{faults:#?}"));
        for call in &told {
            let took = call.answered.duration_since(call.asked);
            assert!(took <= self.load.deadline + GRACE, "it took {took:?}: {call:?}");
        }
        Report { summary, told, unanswered }
    }
}

impl Report {
    /// The longest that any call waited for its answer.
    pub fn longest(&self) -> Duration {
        let took = self.told.iter().map(|call| call.answered.duration_since(call.asked));
        took.max().unwrap_or_default()
    }

    /// How many calls of a route had that outcome.
    pub fn count(&self, route: usize, outcome: Outcome) -> usize {
        self.told.iter().filter(|call| call.route == route && call.outcome == outcome).count()
    }

    /// All calls were executed, and there were at least `count`.
    ///
    /// # Panics
    /// If not.
    pub fn none_failed(&self, count: usize) {
        let failed: Vec<_> =
            self.told.iter().filter(|call| call.outcome != Outcome::Executed).collect();
        assert!(failed.is_empty() && self.unanswered.is_empty(), "{failed:#?} {self:?}");
        assert!(self.told.len() >= count, "only {} calls", self.told.len());
    }
}

fn locked<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Caller {
    history: History,
    index: usize,
    route: Route,
    load: Load,
    shared: Arc<Shared>,
    connection: Option<Connection>,
}

impl Caller {
    fn run(mut self) {
        while !self.shared.stop.load(Ordering::SeqCst) {
            let connection = match self.connection.take() {
                Some(connection) => connection,
                // Its own node is down: nothing was asked.
                None => match Connection::try_open(&self.route.at) {
                    Ok(connection) => connection,
                    Err(_) => {
                        thread::sleep(AWAY_PAUSE);
                        continue;
                    }
                },
            };
            self.call(connection);
        }
    }

    fn call(&mut self, mut connection: Connection) {
        let id = self.shared.ids.fetch_add(1, Ordering::SeqCst);
        let verb = VERBS[(id % VERBS.len() as u64) as usize];
        // A prime spreads the first few over all of it.
        let ms = id * 997 % (self.load.work_ms + 1);
        let path = format!("{}/run//{id}?ms={ms}", self.route.prefix);
        let deadline = format!("{}s", self.load.deadline.as_secs());
        let mut ask = Ask::new(verb, &path).header("RestPipe-Timeout", &deadline);
        if verb != "GET" {
            let large = id.is_multiple_of(LARGE_EVERY);
            ask = ask.body(vec![b'x'; if large { LARGE } else { 20 }]);
        }
        let asked = Instant::now();
        self.history.asked(id, verb == "GET");
        connection.send(ask.bytes());
        let answer = connection.try_answer();
        let answered = Instant::now();
        match answer {
            Ok(answer) => {
                let (outcome, run) = of_answer(id, &answer);
                self.history.answered(id, outcome, run);
                let (route, status, code) = (self.index, answer.status, answer.code());
                let told = Told { route, verb, outcome, status, code, asked, answered };
                locked(&self.shared.told).push(told);
                if answer.header("connection") != Some("close") {
                    self.connection = Some(connection);
                }
            }
            Err(error) => {
                assert!(
                    error.kind() != std::io::ErrorKind::WouldBlock,
                    "request {id} has no answer"
                );
                // What its caller knows of a call whose gateway went away.
                self.history.answered(id, Outcome::Unknown, None);
                locked(&self.shared.unanswered).push(self.index);
            }
        }
    }
}

/// What an answer says: its outcome, and the run that gave it.
///
/// # Panics
/// If it says nothing of its outcome.
pub fn of_answer(id: Id, answer: &Answer) -> (Outcome, Option<Run>) {
    let word = answer.header("x-event-outcome").unwrap_or_default();
    let all = [Outcome::Executed, Outcome::NotSent, Outcome::Refused, Outcome::Unknown];
    let outcome = all.into_iter().find(|outcome| outcome.word() == word);
    let outcome = outcome.unwrap_or_else(|| panic!("{id}: no outcome: {answer:?}"));
    (outcome, answer.header(RUN).and_then(Run::parse))
}
