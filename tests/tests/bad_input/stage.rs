//! One server, a good client that never stops to ask, and who misbehaves.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use restpipe_pipe::pb::Hello;
use restpipe_tests::app::{App, Asked, Say};
use restpipe_tests::binary::{Node, Start, eventually};
use restpipe_tests::http::{Answer, Ask, At, Connection};
use restpipe_tests::site::{CLIENT, Site};
use restpipe_tests::usage::metric;
use restpipe_tests::wire::{Wire, WirePeer, hello_of, local};
use tokio::task::spawn_blocking;

/// The good client's hostname; that of the bad one is [`CLIENT`].
pub(crate) const GOOD: &str = "good";

/// Between two calls of the good client, so that it leaves the processor to
/// what is tested.
const PAUSE: Duration = Duration::from_millis(2);

/// Everything of one test. The good client is stopped first.
pub(crate) struct Stage {
    pub(crate) good: Good,
    pub(crate) server: Node,
    pub(crate) wire: Wire,
    app: App,
    pub(crate) site: Site,
}

impl Stage {
    /// A server whose app answers everything with the body that it got.
    pub(crate) fn new() -> Self {
        Self::with(|server| server, |asked| Say::answer("200 OK", &[], &text(asked)))
    }

    /// A server with flags and an app of its own.
    pub(crate) fn with(
        flags: impl FnOnce(Start) -> Start,
        app: impl Fn(&Asked) -> Say + Send + Sync + 'static,
    ) -> Self {
        let site = Site::new();
        let app = App::tcp(app);
        let server = flags(site.server().flag("--app", app.url())).start();
        let good = Good::start(&site, &server);
        let wire = Wire::new(&site, CLIENT, server.pipe());
        Self { good, server, wire, app, site }
    }

    /// A pipe of the bad client, that the server knows of.
    pub(crate) async fn peer(&self, instance: &str) -> WirePeer {
        self.open(&self.wire, &hello_of(instance)).await
    }

    /// A pipe of anybody's, that the server knows of: its HELLO comes before
    /// it may be asked for something.
    pub(crate) async fn open(&self, wire: &Wire, hello: &Hello) -> WirePeer {
        let before = self.counted("restpipe_pipes_opened_total", "");
        let peer = wire.open_as(local(2), hello).await.expect("a pipe");
        let opened = || self.counted("restpipe_pipes_opened_total", "") > before;
        eventually("the server knows of the pipe", opened);
        peer
    }

    /// Asks the bad client for something, as an app beside the server does.
    pub(crate) fn ask(&self, noun: &str) -> tokio::task::JoinHandle<std::io::Result<Answer>> {
        ask(self.server.gateway(), CLIENT, noun)
    }

    /// A counter of the server.
    pub(crate) fn counted(&self, name: &str, label: &str) -> f64 {
        metric(&self.server, name, label)
    }

    /// How often the server's app was asked for something of that name.
    pub(crate) fn runs(&self, name: &str) -> usize {
        self.app.asked().iter().filter(|asked| asked.path().contains(name)).count()
    }

    /// Waits until no other pipe is up than the good client's.
    pub(crate) fn is_alone(&self) {
        eventually("only the good client is there", || self.counted("restpipe_pipes", "") == 1.0);
    }
}

/// Asks a client of `gateway` without waiting for it to connect.
pub(crate) fn ask(
    gateway: &At,
    client: &str,
    noun: &str,
) -> tokio::task::JoinHandle<std::io::Result<Answer>> {
    let ask = Ask::new("POST", &format!("/client/{client}/{noun}")).header("Prefer", "wait=0");
    let (ask, gateway) = (ask.body("asked"), gateway.clone());
    spawn_blocking(move || {
        let mut connection = Connection::try_open(&gateway)?;
        connection.send(ask.bytes());
        connection.try_answer()
    })
}

fn text(asked: &Asked) -> String {
    String::from_utf8_lossy(&asked.body).into_owned()
}

#[derive(Default)]
struct Tally {
    stop: AtomicBool,
    answered: AtomicUsize,
    failed: Mutex<Vec<String>>,
}

/// A real client whose calls go on all the time.
pub(crate) struct Good {
    tally: Arc<Tally>,
    caller: Option<JoinHandle<()>>,
    node: Node,
}

impl Good {
    fn start(site: &Site, server: &Node) -> Self {
        let node = site.client(GOOD, server).start();
        node.connected();
        let (tally, gateway) = (Arc::<Tally>::default(), node.gateway().clone());
        let calls = tally.clone();
        let caller = thread::spawn(move || {
            while !calls.stop.load(Ordering::SeqCst) {
                match call(&gateway, "good") {
                    Ok(()) => drop(calls.answered.fetch_add(1, Ordering::SeqCst)),
                    Err(what) => {
                        calls.failed.lock().unwrap_or_else(PoisonError::into_inner).push(what);
                    }
                }
                thread::sleep(PAUSE);
            }
        });
        let good = Self { tally, caller: Some(caller), node };
        good.goes_on();
        good
    }

    /// Its gateway.
    pub(crate) fn gateway(&self) -> &At {
        self.node.gateway()
    }

    /// What went wrong with its calls.
    fn failures(&self) -> Vec<String> {
        self.tally.failed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for answers to calls that were made from now on.
    pub(crate) fn goes_on(&self) {
        let answered = || self.tally.answered.load(Ordering::SeqCst);
        // The next answer may be to a call that was made before.
        let enough = answered() + 2;
        eventually("the good client's calls are answered", || {
            assert_eq!(self.failures(), Vec::<String>::new(), "the good client's calls");
            answered() >= enough
        });
    }

    /// Ends its calls, of which none has failed.
    pub(crate) fn stop(&mut self) {
        self.tally.stop.store(true, Ordering::SeqCst);
        if let Some(caller) = self.caller.take() {
            caller.join().expect("the caller");
        }
        if !thread::panicking() {
            assert_eq!(self.failures(), Vec::<String>::new(), "the good client's calls");
        }
    }
}

impl Drop for Good {
    fn drop(&mut self) {
        self.stop();
    }
}

fn call(gateway: &At, body: &str) -> Result<(), String> {
    let ask = Ask::new("POST", "/server/good").header("Connection", "close").body(body);
    let mut connection = Connection::try_open(gateway).map_err(|error| error.to_string())?;
    connection.send(ask.bytes());
    let answer = connection.try_answer().map_err(|error| error.to_string())?;
    match (answer.status, answer.text()) {
        (200, text) if text == body => Ok(()),
        (status, text) => Err(format!("{status} {text}")),
    }
}
