//! How long to wait after a failure, for each object by itself.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::Rng as _;

use crate::seen::Key;

/// The first wait.
const FIRST: Duration = Duration::from_millis(500);

/// The longest: when what was wrong is repaired, nobody waits for more than a minute.
const LONGEST: Duration = Duration::from_secs(60);

/// Failures in a row by object.
#[derive(Debug, Default)]
pub(super) struct Backoff(Mutex<HashMap<Key, u32>>);

impl Backoff {
    /// One more failure: doubles from half a second to a minute, the second half at random, so
    /// that a thousand objects do not come back at the same moment.
    pub(super) fn failed(&self, key: &Key) -> Duration {
        let mut failures = self.failures();
        let count = failures.entry(key.clone()).or_default();
        let full = FIRST.saturating_mul(2_u32.saturating_pow(*count)).min(LONGEST);
        *count = count.saturating_add(1);
        full.mul_f64(rand::rng().random_range(0.5..=1.0))
    }

    /// It went well, or is gone.
    pub(super) fn reset(&self, key: &Key) {
        self.failures().remove(key);
    }

    fn failures(&self) -> MutexGuard<'_, HashMap<Key, u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_minute_and_begin_anew_after_success() {
        let backoff = Backoff::default();
        let key = Key { namespace: "a".into(), name: "b".into() };
        let first = backoff.failed(&key);
        assert!(first >= FIRST / 2 && first <= FIRST);
        let last = (0..100).map(|_| backoff.failed(&key)).last().expect("a hundred");
        assert!(last >= LONGEST / 2 && last <= LONGEST);
        backoff.reset(&key);
        assert!(backoff.failed(&key) <= FIRST);
    }
}
