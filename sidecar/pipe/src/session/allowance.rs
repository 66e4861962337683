//! What a peer may do now and then, and not all the time.

use std::time::{Duration, Instant};

use crate::limits::{MAX_STRAYS, STRAY_FORGOTTEN};

/// So many at once, and one more each time a while has passed.
#[derive(Debug)]
pub(super) struct Allowance {
    at_once: u32,
    each: Duration,
    /// When all that was taken is forgotten.
    whole: Instant,
}

impl Allowance {
    /// For frames of streams that are over.
    pub(super) fn of_strays(now: Instant) -> Self {
        Self::new(now, MAX_STRAYS, STRAY_FORGOTTEN)
    }

    fn new(now: Instant, at_once: u32, each: Duration) -> Self {
        Self { at_once, each, whole: now }
    }

    /// Takes one. Returns whether there was one.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let whole = self.whole.max(now) + self.each;
        let fits = whole - now <= self.at_once * self.each;
        if fits {
            self.whole = whole;
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn what_was_taken_comes_back_one_by_one_and_never_more_than_all() {
        let start = Instant::now();
        let mut allowance = Allowance::new(start, 3, SECOND);
        let mut taken = |at| (0..10).filter(|_| allowance.take(at)).count();
        assert_eq!(taken(start), 3);
        assert_eq!(taken(start + SECOND / 2), 0);
        assert_eq!(taken(start + 2 * SECOND), 2);
        assert_eq!(taken(start + 3600 * SECOND), 3);
    }
}
