//! Connections to the app that wait for the next event.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use restpipe_pipe::clock::now;

/// Connections that are kept for the next event.
const MAX_IDLE: usize = 64;

/// A kept connection is closed after this: apps close idle ones, many after
/// 60 s, and an event must not race with that.
const IDLE_LIFE: Duration = Duration::from_secs(15);

/// The last connection that was used is the first to be used again; those that
/// nobody uses are closed.
#[derive(Debug)]
pub(super) struct Idle<C>(Mutex<Pool<C>>);

#[derive(Debug)]
struct Pool<C> {
    /// Since when each is idle; the oldest is in front.
    kept: VecDeque<(Instant, C)>,
    /// A task waits until the oldest is too old.
    is_swept: bool,
}

impl<C> Default for Idle<C> {
    fn default() -> Self {
        Self(Mutex::new(Pool { kept: VecDeque::new(), is_swept: false }))
    }
}

impl<C: Send + 'static> Idle<C> {
    pub(super) fn take(&self) -> Option<C> {
        let mut pool = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, connection) = pool.kept.pop_back()?;
        // The sweep may be a moment late.
        (now() - since < IDLE_LIFE).then_some(connection)
    }

    pub(super) fn keep(self: &Arc<Self>, connection: C) {
        let mut pool = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if pool.kept.len() >= MAX_IDLE {
            return;
        }
        pool.kept.push_back((now(), connection));
        if !std::mem::replace(&mut pool.is_swept, true) {
            tokio::spawn(sweep(Arc::downgrade(self)));
        }
    }

    /// Closes what is too old. Returns when the next one is; `None` if there is none.
    fn close_old(&self) -> Option<Instant> {
        let now = now();
        let mut pool = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let old = pool.kept.iter().take_while(|(since, _)| now - *since >= IDLE_LIFE).count();
        pool.kept.drain(..old);
        let next = pool.kept.front().map(|(since, _)| *since + IDLE_LIFE);
        pool.is_swept = next.is_some();
        if next.is_none() {
            pool.kept = VecDeque::new();
        }
        next
    }
}

/// Ends when nothing is kept, or the app is asked no more.
async fn sweep<C: Send + 'static>(idle: Weak<Idle<C>>) {
    while let Some(next) = idle.upgrade().and_then(|idle| idle.close_old()) {
        tokio::time::sleep_until(next.into()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Connections of which we see whether they are open.
    fn open(connection: &Arc<()>) -> bool {
        Arc::strong_count(connection) > 1
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_uses_is_closed_in_time_and_what_is_used_stays_open() {
        let idle = Arc::new(Idle::default());
        let (first, second) = (Arc::new(()), Arc::new(()));
        idle.keep(first.clone());
        tokio::time::sleep(IDLE_LIFE / 3).await;
        idle.keep(second.clone());
        for _ in 0..3 {
            tokio::time::sleep(IDLE_LIFE / 2).await;
            let used = idle.take().expect("it is there");
            assert!(Arc::ptr_eq(&used, &second), "the last one used comes first");
            idle.keep(used);
        }
        assert!(!open(&first) && open(&second));
        tokio::time::sleep(IDLE_LIFE).await;
        tokio::task::yield_now().await;
        assert!(!open(&second) && idle.take().is_none());

        // And so again after all had gone.
        idle.keep(first.clone());
        assert!(open(&first));
        tokio::time::sleep(IDLE_LIFE * 2).await;
        assert!(!open(&first));
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_are_kept_than_a_node_may_have_idle() {
        let idle = Arc::new(Idle::default());
        let connections: Vec<_> = (0..MAX_IDLE + 5).map(|_| Arc::new(())).collect();
        connections.iter().for_each(|connection| idle.keep(connection.clone()));
        assert_eq!(connections.iter().filter(|connection| open(connection)).count(), MAX_IDLE);
        drop(idle);
        assert!(!connections.iter().any(open));
    }
}
