//! Two sessions, each with its application, on one virtual clock.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use restpipe_pipe::session::{Batch, Command, Output, Session};
use restpipe_pipe::{Budget, Outcome, PipeConfig, Role, Why};
use restpipe_proto::{Frame, Kind};

use crate::app::App;
use crate::link::Link;

/// Bytes that each process may hold for bodies.
pub(crate) const PROCESS_BUDGET: usize = 64 * 1024 * 1024;

pub(crate) const D: usize = 0;
pub(crate) const A: usize = 1;

#[derive(Debug)]
pub(crate) struct Side {
    pub(crate) session: Session,
    pub(crate) budget: Budget,
    pub(crate) app: App,
    pub(crate) ended: Option<Why>,
    /// Frames sent, batch by batch.
    pub(crate) batches: Vec<Vec<(Kind, u64, usize)>>,
    read: BytesMut,
    batch: Batch,
}

impl Side {
    fn new(role: Role, mut config: PipeConfig, now: Instant) -> Self {
        let budget = Budget::new(PROCESS_BUDGET);
        config.budget = budget.clone();
        Self {
            session: Session::new(role, config, now),
            budget,
            app: App::new(role.first_stream()),
            ended: None,
            batches: Vec::new(),
            read: BytesMut::new(),
            batch: Batch::default(),
        }
    }

    pub(crate) fn sent(&self, kind: Kind) -> usize {
        self.batches.iter().flatten().filter(|frame| frame.0 == kind).count()
    }

    fn is_speaking(&self) -> bool {
        self.ended.as_ref().is_some_and(Why::has_farewell)
    }
}

#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) now: Instant,
    start: Instant,
    pub(crate) sides: [Side; 2],
    /// From the side of the same number.
    pub(crate) links: [Link; 2],
    pub(crate) trace: Vec<String>,
}

impl Pair {
    pub(crate) fn new(config: &PipeConfig) -> Self {
        let now = Instant::now();
        Self {
            now,
            start: now,
            sides: [Role::Dialer, Role::Acceptor].map(|role| Side::new(role, config.clone(), now)),
            links: [Link::default(), Link::default()],
            trace: Vec::new(),
        }
    }

    /// Both have seen the other's HELLO.
    pub(crate) fn opened() -> Self {
        let mut pair = Self::new(&PipeConfig::default());
        pair.run();
        pair
    }

    /// A call with a minute to go.
    pub(crate) fn call(
        &mut self,
        side: usize,
        noun: &str,
        inline: usize,
        more: Option<usize>,
    ) -> u64 {
        self.call_within(side, noun, inline, more, Duration::from_secs(60))
    }

    pub(crate) fn call_within(
        &mut self,
        side: usize,
        noun: &str,
        inline: usize,
        more: Option<usize>,
        within: Duration,
    ) -> u64 {
        let (stream, command) = self.sides[side].app.call(noun, inline, more, self.now + within);
        self.command(side, command);
        stream
    }

    pub(crate) fn command(&mut self, side: usize, command: Command) {
        let now = self.now;
        let side = &mut self.sides[side];
        if side.ended.is_none() {
            side.session.on_command(now, command);
        } else if let Command::Request(request) = command {
            let stream = request.stream;
            let error = restpipe_pipe::NotSent::Ended.into();
            side.app.on_output(Output::Failed { stream, error });
        }
    }

    pub(crate) fn drop_call(&mut self, side: usize, stream: u64) {
        let command = self.sides[side].app.drop_call(stream);
        self.command(side, command);
    }

    pub(crate) fn outcomes(&self, side: usize, stream: u64) -> &[Outcome] {
        &self.sides[side].app.calls[&stream].outcomes
    }

    /// Lets everything happen that happens now.
    pub(crate) fn run(&mut self) {
        for _ in 0..100_000 {
            let mut moved = false;
            for side in [D, A] {
                moved |= self.receive(side);
                moved |= self.work(side);
                moved |= self.send(side);
            }
            if !moved {
                return;
            }
        }
        panic!("the pair does not come to rest");
    }

