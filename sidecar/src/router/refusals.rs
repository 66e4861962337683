//! Pipes whose app takes no connections.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// So long other pipes of the name go first after an app has refused once:
/// it may be about to listen.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// And so long at most, however often it refuses. An app that comes back
/// has its share of the calls within this time.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What the app at the other end of one pipe has refused lately. Its node is
/// well and answers faster than one whose app works, so that the pipe with
/// the least in flight would be just this one.
#[derive(Debug, Default)]
pub struct Refusals {
    pause: Mutex<Option<Pause>>,
    /// Whether there may be one. Each answer comes by here, and of most pipes there is none.
    any: AtomicBool,
}

#[derive(Clone, Copy, Debug)]
struct Pause {
    until: Instant,
    length: Duration,
}

impl Refusals {
    /// The app took no connection. Calls that were on their way together
    /// count once.
    pub(crate) fn refused(&self, now: Instant) {
        let mut pause = self.pause();
        let length = match *pause {
            Some(Pause { until, .. }) if now < until => return,
            Some(Pause { length, .. }) => (2 * length).min(LONGEST_PAUSE),
            None => FIRST_PAUSE,
        };
        *pause = Some(Pause { until: now + length, length });
        self.any.store(true, Ordering::Relaxed);
    }

    /// The app has answered a call.
    pub(crate) fn answered(&self) {
        if self.any.load(Ordering::Relaxed) {
            let mut pause = self.pause();
            *pause = None;
            self.any.store(false, Ordering::Relaxed);
        }
    }

    /// Whether other pipes go first now.
    pub(super) fn is_pausing(&self, now: impl FnOnce() -> Instant) -> bool {
        self.pause().is_some_and(|pause| now() < pause.until)
    }

    fn pause(&self) -> MutexGuard<'_, Option<Pause>> {
        self.pause.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_their_limit_and_an_answer_ends_them() {
        let (refusals, start) = (Refusals::default(), Instant::now());
        let pausing = |at: f64| refusals.is_pausing(|| start + Duration::from_secs_f64(at));
        let refuse = |at: f64| refusals.refused(start + Duration::from_secs_f64(at));
        assert!(!pausing(0.0));
        refuse(0.0);
        // One that was on its way already.
        refuse(0.5);
        assert_eq!([0.9, 1.0].map(pausing), [true, false]);
        refuse(1.0);
        assert_eq!([2.9, 3.0].map(pausing), [true, false]);
        refuse(3.0);
        refuse(7.0);
        assert_eq!([11.9, 12.0].map(pausing), [true, false]);
        refuse(12.0);
        refusals.answered();
        assert!(!pausing(12.1));
        refuse(13.0);
        assert_eq!([13.9, 14.0].map(pausing), [true, false], "it begins anew");
    }
}
