//! Pauses between dials: doubling, with full jitter, for ever.

use std::time::Duration;

use crate::clock::fraction;

/// Longest first pause.
const FIRST: Duration = Duration::from_millis(250);

/// Longest pause of all.
const LONGEST: Duration = Duration::from_secs(5);

/// A pipe that lived this long has earned a quick first retry: a link that
/// flaps has not.
pub const HEALTHY: Duration = Duration::from_secs(30);

/// The pauses of one dialler.
#[derive(Debug)]
pub struct Backoff {
    ceiling: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { ceiling: FIRST }
    }
}

impl Backoff {
    /// The next pause: anything up to a ceiling that doubles, so that clients
    /// of a server that restarts do not come back in step.
    pub fn pause(&mut self) -> Duration {
        let pause = self.ceiling.mul_f64(fraction());
        self.ceiling = (2 * self.ceiling).min(LONGEST);
        pause
    }

    /// Starts from the first pause.
    pub fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_stay_under_a_ceiling_that_doubles_up_to_five_seconds() {
        let mut backoff = Backoff::default();
        for ceiling in [250, 500, 1000, 2000, 4000, 5000, 5000] {
            assert!(backoff.pause() <= Duration::from_millis(ceiling));
        }
        backoff.reset();
        assert!(backoff.pause() <= FIRST);
    }
}
