//! Two hosts, the network between them, and callers on both.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use restpipe::Verb;
use restpipe_config::Role;
use restpipe_pipe::backoff::Backoff;
use restpipe_pipe::pb::GoAwayReason;
use restpipe_pipe::{Outcome, PipeHandle, PipeState};
use restpipe_tests::history::{History, Run};
use tokio::io::DuplexStream;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::cable::{ACCEPTOR, Cable, DIALER};
use crate::handlers::{RUN, registry};
use crate::host::{CLIENT, Host};
use crate::tamper::Tamper;

/// Which host; also which end of a cable is its.
pub(crate) const SIDES: [usize; 2] = [DIALER, ACCEPTOR];

/// A dial into a partition is given up after this.
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);

/// An answer may come so much after its deadline.
const GRACE: Duration = Duration::from_secs(1);

/// One request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask {
    pub(crate) side: usize,
    pub(crate) verb: Verb,
    pub(crate) noun: &'static str,
    /// How long its handler takes.
    pub(crate) time: Duration,
    pub(crate) timeout: Duration,
    pub(crate) wait: Duration,
    /// Bytes of its body.
    pub(crate) body: usize,
}

pub(crate) struct World {
    pub(crate) history: History,
    pub(crate) faults: Mutex<Vec<String>>,
    pub(crate) trace: Mutex<Vec<String>>,
    hosts: [Mutex<Option<Host>>; 2],
    cables: Mutex<Vec<Cable>>,
    /// What each end sends is held up.
    held: [AtomicBool; 2],
    delay: Mutex<Duration>,
    tamper: Tamper,
    ids: AtomicU64,
    boots: AtomicU64,
    start: Instant,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    pub(crate) fn new(tamper: Tamper) -> Arc<Self> {
        Arc::new(Self {
            history: History::default(),
            faults: Mutex::default(),
            trace: Mutex::default(),
            hosts: [Mutex::new(None), Mutex::new(None)],
            cables: Mutex::default(),
            held: [AtomicBool::new(false), AtomicBool::new(false)],
            delay: Mutex::new(Duration::from_millis(1)),
            tamper,
            ids: AtomicU64::new(1),
            boots: AtomicU64::new(1),
            start: Instant::now(),
        })
    }

    pub(crate) fn note(&self, what: impl std::fmt::Display) {
        let at = self.start.elapsed().as_micros();
        lock(&self.trace).push(format!("{at:>11} {what}"));
    }

    pub(crate) fn fault(&self, what: impl std::fmt::Display) {
        self.note(format_args!("FAULT {what}"));
        lock(&self.faults).push(what.to_string());
    }

    // === hosts ===

    /// Starts a host that is not running.
    pub(crate) fn start(self: &Arc<Self>, side: usize) {
        let mut host = lock(&self.hosts[side]);
        if host.is_some() {
            return;
        }
        self.note(format_args!("start {side}"));
        let role = if side == DIALER { Role::Client } else { Role::Server };
        let boot = self.boots.fetch_add(1, Ordering::Relaxed);
        let new = Host::new(role, boot, registry(&self.history));
        if side == DIALER {
            tokio::spawn(self.clone().dial_for_ever(new.stopping.clone()));
        }
        *host = Some(new);
    }

    pub(crate) fn kill(&self, side: usize) {
        if let Some(mut host) = lock(&self.hosts[side]).take() {
            self.note(format_args!("kill {side}"));
            host.kill();
        }
    }

    pub(crate) fn drain(&self, side: usize) {
        if let Some(host) = &*lock(&self.hosts[side]) {
            self.note(format_args!("drain {side}"));
            host.drain();
        }
    }

    /// A host that drains and has nothing left to do ends.
    pub(crate) fn end_drained(&self, side: usize) {
        let done = |host: &Host| host.stopping.is_cancelled() && host.is_drained();
        if lock(&self.hosts[side]).as_ref().is_some_and(done) {
            self.kill(side);
        }
    }

