//! The receiving end of one body: how much the peer may still send.
//!
//! Every open stream may be granted [`INITIAL_CREDIT`] bytes, whatever the
//! budgets say, so that each makes progress; what goes beyond that floor is
//! taken from the pipe's and the process's budget when the window is raised
//! and given back when the stream ends. Requests themselves are charged to the
//! same budgets, of which windows leave them a part.

use std::time::{Duration, Instant};

use restpipe_proto::INITIAL_CREDIT;
use restpipe_proto::pb::RequestHead;

use crate::budget::Budget;
use crate::limits::{FIRST_WINDOW, MAX_WINDOW, REQUEST_RESERVE};

/// The window doubles while half of it is drained faster than this or two
/// round trips, whichever is longer.
const GROW_WITHIN: Duration = Duration::from_millis(10);

/// The round trip assumed until a ping has measured one.
const UNKNOWN_RTT: Duration = Duration::from_millis(100);

/// The two budgets that a pipe's windows draw on.
#[derive(Clone, Debug)]
pub(super) struct Budgets {
    pub(super) pipe: Budget,
    pub(super) process: Budget,
}

/// Bytes of memory that one header takes beside its name and value, in the
/// tables that it goes through.
const PER_HEADER: usize = 128;

/// The same of one argument.
const PER_ARG: usize = 64;

/// What a request takes from the budgets until its event is over.
#[derive(Clone, Copy, Debug)]
pub(super) struct Charge {
    /// All that it takes in memory, about.
    pub(super) pipe: usize,
    /// Its inline body.
    process: usize,
}

impl Charge {
    /// Of a request whose frame has so many bytes, and so many of them body.
    /// A head is held once as it came and once as it goes to its handler.
    pub(super) fn of(frame: usize, head: &RequestHead, body: usize) -> Self {
        let tables = PER_HEADER * head.headers.len() + PER_ARG * head.args.len();
        Self { pipe: frame + (frame - body) + tables, process: body }
    }
}

impl Budgets {
    /// Takes what a request needs.
    #[must_use]
    pub(super) fn charge(&self, charge: Charge) -> bool {
        if !self.pipe.take(charge.pipe) {
            return false;
        }
        let taken = self.process.take(charge.process);
        if !taken {
            self.pipe.give(charge.pipe);
        }
        taken
    }

    /// Gives it back.
    pub(super) fn release(&self, charge: Charge) {
        self.pipe.give(charge.pipe);
        self.process.give(charge.process);
    }

    /// Bytes that windows may still take of the pipe's budget.
    fn left_for_windows(&self) -> usize {
        self.pipe.left().saturating_sub(REQUEST_RESERVE)
    }

    fn take(&self, bytes: u32) -> bool {
        let bytes = bytes as usize;
        // Nobody else takes from it meanwhile: a session is one task's.
        if bytes > self.left_for_windows() || !self.pipe.take(bytes) {
            return false;
        }
        let taken = self.process.take(bytes);
        if !taken {
            self.pipe.give(bytes);
        }
        taken
    }

    fn give(&self, bytes: u32) {
        self.pipe.give(bytes as usize);
        self.process.give(bytes as usize);
    }

    /// Bytes that one stream may ask for now: an eighth of what the pipe has
    /// left and a sixty-fourth of the process's, so that few streams get much
    /// and many get little.
    fn share(&self) -> u32 {
        let share = (self.left_for_windows() / 8).min(self.process.left() / 64);
        u32::try_from(share).unwrap_or(u32::MAX).min(FIRST_WINDOW)
    }
}

/// One stream's receive window.
#[derive(Debug)]
pub(super) struct Window {
    /// Bytes that may be granted or buffered at once.
    size: u32,
    /// Bytes that the peer may still send.
    granted: u32,
    /// Bytes received that the consumer has not taken.
    buffered: u32,
    /// Bytes of `size` that the budgets lent.
    lent: u32,
    last_grant: Instant,
}

impl Window {
    /// The window of a reply, reserved when its request is sent. The granted
    /// bytes go out with the request.
    pub(super) fn for_reply(now: Instant, budgets: &Budgets) -> Self {
        let share = budgets.share();
        let lent = if share >= INITIAL_CREDIT && budgets.take(share) { share } else { 0 };
        // A share below the floor is not worth reserving; the floor is granted
        // only once the reply turns out to need it.
        Self { size: lent.max(INITIAL_CREDIT), granted: lent, buffered: 0, lent, last_grant: now }
    }

