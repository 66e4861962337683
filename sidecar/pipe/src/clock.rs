//! The clock and the dice that decisions are made by. Both can be held in a
//! test's hand, so that one seed gives one run.

use std::cell::RefCell;
use std::time::Instant;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Now, by the clock that the runtime's timers follow: with tokio's clock
/// paused it stands still, as the standard library's does not.
pub fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

thread_local! {
    /// Set by simulations only.
    static SEEDED: RefCell<Option<StdRng>> = const { RefCell::new(None) };
}

/// Makes [`fraction`] repeat itself on this thread: the same seed, the same
/// fractions. For simulations.
pub fn seed(seed: u64) {
    SEEDED.set(Some(StdRng::seed_from_u64(seed)));
}

/// A random number from 0 to below 1, to spread by what would else come all at
/// once. Nothing secret is made of it.
pub fn fraction() -> f64 {
    SEEDED.with_borrow_mut(|seeded| match seeded {
        Some(dice) => dice.random(),
        None => rand::random(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_itself_on_its_own_thread() {
        let ten = || (0..10).map(|_| fraction()).collect::<Vec<_>>();
        seed(7);
        let first = ten();
        seed(7);
        assert_eq!(first, ten());
        let elsewhere = std::thread::spawn(move || (fraction(), fraction()));
        assert_ne!(elsewhere.join().expect("no panic"), (first[0], first[1]));
    }
}
