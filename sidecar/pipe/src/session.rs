//! The protocol without sockets or a clock.
//!
//! Frames, commands and the time come in; frames to send ([`Session::fill`])
//! and [`Output`]s come out. The caller feeds it until nothing more comes and
//! calls [`Session::on_timeout`] at [`Session::deadline`].

mod allowance;
mod batch;
mod command;
mod frames;
mod heartbeat;
mod incoming;
mod outgoing;
mod pace;
mod queue;
mod window;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use foldhash::HashMap;
use restpipe_proto::pb::{Cancel, CancelReason, GoAway, GoAwayReason, Limits, Notice};
use restpipe_proto::{Kind, VERSION, head};

use crate::Role;
use crate::budget::Budget;
use crate::error::Why;
use crate::limits::{HELLO_TIMEOUT, MAX_DETAIL, PIPE_BUDGET, PipeConfig, REMEMBERED_STREAMS};
use allowance::Allowance;
pub use batch::Batch;
pub use command::{Command, Output, Request};
use heartbeat::{Heartbeat, Silence};
use incoming::IncomingStream;
use outgoing::OutgoingStream;
use pace::Pace;
use queue::{Queue, Sent};
use window::Budgets;

/// One end of a pipe.
#[derive(Debug)]
pub struct Session {
    role: Role,
    max_streams: u32,
    budgets: Budgets,
    heartbeat: Heartbeat,
    pace: Pace,
    /// Until the peer's HELLO: when it is due.
    hello_due: Option<Instant>,
    /// The next id that this side has not used.
    next_own: u64,
    /// The highest id that the peer has used.
    last_peer: u64,
    outgoing: HashMap<u64, OutgoingStream>,
    incoming: HashMap<u64, IncomingStream>,
    /// Until then no stream is due. One that has ended meanwhile leaves this as it is: most do,
    /// long before they are due.
    next_due: Option<Instant>,
    queue: Queue,
    outputs: VecDeque<Output>,
    /// What the last fill did; kept for its memory.
    sent: Vec<Sent>,
    /// Streams that this side ended while the peer may still send on them.
    remembered: VecDeque<u64>,
    strays: Allowance,
    /// The last stream of the peer that is served, once it was told.
    told_last: Option<u64>,
    /// This side has heard that it may open no more streams.
    heard_last: bool,
}

impl Session {
    /// A session that begins by sending its HELLO.
    pub fn new(role: Role, config: PipeConfig, now: Instant) -> Self {
        let PipeConfig { mut hello, max_streams, heartbeat, budget } = config;
        hello.min_version = VERSION;
        hello.max_version = VERSION;
        hello.limits = Some(Limits { max_streams });
        hello.heartbeat_ms = u32::try_from(heartbeat.as_millis()).unwrap_or(u32::MAX);
        let mut queue = Queue::default();
        queue.control(Kind::Hello, 0, head::to_bytes(&hello));
        Self {
            role,
            max_streams,
            budgets: Budgets { pipe: Budget::new(PIPE_BUDGET), process: budget },
            heartbeat: Heartbeat::new(now, heartbeat),
            pace: Pace::new(2 * heartbeat),
            hello_due: Some(now + HELLO_TIMEOUT),
            next_own: role.first_stream(),
            last_peer: 0,
            outgoing: HashMap::default(),
            incoming: HashMap::default(),
            next_due: None,
            queue,
            outputs: VecDeque::new(),
            sent: Vec::new(),
            remembered: VecDeque::new(),
            strays: Allowance::of_strays(now),
            told_last: None,
            heard_last: false,
        }
    }

    /// The next thing to do, until there is none.
    pub fn next_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Whether [`Self::fill`] would give anything.
    pub fn has_frames(&self) -> bool {
        !self.queue.is_empty()
    }

    /// How many requests and replies wait, if writing a moment later may put
    /// more of them into one record: several calls are open and little is
    /// queued.
    pub fn may_stand_back(&self) -> Option<usize> {
        let open = self.outgoing.len() + self.incoming.len();
        self.queue.few_heads().filter(|_| open > 1)
    }

    /// Moves frames into `batch`; they count as sent from here on.
    pub fn fill(&mut self, batch: &mut Batch) {
        let mut sent = std::mem::take(&mut self.sent);
        self.queue.fill(batch, &mut sent);
        self.heartbeat.on_sent();
        batch.seal();
        for event in sent.drain(..) {
            match event {
                Sent::Request(stream) => self.on_request_sent(stream),
                Sent::End(stream) => self.on_end_sent(stream),
                Sent::Room(stream, bytes) => self.outputs.push_back(Output::Room { stream, bytes }),
            }
        }
        self.sent = sent;
    }