    pub(crate) fn is_stopping(&self, side: usize) -> bool {
        lock(&self.hosts[side]).as_ref().is_none_or(|host| host.stopping.is_cancelled())
    }

    /// The server asks its clients for fresh pipes.
    pub(crate) fn replace(&self) {
        self.note("replace");
        if let Some(host) = &*lock(&self.hosts[ACCEPTOR]) {
            for peer in host.router.peers() {
                peer.pipe.go_away(GoAwayReason::Replace, "a fresh pipe, please", Duration::ZERO);
            }
        }
    }

    /// What is left of calls that are over, in words.
    pub(crate) fn leftovers(&self, side: usize, budget: usize) -> Option<String> {
        let host = lock(&self.hosts[side]);
        let host = host.as_ref()?;
        let busy = host
            .router
            .peers()
            .iter()
            .map(|peer| peer.pipe.in_flight() + peer.pipe.serving())
            .sum::<usize>();
        let left = host.budget.left();
        (busy != 0 || left != budget || host.router.len() != 1).then(|| {
            format!("side {side}: {busy} calls, {left} bytes, {} pipes", host.router.len())
        })
    }

    // === network ===

    pub(crate) fn set_delay(&self, delay: Duration) {
        self.note(format_args!("delay {delay:?}"));
        *lock(&self.delay) = delay;
    }

    pub(crate) fn cut(&self) {
        self.note("cut");
        lock(&self.cables).drain(..).for_each(|cable| cable.cut());
    }

    pub(crate) fn hold(&self, from: usize, held: bool) {
        self.note(format_args!("hold {from} {held}"));
        self.held[from].store(held, Ordering::Relaxed);
        lock(&self.cables).iter().for_each(|cable| cable.hold(from, held));
    }

