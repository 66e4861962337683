//! A number of bytes that many share.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes that may be held at once; clones share them.
#[derive(Clone, Debug)]
pub struct Budget {
    left: Arc<AtomicUsize>,
}

impl Budget {
    /// A budget of so many bytes.
    pub fn new(bytes: usize) -> Self {
        Self { left: Arc::new(AtomicUsize::new(bytes)) }
    }

    /// Bytes that nobody holds.
    pub fn left(&self) -> usize {
        self.left.load(Ordering::Relaxed)
    }

    /// Takes `bytes`, all or nothing.
    #[must_use]
    pub fn take(&self, bytes: usize) -> bool {
        bytes == 0
            || self
                .left
                .try_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes))
                .is_ok()
    }

    /// Gives `bytes` back that were taken.
    pub fn give(&self, bytes: usize) {
        if bytes > 0 {
            self.left.fetch_add(bytes, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_taken_whole_or_not_at_all() {
        let budget = Budget::new(10);
        assert!(budget.take(7));
        assert!(!budget.clone().take(4));
        assert_eq!(budget.left(), 3);
        budget.give(7);
        assert_eq!(budget.left(), 10);
    }
}