    /// Whether one side has said that it goes away and nothing is open: an end
    /// of the stream is then no loss.
    pub fn is_drained(&self) -> bool {
        (self.told_last.is_some() || self.heard_last)
            && self.outgoing.values().all(OutgoingStream::is_over)
            && self.incoming.is_empty()
            && self.queue.is_empty()
    }

    /// Whether this side may end the pipe now. Only the side that said GOAWAY
    /// ends it: the peer knows then that what was not served never will be.
    /// A side that only heard one may have requests on their way to it.
    pub fn may_close(&self) -> bool {
        self.told_last.is_some() && self.is_drained()
    }

    /// Frees what an idle pipe need not hold.
    pub fn shrink(&mut self) {
        self.queue.shrink();
        if self.outgoing.is_empty() {
            self.outgoing = HashMap::default();
        }
        if self.incoming.is_empty() {
            self.incoming = HashMap::default();
        }
        if self.outputs.is_empty() {
            self.outputs = VecDeque::new();
        }
        self.sent = Vec::new();
    }

    /// Whether nothing is kept for any stream. For tests: so nothing leaks.
    #[doc(hidden)]
    pub fn is_idle(&self) -> bool {
        self.outgoing.is_empty()
            && self.incoming.is_empty()
            && self.queue.holds_no_stream()
            && self.budgets.pipe.left() == PIPE_BUDGET
    }

    /// Bytes of body that the peer sent or may send at once. For tests.
    #[doc(hidden)]
    pub fn held(&self) -> usize {
        let replies = self.outgoing.values().map(|call| call.window.size());
        let requests = self.incoming.values().map(IncomingStream::held);
        replies.chain(requests).sum()
    }

    /// When [`Self::on_timeout`] is due.
    pub fn deadline(&self) -> Instant {
        let others = [self.hello_due, self.pace.deadline(), self.next_due];
        others.into_iter().flatten().fold(self.heartbeat.deadline(), Instant::min)
    }

    /// Notes that `got` bytes came, of which the last `rest` are no whole
    /// frame yet. Those that are one were taken before.
    pub fn on_bytes(&mut self, now: Instant, got: usize, rest: usize) {
        self.heartbeat.on_bytes(now);
        self.pace.on_bytes(now, got, rest);
    }

    /// Notes that `got` bytes came of which nothing can be read yet.
    pub fn on_part_of_record(&mut self, now: Instant, got: u64) {
        self.heartbeat.on_bytes(now);
        self.pace.on_part_of_record(now, got);
    }

    /// Does what the time asks for.
    ///
    /// # Errors
    /// If the pipe cannot go on: the peer is silent, too slow with a frame, or
    /// said no HELLO.
    pub fn on_timeout(&mut self, now: Instant) -> Result<(), Why> {
        if self.hello_due.is_some_and(|due| due <= now) {
            return Err(Why::NoHello(HELLO_TIMEOUT));
        }
        match self.heartbeat.on_timeout(now) {
            Silence::Fine => {}
            Silence::Ping(token) => self.queue.control(Kind::Ping, 0, head::ping_payload(token)),
            Silence::Tell(token) => self.queue.control(Kind::Pong, 0, head::ping_payload(token)),
            Silence::Dead(silent) => return Err(Why::Silent(silent)),
        }
        if let Some(behind) = self.pace.on_timeout(now) {
            return Err(Why::TooSlow(behind));
        }
        if self.next_due.is_some_and(|due| due <= now) {
            self.on_due(now);
        }
        Ok(())
    }

    /// Sees to it that the stream that is due then is looked at.
    fn watch(&mut self, due: Instant) {
        self.next_due = Some(self.next_due.map_or(due, |next| next.min(due)));
    }

    /// Looks at all streams, which are some hundreds at most.
    fn on_due(&mut self, now: Instant) {
        let calls = self.outgoing.iter().filter_map(|(stream, call)| Some((call.due?, *stream)));
        let events = self.incoming.iter().filter_map(|(stream, event)| Some((event.due?, *stream)));
        let (mut due, later): (Vec<_>, Vec<_>) =
            calls.chain(events).partition(|(due, _)| *due <= now);
        self.next_due = later.into_iter().map(|(due, _)| due).min();
        due.sort_unstable();
        for (_, stream) in due {
            if self.role.owns(stream) {
                self.on_call_deadline(now, stream);
            } else {
                self.on_handler_deadline(now, stream);
            }
        }
    }

