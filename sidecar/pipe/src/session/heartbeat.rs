//! Signs of life. Only received bytes count: what this side sent says nothing
//! about the peer (nats-io/nats-server#3682 pinged too late for that reason).
//!
//! So a side that receives and has nothing to send says something all the same:
//! a ping of the other side would wait behind the long body that it sends, on a
//! slow link until it takes this one for dead. What is said is a PONG that
//! nobody waits for, as WebSocket has it (RFC 6455, 5.5.3).

use std::time::{Duration, Instant};

use crate::limits::MAX_PINGS_PER_SECOND;

/// A peer that asks for more signs of life does not get them: the shortest
/// heartbeat that a node can be given.
const TELL_AT_MOST_EVERY: Duration = Duration::from_millis(500);

/// Of a pong that answers no ping; those of pings are greater.
const NO_TOKEN: u64 = 0;

/// The clock of one pipe's silence.
#[derive(Debug)]
pub(super) struct Heartbeat {
    interval: Duration,
    last_rx: Instant,
    /// The ping that is out, and when it left.
    pinged: Option<(u64, Instant)>,
    /// A whole interval of silence was noticed, and nothing has come since.
    waiting: bool,
    next_token: u64,
    /// The peer hears of this side at least this often while it sends.
    tell_every: Duration,
    /// When the peer is to hear of this side, if it hears nothing before;
    /// `None` if nothing came since it did.
    tell_at: Option<Instant>,
    rtt: Option<Duration>,
    /// The second that pings of the peer are counted in.
    window: (Instant, u32),
}

/// What silence asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Silence {
    /// Nothing yet.
    Fine,
    /// A ping with this token.
    Ping(u64),
    /// A pong with this token: the peer is to hear of this side.
    Tell(u64),
    /// The end: silent for so long.
    Dead(Duration),
}

impl Heartbeat {
    pub(super) fn new(now: Instant, interval: Duration) -> Self {
        Self {
            interval,
            last_rx: now,
            pinged: None,
            waiting: false,
            next_token: NO_TOKEN + 1,
            tell_every: interval,
            tell_at: None,
            rtt: None,
            window: (now, 0),
        }
    }

    pub(super) fn on_bytes(&mut self, now: Instant) {
        self.last_rx = now;
        self.waiting = false;
        self.tell_at.get_or_insert(now + self.tell_every);
    }

    /// The peer calls silent who says nothing for twice `theirs`; of zero it
    /// has not said so.
    pub(super) fn on_hello(&mut self, theirs: Duration) {
        if theirs.is_zero() {
            return;
        }
        self.tell_every = self.interval.min(theirs.max(TELL_AT_MOST_EVERY));
    }

    /// Something is sent.
    pub(super) fn on_sent(&mut self) {
        self.tell_at = None;
    }

    /// Round trip of the last answered ping.
    pub(super) fn rtt(&self) -> Option<Duration> {
        self.rtt
    }

    pub(super) fn on_pong(&mut self, now: Instant, token: u64) -> Option<Duration> {
        let (_, sent) = self.pinged.take_if(|(waiting, _)| *waiting == token)?;
        self.rtt = Some(now - sent);
        self.rtt
    }

    /// Whether the peer may ping once more.
    pub(super) fn may_be_pinged(&mut self, now: Instant) -> bool {
        if now - self.window.0 >= Duration::from_secs(1) {
            self.window = (now, 0);
        }
        self.window.1 += 1;
        self.window.1 <= MAX_PINGS_PER_SECOND
    }

    pub(super) fn deadline(&self) -> Instant {
        let intervals = if self.waiting { 2 } else { 1 };
        let silence = self.last_rx + intervals * self.interval;
        self.tell_at.map_or(silence, |tell| tell.min(silence))
    }

