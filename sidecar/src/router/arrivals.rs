//! Waiting for a peer to come.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

use crate::gateway::path::Target;

/// Who waits for whom. A pipe that comes up wakes those who wait for its peer
/// and nobody else: after a restart thousands of pipes come up while thousands
/// of calls wait, and each call was woken by each pipe before.
#[derive(Debug, Default)]
pub(super) struct Arrivals(Mutex<HashMap<Target, watch::Sender<()>>>);

impl Arrivals {
    /// Tells those who wait for `target` that it has come.
    pub(super) fn tell(&self, target: &Target) {
        self.with(|waited| {
            if let Some(waiting) = waited.get(target) {
                waiting.send_replace(());
            }
        });
    }

    /// Waits until `look` finds something: now, or when `target` has come
    /// again. What is kept for it goes when nobody waits any more.
    pub(super) async fn wait<T>(&self, target: &Target, mut look: impl FnMut() -> Option<T>) -> T {
        let mut waiting = Waiting {
            // Before the first look, or an arrival in between were missed.
            arrivals: self.with(|waited| waited.entry(target.clone()).or_default().subscribe()),
            target,
            of: self,
        };
        loop {
            if let Some(found) = look() {
                return found;
            }
            if waiting.arrivals.changed().await.is_err() {
                // Its sender stays for as long as somebody waits.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Targets that are waited for.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.with(|waited| waited.len())
    }

    fn with<R>(&self, look: impl FnOnce(&mut HashMap<Target, watch::Sender<()>>) -> R) -> R {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One who waits.
struct Waiting<'a> {
    arrivals: watch::Receiver<()>,
    target: &'a Target,
    of: &'a Arrivals,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.of.with(|waited| {
            // This one is still counted.
            let last = |all: &watch::Sender<()>| all.receiver_count() <= 1;
            if waited.get(self.target).is_some_and(last) {
                waited.remove(self.target);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::pin::pin;

    use futures_util::FutureExt;

    use super::*;

    fn client(name: &str) -> Target {
        Target::Client(name.into())
    }

    #[test]
    fn who_comes_wakes_only_those_who_wait_for_it() {
        let (arrivals, looks, here) = (Arrivals::default(), Cell::new(0), Cell::new(false));
        let target = client("a");
        let look = || {
            looks.set(looks.get() + 1);
            here.get().then_some(())
        };
        let mut waiting = pin!(arrivals.wait(&target, look));
        assert_eq!((waiting.as_mut().now_or_never(), looks.get()), (None, 1));
        (0..2_000).for_each(|n| arrivals.tell(&client(&format!("other-{n}"))));
        assert_eq!((waiting.as_mut().now_or_never(), looks.get()), (None, 1), "nobody looks");
        here.set(true);
        arrivals.tell(&target);
        assert_eq!((waiting.as_mut().now_or_never(), looks.get()), (Some(()), 2));
    }

    #[test]
    fn nothing_is_kept_of_those_who_wait_no_more() {
        let arrivals = Arrivals::default();
        let targets = [client("a"), Target::Server, client("a")];
        let mut all: Vec<_> =
            targets.iter().map(|target| Box::pin(arrivals.wait(target, || None::<()>))).collect();
        all.iter_mut().for_each(|one| assert_eq!(one.as_mut().now_or_never(), None));
        assert_eq!(arrivals.len(), 2);
        drop(all.remove(0));
        assert_eq!(arrivals.len(), 2, "another waits for the same");
        drop(all);
        assert_eq!(arrivals.len(), 0);
    }
}