    /// Carries out a command.
    pub fn on_command(&mut self, now: Instant, command: Command) {
        match command {
            Command::Request(request) => self.send_request(now, request),
            Command::Reply { stream, head, body, end } => {
                self.send_reply(now, stream, head, body, end);
            }
            Command::Data { stream, chunk, end } => {
                if !self.queue.data(stream, chunk, end) {
                    self.outputs.push_back(Output::StopBody { stream });
                }
            }
            Command::Consumed { stream, bytes } => self.on_consumed(now, stream, bytes),
            Command::Unwanted { stream } => {
                self.stop_request_body(stream);
            }
            Command::Cancel { stream, reason, detail } => {
                if self.role.owns(stream) {
                    self.cancel_call(stream, reason, detail);
                } else {
                    self.cancel_reply(stream, reason, detail);
                }
            }
            Command::HandlerDone { stream } => self.on_handler_done(stream),
            Command::GoAway { reason, detail, retry_after } => {
                self.push_go_away(reason, detail, retry_after);
            }
            Command::Limit { max_streams } => {
                self.max_streams = max_streams;
                self.queue.control(Kind::Limits, 0, head::to_bytes(&Limits { max_streams }));
            }
            Command::Notice { reload_failed } => {
                self.queue.control(Kind::Notice, 0, head::to_bytes(&Notice { reload_failed }));
            }
        }
    }

    /// Queues a GOAWAY that says why the pipe ends; for errors of the peer.
    pub fn say_why(&mut self, why: &Why) {
        if let Some((reason, detail)) = why.fault() {
            self.push_go_away(reason, detail, Duration::ZERO);
        }
    }

    fn push_go_away(&mut self, reason: GoAwayReason, detail: String, retry_after: Duration) {
        let last_stream = if reason == GoAwayReason::Replace {
            u64::MAX
        } else {
            // The first word stands: a second GOAWAY must not take more.
            *self.told_last.get_or_insert(self.last_peer)
        };
        let retry_after_ms = u32::try_from(retry_after.as_millis()).unwrap_or(u32::MAX);
        let away =
            GoAway { last_stream, retry_after_ms, reason: reason.into(), detail: cut(detail) };
        self.queue.control(Kind::GoAway, 0, head::to_bytes(&away));
    }

    /// The pipe is over: settles every call and stops every handler.
    pub fn end(&mut self, why: &Why) {
        // What was reported as not sent must not leave with the farewell.
        self.queue.drop_streams();
        self.end_calls(why);
        self.end_handlers();
        self.next_due = None;
    }

    fn push_cancel(&mut self, stream: u64, reason: CancelReason, detail: String) {
        let cancel = Cancel { reason: reason.into(), detail: cut(detail) };
        self.queue.control(Kind::Cancel, stream, head::to_bytes(&cancel));
    }

    fn push_credit(&mut self, stream: u64, bytes: u32) {
        if bytes > 0 {
            self.queue.control(Kind::Credit, stream, head::credit_payload(bytes));
        }
    }

    /// Expects late frames for a stream that this side has ended.
    fn remember(&mut self, stream: u64) {
        if self.remembered.len() == REMEMBERED_STREAMS {
            self.remembered.pop_front();
        }
        self.remembered.push_back(stream);
    }

    fn on_consumed(&mut self, now: Instant, stream: u64, bytes: usize) {
        let rtt = self.heartbeat.rtt();
        let window = if self.role.owns(stream) {
            self.outgoing.get_mut(&stream).map(|call| {
                call.consumed += bytes as u64;
                (&mut call.window, call.reply_ended)
            })
        } else {
            let event = self.incoming.get_mut(&stream);
            event.and_then(|event| Some((event.window.as_mut()?, event.body_over)))
        };
        let Some((window, ended)) = window else { return };
        window.on_consumed(bytes);
        if ended {
            self.finish_call(stream);
            self.finish_request_body(stream);
        } else {
            let credit = window.grant(now, rtt, &self.budgets);
            self.push_credit(stream, credit);
        }
    }

    fn on_end_sent(&mut self, stream: u64) {
        if self.role.owns(stream) {
            self.on_request_end_sent(stream);
        } else {
            self.on_reply_end_sent(stream);
        }
    }
}

/// A sentence that fits its frame, whoever wrote it.
fn cut(mut detail: String) -> String {
    if detail.len() > MAX_DETAIL {
        let end = (0..=MAX_DETAIL).rev().find(|end| detail.is_char_boundary(*end));
        detail.truncate(end.unwrap_or(0));
    }
    detail
}