    /// Lets `time` pass.
    pub(crate) fn advance(&mut self, time: Duration) {
        let until = self.now + time;
        loop {
            self.run();
            let flying = self.links.iter().filter_map(Link::next);
            let alive = self.sides.iter().filter(|side| side.ended.is_none());
            let due = alive.map(|side| side.session.deadline());
            match flying.chain(due).min().filter(|next| *next <= until) {
                Some(next) => self.now = next.max(self.now),
                None => break,
            }
        }
        self.now = until;
        self.run();
    }

    fn receive(&mut self, me: usize) -> bool {
        let mut moved = false;
        while let Some(bytes) = self.links[1 - me].take(self.now) {
            moved = true;
            if self.sides[me].ended.is_none()
                && let Err(why) = self.take_bytes(me, &bytes)
            {
                self.end(me, why);
            }
        }
        if self.links[1 - me].is_over() && self.sides[me].ended.is_none() {
            let why = if self.sides[me].session.is_drained() { Why::Drained } else { Why::Eof };
            self.end(me, why);
            moved = true;
        }
        moved
    }

    fn take_bytes(&mut self, me: usize, bytes: &[u8]) -> Result<(), Why> {
        let side = &mut self.sides[me];
        side.read.extend_from_slice(bytes);
        while let Some(frame) = Frame::decode(&mut side.read)? {
            side.session.on_frame(self.now, frame)?;
        }
        side.session.on_bytes(self.now, bytes.len(), side.read.len());
        Ok(())
    }

    fn work(&mut self, me: usize) -> bool {
        let side = &mut self.sides[me];
        if side.ended.is_some() {
            return false;
        }
        let mut moved = false;
        if side.session.deadline() <= self.now {
            moved = true;
            if let Err(why) = side.session.on_timeout(self.now) {
                self.end(me, why);
                return true;
            }
        }
        while let Some(output) = side.session.next_output() {
            moved = true;
            side.app.on_output(output);
        }
        for command in side.app.pump() {
            moved = true;
            side.session.on_command(self.now, command);
        }
        moved
    }

    fn send(&mut self, me: usize) -> bool {
        let side = &mut self.sides[me];
        if side.ended.is_some() {
            return false;
        }
        let mut moved = false;
        if side.session.has_frames() && self.links[me].takes_more() {
            moved = true;
            self.send_batch(me);
        }
        if self.sides[me].ended.is_none() && self.sides[me].session.may_close() {
            self.end(me, Why::Drained);
            moved = true;
        }
        moved
    }

    fn send_batch(&mut self, me: usize) {
        let side = &mut self.sides[me];
        side.session.fill(&mut side.batch);
        let mut wire = BytesMut::new();
        side.batch.segments().drain(..).for_each(|segment| wire.extend_from_slice(&segment));
        let mut left = wire.clone();
        let mut frames = Vec::new();
        while let Some(frame) = Frame::decode(&mut left).expect("own frames") {
            let Frame { kind, stream, flags, payload, .. } = frame;
            self.trace.push(format!(
                "{:?} {me} {kind:?} {stream} {} {}",
                self.now - self.start,
                payload.len(),
                flags.is_end()
            ));
            frames.push((kind, stream, payload.len()));
        }
        side.batches.push(frames);
        if self.links[me].put(self.now, wire.freeze()) {
            self.links[me].closed = true;
            self.links[1 - me].lose();
        }
    }

    /// As the driver does it.
    fn end(&mut self, me: usize, why: Why) {
        let side = &mut self.sides[me];
        while let Some(output) = side.session.next_output() {
            if !matches!(output, Output::Request { .. }) {
                side.app.on_output(output);
            }
        }
        side.session.say_why(&why);
        side.session.end(&why);
        side.ended = Some(why);
        while let Some(output) = side.session.next_output() {
            side.app.on_output(output);
        }
        // What has come is still there for its consumer.
        let _ = side.app.pump();
        side.app.stop();
        while self.sides[me].is_speaking()
            && self.sides[me].session.has_frames()
            && !self.links[me].closed
        {
            self.send_batch(me);
        }
        self.links[me].closed = true;
    }

    /// Nothing of any stream is left on a side.
    pub(crate) fn assert_whole(&self) {
        for (me, side) in self.sides.iter().enumerate() {
            assert_eq!(side.budget.left(), PROCESS_BUDGET, "side {me}");
            assert!(side.session.is_idle(), "side {me}: {:?}", side.session);
        }
    }
}

pub(crate) fn zeros(len: usize) -> Bytes {
    vec![0; len].into()
}
