//! Signs of life. Only received bytes count: what this side sent says nothing
//! about the peer (nats-io/nats-server#3682 pinged too late for that reason).

use std::time::{Duration, Instant};

use crate::limits::MAX_PINGS_PER_SECOND;

/// The clock of one pipe's silence.
#[derive(Debug)]
pub(super) struct Heartbeat {
    interval: Duration,
    last_rx: Instant,
    /// The ping that is out, and when it left.
    pinged: Option<(u64, Instant)>,
    /// Nothing has come since that ping.
    waiting: bool,
    next_token: u64,
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
            next_token: 1,
            rtt: None,
            window: (now, 0),
        }
    }

    pub(super) fn on_bytes(&mut self, now: Instant) {
        self.last_rx = now;
        self.waiting = false;
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
        self.last_rx + intervals * self.interval
    }

    pub(super) fn on_timeout(&mut self, now: Instant) -> Silence {
        let silent = now.saturating_duration_since(self.last_rx);
        if silent >= 2 * self.interval {
            return Silence::Dead(silent);
        }
        if now < self.deadline() {
            return Silence::Fine;
        }
        let token = self.next_token;
        self.next_token += 1;
        self.pinged = Some((token, now));
        self.waiting = true;
        Silence::Ping(token)
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
    fn a_peer_that_pings_too_often_is_noticed() {
        let start = Instant::now();
        let mut beat = Heartbeat::new(start, INTERVAL);
        assert!((0..MAX_PINGS_PER_SECOND).all(|_| beat.may_be_pinged(start)));
        assert!(!beat.may_be_pinged(start));
        assert!(beat.may_be_pinged(start + Duration::from_secs(1)));
    }
}
