//! The application above one session: it makes calls and handles events by
//! the noun they name.

use std::collections::BTreeMap;
use std::time::Instant;

use bytes::Bytes;
use restpipe_pipe::Outcome;
use restpipe_pipe::pb::{CancelReason, GoAway, ReplyHead, RequestHead};
use restpipe_pipe::session::{Command, Output, Request};

/// Consumers report what they took in lots of this size, or at the end.
const REPORT_EVERY: usize = 8 * 1024;

/// A body that is being sent.
#[derive(Debug, Default)]
struct Source {
    left: usize,
    room: usize,
    over: bool,
}

impl Source {
    fn of(left: usize) -> Self {
        Self { left, ..Self::default() }
    }

    fn pump(&mut self, stream: u64, out: &mut Vec<Command>) {
        while !self.over && self.room > 0 && self.left > 0 {
            let len = self.room.min(self.left).min(10_000);
            (self.room, self.left) = (self.room - len, self.left - len);
            out.push(Command::Data { stream, chunk: vec![7; len].into(), end: false });
        }
        if !self.over && self.left == 0 {
            self.over = true;
            out.push(Command::Data { stream, chunk: Bytes::new(), end: true });
        }
    }
}

/// A body that is being received.
#[derive(Debug, Default)]
struct Sink {
    waiting: usize,
    taken: usize,
    total: usize,
    ended: bool,
}

impl Sink {
    fn add(&mut self, len: usize, end: bool) {
        self.waiting += len;
        self.ended |= end;
    }

    /// Takes up to `thirst` bytes.
    fn pump(&mut self, stream: u64, thirst: usize, out: &mut Vec<Command>) {
        let len = self.waiting.min(thirst);
        self.waiting -= len;
        self.taken += len;
        self.total += len;
        if self.taken >= REPORT_EVERY || (self.is_done() && self.taken > 0) {
            out.push(Command::Consumed { stream, bytes: std::mem::take(&mut self.taken) });
        }
    }

    fn is_done(&self) -> bool {
        self.ended && self.waiting == 0
    }
}

#[derive(Debug)]
pub(crate) struct CallLog {
    pub(crate) outcomes: Vec<Outcome>,
    pub(crate) words: String,
    pub(crate) dropped: bool,
    replied: bool,
    inline: usize,
    source: Source,
    sink: Sink,
}

impl CallLog {
    /// Bytes of the answer's body.
    pub(crate) fn answer(&self) -> usize {
        self.inline + self.sink.total
    }

    pub(crate) fn is_open(&self) -> bool {
        self.outcomes.is_empty() && !self.dropped
    }
}

#[derive(Debug)]
struct Event {
    noun: String,
    inline: usize,
    sink: Sink,
    source: Option<Source>,
    answered: bool,
    aborted: bool,
    done: bool,
}

#[derive(Debug)]
pub(crate) struct App {
    pub(crate) calls: BTreeMap<u64, CallLog>,
    events: BTreeMap<u64, Event>,
    /// Handlers started, by stream.
    pub(crate) starts: BTreeMap<u64, u32>,
    pub(crate) aways: Vec<GoAway>,
    pub(crate) peer_streams: u32,
    pub(crate) heartbeats: usize,
    pub(crate) refused: usize,
    /// Bytes that each consumer takes when it is looked at.
    pub(crate) thirst: usize,
    /// Handlers go on when they are stopped.
    pub(crate) stubborn: bool,
    next: u64,
}

impl App {
    pub(crate) fn new(first: u64) -> Self {
        Self {
            calls: BTreeMap::new(),
            events: BTreeMap::new(),
            starts: BTreeMap::new(),
            aways: Vec::new(),
            peer_streams: 0,
            heartbeats: 0,
            refused: 0,
            thirst: usize::MAX,
            stubborn: false,
            next: first,
        }
    }

    /// A call of `noun` with `inline` bytes of body in the head's frame and
    /// `more` behind it.
    pub(crate) fn call(
        &mut self,
        noun: &str,
        inline: usize,
        more: Option<usize>,
        deadline: Instant,
    ) -> (u64, Command) {
        let stream = self.next;
        self.next += 2;
        let head = RequestHead { noun: noun.into(), ..RequestHead::default() };
        let end = more.is_none();
        let source = more.map_or(Source { over: true, ..Source::default() }, Source::of);
        let log = CallLog {
            outcomes: Vec::new(),
            words: String::new(),
            dropped: false,
            replied: false,
            inline: 0,
            source,
            sink: Sink::default(),
        };
        self.calls.insert(stream, log);
        let body = vec![1; inline].into();
        (
            stream,
            Command::Request(Box::new(Request {
                stream,
                head: head.into(),
                tail: Default::default(),
                body,
                end,
                deadline,
            })),
        )
    }

    pub(crate) fn drop_call(&mut self, stream: u64) -> Command {
        if let Some(call) = self.calls.get_mut(&stream) {
            call.dropped = true;
            call.source.over = true;
            call.sink = Sink::default();
        }
        Command::Cancel { stream, reason: CancelReason::CallerGone, detail: String::new() }
    }

    pub(crate) fn running(&self) -> usize {
        self.events.values().filter(|event| !event.done).count()
    }

