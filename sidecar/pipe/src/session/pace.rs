//! How fast a frame comes that has begun. Any byte is a sign of life, so one
//! now and then would keep a pipe up, and a read buffer with it, for ever.

use std::time::{Duration, Instant};

use crate::limits::{FRAME_PATIENCE, MIN_FRAME_RATE};

/// Buys time by bytes while a part of a frame waits for the rest.
#[derive(Debug)]
pub(super) struct Pace {
    patience: Duration,
    /// When the time bought is over; `None` between frames.
    due: Option<Instant>,
}

impl Pace {
    /// For a pipe that is dead after `silence`.
    pub(super) fn new(silence: Duration) -> Self {
        Self { patience: FRAME_PATIENCE.max(silence), due: None }
    }

    /// `got` bytes came, of which the last `rest` are a part of a frame.
    pub(super) fn on_bytes(&mut self, now: Instant, got: usize, rest: usize) {
        if rest == 0 {
            self.due = None;
            return;
        }
        let most = now + self.patience;
        self.due = Some(match self.due {
            // Not before now: what waited in the socket while this process
            // stood still is not the peer's fault.
            Some(due) => (due.max(now) + bought(got as u64)).min(most),
            None => most,
        });
    }

    /// `got` bytes came that are a part of a TLS record, and may be of the
    /// frame that has begun.
    pub(super) fn on_part_of_record(&mut self, now: Instant, got: u64) {
        if let Some(due) = &mut self.due {
            *due = ((*due).max(now) + bought(got)).min(now + self.patience);
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.due
    }

    /// How far behind the peer is, if that is too much.
    pub(super) fn on_timeout(&self, now: Instant) -> Option<Duration> {
        self.due.is_some_and(|due| due <= now).then_some(self.patience)
    }
}

fn bought(bytes: u64) -> Duration {
    Duration::from_secs(bytes) / MIN_FRAME_RATE
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Seconds that a peer lasts which sends `bytes` of one frame each second.
    fn lasts(bytes: usize) -> Option<u64> {
        let start = Instant::now();
        let mut pace = Pace::new(SECOND);
        (0..3600).find(|second| {
            let now = start + SECOND * *second as u32;
            let late = pace.on_timeout(now).is_some();
            pace.on_bytes(now, bytes, 1);
            late
        })
    }

    #[test]
    fn who_is_slower_than_the_least_rate_runs_out_of_time_and_who_is_not_never_does() {
        assert_eq!(lasts(1), Some(11));
        assert_eq!(lasts(512), Some(19));
        assert_eq!(lasts(MIN_FRAME_RATE as usize), None);
    }

    #[test]
    fn parts_of_a_record_buy_time_for_the_frame_that_has_begun_and_for_no_other() {
        let now = Instant::now();
        let mut pace = Pace::new(SECOND);
        pace.on_part_of_record(now, 5000);
        assert_eq!(pace.deadline(), None);
        pace.on_bytes(now, 5, 5);
        let later = now + 8 * SECOND;
        pace.on_part_of_record(later, 3 * u64::from(MIN_FRAME_RATE));
        assert_eq!(pace.deadline(), Some(now + FRAME_PATIENCE + 3 * SECOND));
        pace.on_part_of_record(later, u64::MAX);
        assert_eq!(pace.deadline(), Some(later + FRAME_PATIENCE));
    }

    #[test]
    fn nothing_is_due_between_frames() {
        let now = Instant::now();
        let mut pace = Pace::new(SECOND);
        assert_eq!(pace.deadline(), None);
        pace.on_bytes(now, 5, 5);
        assert_eq!(pace.deadline(), Some(now + FRAME_PATIENCE));
        pace.on_bytes(now, 100, 0);
        assert_eq!(pace.deadline(), None);
    }

    #[test]
    fn a_heartbeat_that_bears_a_longer_silence_is_borne_here_too() {
        let now = Instant::now();
        let mut pace = Pace::new(60 * SECOND);
        pace.on_bytes(now, 5, 5);
        assert_eq!(pace.on_timeout(now + 59 * SECOND), None);
        assert_eq!(pace.on_timeout(now + 60 * SECOND), Some(60 * SECOND));
    }
}