    pub(super) fn on_timeout(&mut self, now: Instant) -> Silence {
        let silent = now.saturating_duration_since(self.last_rx);
        if silent >= 2 * self.interval {
            return Silence::Dead(silent);
        }
        if silent >= self.interval && !self.waiting {
            self.waiting = true;
            self.tell_at = None;
            // One that is out may wait behind a long body, here or on its way,
            // and is answered none the sooner for a second one.
            if self.pinged.is_some() {
                return Silence::Tell(NO_TOKEN);
            }
            let token = self.next_token;
            self.next_token += 1;
            self.pinged = Some((token, now));
            return Silence::Ping(token);
        }
        match self.tell_at.take_if(|tell| *tell <= now) {
            Some(_) => Silence::Tell(NO_TOKEN),
            None => Silence::Fine,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(5);

    #[test]
    fn a_silent_peer_is_pinged_once_and_dead_after_twice_the_interval() {
        let start = Instant::now();
        let mut beat = Heartbeat::new(start, INTERVAL);
        assert_eq!(beat.on_timeout(start + INTERVAL / 2), Silence::Fine);
        assert_eq!(beat.deadline(), start + INTERVAL);
        assert_eq!(beat.on_timeout(start + INTERVAL), Silence::Ping(1));
        assert_eq!(beat.on_timeout(start + INTERVAL), Silence::Fine);
        assert_eq!(beat.deadline(), start + 2 * INTERVAL);
        assert_eq!(beat.on_timeout(start + 2 * INTERVAL), Silence::Dead(2 * INTERVAL));
    }

    #[test]
    fn while_a_ping_is_out_there_is_no_second_one() {
        let start = Instant::now();
        let mut beat = Heartbeat::new(start, INTERVAL);
        assert_eq!(beat.on_timeout(start + INTERVAL), Silence::Ping(1));
        beat.on_bytes(start + INTERVAL);
        beat.on_sent();
        assert_eq!(beat.on_timeout(start + 2 * INTERVAL), Silence::Tell(NO_TOKEN));
        assert_eq!(beat.deadline(), start + 3 * INTERVAL);
        let late = start + 2 * INTERVAL;
        beat.on_bytes(late);
        assert_eq!(beat.on_pong(late, 1), Some(INTERVAL));
        beat.on_sent();
        assert_eq!(beat.on_timeout(late + INTERVAL), Silence::Ping(2));
    }

    #[test]
    fn any_byte_is_life_and_a_late_pong_still_gives_the_round_trip() {
        let start = Instant::now();
        let mut beat = Heartbeat::new(start, INTERVAL);
        assert_eq!(beat.on_timeout(start + INTERVAL), Silence::Ping(1));
        let later = start + INTERVAL + Duration::from_millis(3);
        beat.on_bytes(later);
        assert_eq!(beat.on_pong(later, 1), Some(Duration::from_millis(3)));
        assert_eq!(beat.on_pong(later, 1), None);
        assert_eq!(beat.deadline(), later + INTERVAL);
    }

    #[test]
    fn who_receives_and_sends_nothing_says_so_once_an_interval() {
        let start = Instant::now();
        let mut beat = Heartbeat::new(start, INTERVAL);
        let tells = (0..30).filter(|second| {
            let now = start + Duration::from_secs(*second);
            beat.on_bytes(now);
            beat.on_timeout(now) == Silence::Tell(NO_TOKEN)
        });
        // Each is due an interval after the first byte since the last one.
        assert_eq!(tells.collect::<Vec<_>>(), [5, 11, 17, 23, 29]);
    }

    #[test]
    fn a_peer_with_less_patience_hears_more_often_but_not_as_often_as_it_likes() {
        let now = Instant::now();
        for (theirs, due) in [(3000, 3000), (500, 500), (1, 500), (60_000, 5000), (0, 5000)] {
            let mut beat = Heartbeat::new(now, INTERVAL);
            beat.on_hello(Duration::from_millis(theirs));
            beat.on_bytes(now);
            assert_eq!(beat.deadline(), now + Duration::from_millis(due));
        }
    }

    #[test]
    fn who_sends_need_not_say_more() {
        let start = Instant::now();
        let mut beat = Heartbeat::new(start, INTERVAL);
        for second in 0..30 {
            let now = start + Duration::from_secs(second);
            beat.on_bytes(now);
            assert_eq!(beat.on_timeout(now), Silence::Fine);
            beat.on_sent();
        }
    }

    #[test]
    fn a_peer_that_pings_too_often_is_noticed() {
        let start = Instant::now();
        let mut beat = Heartbeat::new(start, INTERVAL);
        assert!((0..MAX_PINGS_PER_SECOND).all(|_| beat.may_be_pinged(start)));
        assert!(!beat.may_be_pinged(start));
        assert!(beat.may_be_pinged(start + Duration::from_secs(1)));
    }
}