    pub(crate) fn on_output(&mut self, output: Output) {
        match output {
            Output::Opened(hello) => {
                self.peer_streams = hello.limits.map_or(0, |limits| limits.max_streams)
            }
            Output::Request { stream, head, body, end, .. } => {
                self.on_event(stream, &head.noun, body.len(), end)
            }
            Output::Abort { stream } => {
                if let Some(event) = self.events.get_mut(&stream) {
                    event.aborted = true;
                }
            }
            Output::Reply { stream, body, end, .. } => self.on_reply(stream, body.len(), end),
            Output::Data { stream, chunk, end } => {
                if let Some(call) = self.calls.get_mut(&stream).filter(|call| !call.dropped) {
                    call.sink.add(chunk.len(), end);
                } else if let Some(event) = self.events.get_mut(&stream) {
                    event.sink.add(chunk.len(), end);
                }
            }
            Output::Failed { stream, error } => {
                if let Some(call) = self.calls.get_mut(&stream).filter(|call| !call.dropped) {
                    call.source.over = true;
                    call.words = error.to_string();
                    call.outcomes.push(error.outcome());
                }
            }
            Output::Room { stream, bytes } => {
                self.source(stream).map_or((), |source| source.room += bytes)
            }
            Output::StopBody { stream } => {
                self.source(stream).map_or((), |source| source.over = true)
            }
            Output::Refused(_) => self.refused += 1,
            Output::HeartbeatRtt(_) => self.heartbeats += 1,
            Output::GoingAway(away) => self.aways.push(away),
            Output::Limit(streams) => self.peer_streams = streams,
            Output::Notice(_) => {}
        }
    }

    fn source(&mut self, stream: u64) -> Option<&mut Source> {
        match self.calls.get_mut(&stream) {
            Some(call) => Some(&mut call.source),
            None => self.events.get_mut(&stream)?.source.as_mut(),
        }
    }

    fn on_event(&mut self, stream: u64, noun: &str, inline: usize, end: bool) {
        *self.starts.entry(stream).or_default() += 1;
        let event = Event {
            noun: noun.to_owned(),
            inline,
            sink: Sink { ended: end, ..Sink::default() },
            source: None,
            answered: false,
            aborted: false,
            done: false,
        };
        self.events.insert(stream, event);
    }

    fn on_reply(&mut self, stream: u64, len: usize, end: bool) {
        let Some(call) = self.calls.get_mut(&stream).filter(|call| !call.dropped) else { return };
        assert!(!call.replied, "stream {stream} was answered twice");
        (call.replied, call.inline, call.sink.ended) = (true, len, end);
    }

    /// What the application does now.
    pub(crate) fn pump(&mut self) -> Vec<Command> {
        let mut out = Vec::new();
        for (&stream, call) in &mut self.calls {
            if !call.is_open() {
                continue;
            }
            call.source.pump(stream, &mut out);
            call.sink.pump(stream, self.thirst, &mut out);
            if call.replied && call.sink.is_done() {
                call.outcomes.push(Outcome::Executed);
            }
        }
        for (&stream, event) in &mut self.events {
            event.pump(stream, self.thirst, self.stubborn, &mut out);
        }
        out
    }

    pub(crate) fn stop(&mut self) {
        self.events.values_mut().for_each(|event| event.done = true);
    }
}

impl Event {
    fn pump(&mut self, stream: u64, thirst: usize, stubborn: bool, out: &mut Vec<Command>) {
        if self.done {
            return;
        }
        if self.aborted && !stubborn {
            self.done = true;
            out.push(Command::HandlerDone { stream });
            return;
        }
        if self.noun != "deaf" {
            self.sink.pump(stream, thirst, out);
        }
        if !self.answered {
            self.answer(stream, out);
        }
        if let Some(source) = &mut self.source {
            source.pump(stream, out);
        }
        let streamed = self.source.as_ref().is_none_or(|source| source.over);
        if self.answered && streamed {
            self.done = true;
            out.push(Command::HandlerDone { stream });
        }
    }

    fn answer(&mut self, stream: u64, out: &mut Vec<Command>) {
        let (noun, arg) = self.noun.split_once('/').unwrap_or((&self.noun, "0"));
        let echoed = self.inline + self.sink.total;
        let (inline, more) = match noun {
            "echo" if !self.sink.is_done() => return,
            "echo" if echoed <= 8_000 => (echoed, None),
            "echo" => (0, Some(echoed)),
            "stream" => (100, Some(arg.parse().expect("a number"))),
            "early" => (5, None),
            "lost" => {
                self.answered = true;
                return;
            }
            "refuse" => {
                self.answered = true;
                let detail = "no app".to_owned();
                out.push(Command::Cancel { stream, reason: CancelReason::RefusedByApp, detail });
                return;
            }
            _ => return, // "hang", "deaf"
        };
        self.answered = true;
        let head = Box::new(ReplyHead { status: 200, ..ReplyHead::default() });
        out.push(Command::Reply {
            stream,
            head,
            body: vec![2; inline].into(),
            end: more.is_none(),
        });
        self.source = more.map(Source::of);
    }
}