    async fn dial_for_ever(self: Arc<Self>, stop: CancellationToken) {
        let (mut backoff, mut epoch) = (Backoff::default(), 0);
        let mut live: Option<PipeHandle> = None;
        while !stop.is_cancelled() {
            epoch += 1;
            let dialled = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                dialled = self.dial(epoch) => dialled,
            };
            let pause = match dialled {
                None => backoff.pause(),
                Some(new) => {
                    if let Some(old) = live.take() {
                        tokio::spawn(old.retire());
                    }
                    let begun = Instant::now();
                    let again = tokio::select! {
                        biased;
                        () = stop.cancelled() => return,
                        again = until_next(&new) => again,
                    };
                    if begun.elapsed() >= restpipe_pipe::backoff::HEALTHY {
                        backoff.reset();
                    }
                    live = again.then_some(new);
                    if again { Duration::ZERO } else { backoff.pause() }
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn dial(&self, epoch: u64) -> Option<PipeHandle> {
        let until = Instant::now() + DIAL_TIMEOUT;
        while self.held.iter().any(|held| held.load(Ordering::Relaxed)) {
            if Instant::now() >= until {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        if self.is_stopping(ACCEPTOR) {
            return None;
        }
        let delay = *lock(&self.delay);
        tokio::time::sleep(2 * delay).await;
        let pipe = {
            let (mut client, mut server) = (lock(&self.hosts[DIALER]), lock(&self.hosts[ACCEPTOR]));
            let (client, server) = (client.as_mut()?, server.as_mut()?);
            let (cable, [near, far]) = Cable::new(delay, &self.tamper);
            lock(&self.cables).push(cable);
            drop(server.open(far, epoch));
            client.open(near, epoch).0
        };
        let opened = pipe.opened().await;
        self.note(format_args!("pipe {epoch} {}", if opened.is_ok() { "up" } else { "failed" }));
        opened.ok().map(|_| pipe)
    }

    // === callers ===

    fn connect(&self, side: usize) -> Option<DuplexStream> {
        lock(&self.hosts[side]).as_mut().map(Host::connect)
    }

    /// Asks, and notes what comes of it. Returns whether the handler answered.
    pub(crate) async fn ask(self: Arc<Self>, ask: Ask) -> bool {
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        self.history.asked(id, matches!(ask.verb, Verb::Get | Verb::Head));
        self.note(format_args!("ask {id} {ask:?}"));
        let begun = Instant::now();
        let (outcome, run) = match self.connect(ask.side) {
            // Nobody listens: the caller knows that nothing was sent.
            None => (Outcome::NotSent, None),
            Some(stream) => self.exchange(stream, id, ask, begun).await,
        };
        self.note(format_args!("answer {id} {} {run:?}", outcome.word()));
        self.history.answered(id, outcome, run);
        outcome == Outcome::Executed
    }

    async fn exchange(
        &self,
        stream: DuplexStream,
        id: u64,
        ask: Ask,
        begun: Instant,
    ) -> (Outcome, Option<Run>) {
        let to =
            if ask.side == DIALER { "/server".to_owned() } else { format!("/client/{CLIENT}") };
        let request = Request::builder()
            .method(ask.verb.method())
            .uri(format!("{to}/{}//{id}/{}", ask.noun, ask.time.as_millis()))
            .header("host", "localhost")
            .header("restpipe-timeout", format!("{}ms", ask.timeout.as_millis()))
            .header("prefer", format!("wait={}", ask.wait.as_secs()))
            .body(Full::new(Bytes::from(vec![b'x'; ask.body])))
            .expect("a request");
        let Ok((mut sender, connection)) = http1::handshake(TokioIo::new(stream)).await else {
            return (Outcome::Unknown, None);
        };
        let connection = tokio::spawn(connection);
        let result = sender.send_request(request).await;
        if begun.elapsed() > ask.timeout + GRACE {
            self.fault(format_args!(
                "request {id} had its answer after {:?}: {ask:?}",
                begun.elapsed()
            ));
        }
        // Its own node is gone: the caller knows nothing.
        let Ok(response) = result else { return (Outcome::Unknown, None) };
        let header = |name: &str| response.headers().get(name)?.to_str().ok().map(str::to_owned);
        let word = header("x-event-outcome");
        let run = header(RUN).and_then(|run| Run::parse(&run));
        let whole = response.into_body().collect().await.is_ok();
        connection.abort();
        match word.as_deref() {
            Some("executed") if whole => (Outcome::Executed, run),
            Some("executed" | "unknown") => (Outcome::Unknown, None),
            Some("refused") => (Outcome::Refused, None),
            Some("not-sent") => (Outcome::NotSent, None),
            _ => {
                self.fault(format_args!("request {id} was answered without an outcome: {word:?}"));
                (Outcome::Unknown, None)
            }
        }
    }

    /// Whether a pipe is up.
    pub(crate) fn is_connected(&self) -> bool {
        SIDES.iter().all(|side| {
            let host = lock(&self.hosts[*side]);
            host.as_ref()
                .is_some_and(|host| host.router.peers().iter().any(|peer| peer.pipe.is_usable()))
        })
    }
}

/// Waits until another pipe is wanted. `true`: while this one is still good.
async fn until_next(pipe: &PipeHandle) -> bool {
    let mut state = pipe.state();
    loop {
        match &*state.borrow_and_update() {
            PipeState::Ended(_) => return false,
            PipeState::Replacing(_) | PipeState::Draining(_) => return true,
            PipeState::Opening | PipeState::Open => {}
        }
        if state.changed().await.is_err() {
            return false;
        }
    }
}

/// Callers that are waiting for their answers.
#[derive(Default)]
pub(crate) struct Callers(JoinSet<bool>);

impl Callers {
    pub(crate) fn ask(&mut self, world: &Arc<World>, ask: Ask) {
        while self.0.try_join_next().is_some() {}
        self.0.spawn(world.clone().ask(ask));
    }

    /// Waits for all of them; returns how many handlers have answered.
    pub(crate) async fn answered(&mut self) -> usize {
        let mut executed = 0;
        while let Some(answered) = self.0.join_next().await {
            executed += usize::from(answered.expect("a caller does not panic"));
        }
        executed
    }
}