    /// The window of a request's body, of which the peer sends the first
    /// [`INITIAL_CREDIT`] bytes unasked.
    pub(super) fn for_request(now: Instant, budgets: &Budgets) -> Self {
        let mut window = Self {
            size: INITIAL_CREDIT,
            granted: INITIAL_CREDIT,
            buffered: 0,
            lent: 0,
            last_grant: now,
        };
        window.raise(budgets.share(), budgets);
        window
    }

    /// Bytes that the peer may send now.
    pub(super) fn granted(&self) -> u32 {
        self.granted
    }

    /// Bytes that may be granted or waiting at once.
    pub(super) fn size(&self) -> usize {
        self.size as usize
    }

    fn raise(&mut self, to: u32, budgets: &Budgets) {
        let more = to.min(MAX_WINDOW).saturating_sub(self.size);
        if more > 0 && budgets.take(more) {
            self.size += more;
            self.lent += more;
        }
    }

    /// Counts `len` received bytes.
    ///
    /// # Errors
    /// If the peer was not granted them.
    pub(super) fn on_data(&mut self, len: usize) -> Result<(), Overrun> {
        let len = u32::try_from(len).map_err(|_| Overrun)?;
        self.granted = self.granted.checked_sub(len).ok_or(Overrun)?;
        self.buffered += len;
        Ok(())
    }

    /// Counts `len` bytes that the consumer took.
    pub(super) fn on_consumed(&mut self, len: usize) {
        self.buffered = self.buffered.saturating_sub(u32::try_from(len).unwrap_or(u32::MAX));
    }

    /// The credit to send now: nothing until half the window is free.
    pub(super) fn grant(&mut self, now: Instant, rtt: Option<Duration>, budgets: &Budgets) -> u32 {
        let free = self.size.saturating_sub(self.granted + self.buffered);
        if free < self.size / 2 {
            return 0;
        }
        let quick = (2 * rtt.unwrap_or(UNKNOWN_RTT)).max(GROW_WITHIN);
        if now - self.last_grant < quick {
            self.raise(self.size * 2, budgets);
        }
        self.last_grant = now;
        let free = self.size.saturating_sub(self.granted + self.buffered);
        self.granted += free;
        free
    }

    /// Whether bytes wait for the consumer.
    pub(super) fn is_waiting(&self) -> bool {
        self.buffered > 0
    }

    /// Gives the budgets back what they lent.
    pub(super) fn close(self, budgets: &Budgets) {
        budgets.give(self.lent);
    }
}

/// The peer sent more than it was granted.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Overrun;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::PIPE_BUDGET;

    fn budgets(process: usize) -> Budgets {
        Budgets { pipe: Budget::new(PIPE_BUDGET), process: Budget::new(process) }
    }

    #[test]
    fn few_replies_get_large_windows_and_many_get_the_floor() {
        let budgets = budgets(64 * 1024 * 1024);
        let now = Instant::now();
        let windows: Vec<_> = (0..256).map(|_| Window::for_reply(now, &budgets)).collect();
        assert_eq!(windows[0].granted(), FIRST_WINDOW);
        assert_eq!(windows[255].granted(), 0);
        windows.into_iter().for_each(|window| window.close(&budgets));
        assert_eq!(budgets.pipe.left(), PIPE_BUDGET);
    }

    #[test]
    fn a_stream_outside_all_budgets_still_gets_its_floor_again_and_again() {
        let budgets = budgets(0);
        let now = Instant::now();
        let mut window = Window::for_reply(now, &budgets);
        for _ in 0..3 {
            assert_eq!(window.grant(now, None, &budgets), INITIAL_CREDIT);
            window.on_data(INITIAL_CREDIT as usize).expect("granted");
            assert_eq!(window.grant(now, None, &budgets), 0);
            window.on_consumed(INITIAL_CREDIT as usize);
        }
    }

    #[test]
    fn more_bytes_than_granted_are_an_overrun() {
        let mut window = Window::for_request(Instant::now(), &budgets(0));
        assert_eq!(window.on_data(INITIAL_CREDIT as usize + 1), Err(Overrun));
    }

    #[test]
    fn a_window_that_is_drained_quickly_doubles_up_to_its_limit() {
        let budgets = budgets(64 * 1024 * 1024);
        let now = Instant::now();
        let mut window = Window::for_request(now, &budgets);
        for _ in 0..10 {
            let _ = window.grant(now, None, &budgets);
            let all = window.granted() as usize;
            window.on_data(all).expect("granted");
            window.on_consumed(all);
        }
        assert_eq!(window.size, MAX_WINDOW);
    }
}
