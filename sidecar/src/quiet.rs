//! A limit on log lines that strangers can cause.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lines in [`PERIOD`].
const LINES: u32 = 10;

/// How long a burst counts.
const PERIOD: Duration = Duration::from_secs(10);

/// Lets some lines through and counts the rest.
#[derive(Debug, Default)]
pub(crate) struct Quiet(Mutex<Option<Said>>);

#[derive(Debug)]
struct Said {
    since: Instant,
    lines: u32,
    swallowed: u64,
}

impl Quiet {
    /// Whether a line may be written now; how many were swallowed before it.
    pub(crate) fn may_say(&self) -> Option<u64> {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let said = said.get_or_insert(Said { since: now, lines: 0, swallowed: 0 });
        if now - said.since >= PERIOD {
            (said.since, said.lines) = (now, 0);
        }
        if said.lines >= LINES {
            said.swallowed += 1;
            return None;
        }
        said.lines += 1;
        Some(std::mem::take(&mut said.swallowed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_of_lines_is_cut_off_and_counted() {
        let quiet = Quiet::default();
        assert_eq!((0..100).filter_map(|_| quiet.may_say()).count(), LINES as usize);
    }
}
