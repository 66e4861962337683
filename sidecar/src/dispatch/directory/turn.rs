//! Whose turn it is to run.

use tokio::sync::{Semaphore, SemaphorePermit};

use super::MAX_RUNNING;

/// Executables that wait for room without a turn: as many as four peers have
/// that read nothing. Beyond them they wait with their turns, so that not any
/// number of processes is there.
const MAX_WAITING: usize = 4 * MAX_RUNNING;

/// The turns of a directory.
#[derive(Debug)]
pub(super) struct Turns {
    running: Semaphore,
    waiting: Semaphore,
}

/// One of them, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    turns: &'a Turns,
    /// `None` while others have it.
    running: Option<SemaphorePermit<'a>>,
    /// Who has lent its turn is one of those that wait.
    waiting: Option<SemaphorePermit<'a>>,
}

impl Default for Turns {
    fn default() -> Self {
        Self { running: Semaphore::new(MAX_RUNNING), waiting: Semaphore::new(MAX_WAITING) }
    }
}

impl Turns {
    /// Waits for a turn.
    pub(super) async fn take(&self) -> Turn<'_> {
        // The semaphores of this file are never closed.
        Turn { turns: self, running: self.running.acquire().await.ok(), waiting: None }
    }
}

impl Turn<'_> {
    /// Lets others run, if not too many wait already.
    pub(super) fn lend(&mut self) {
        if let Ok(waiting) = self.turns.waiting.try_acquire() {
            self.waiting = Some(waiting);
            self.running = None;
        }
    }

    /// Waits for a turn again, if it was lent.
    pub(super) async fn take_back(&mut self) {
        if self.waiting.is_some() {
            self.running = self.turns.running.acquire().await.ok();
            self.waiting = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_turn_that_is_lent_is_another_s_and_is_waited_for_afterwards() {
        let turns = Turns::default();
        let mut first = turns.take().await;
        let mut others = Vec::new();
        for _ in 1..MAX_RUNNING {
            others.push(turns.take().await);
        }
        assert!(turns.take().now_or_never().is_none(), "all are taken");
        first.lend();
        let last = turns.take().now_or_never().expect("the one that was lent");
        assert!(first.take_back().now_or_never().is_none(), "it is in use");
        drop(last);
        first.take_back().now_or_never().expect("it is free");
        assert!(turns.take().now_or_never().is_none(), "all are taken");
    }

    #[tokio::test]
    async fn only_so_many_turns_are_lent() {
        let turns = Turns::default();
        let mut waiting = Vec::new();
        for _ in 0..MAX_WAITING {
            let mut turn = turns.take().await;
            turn.lend();
            waiting.push(turn);
        }
        assert_eq!(turns.running.available_permits(), MAX_RUNNING);
        let mut one_more = turns.take().await;
        one_more.lend();
        assert_eq!(turns.running.available_permits(), MAX_RUNNING - 1, "it keeps its turn");
        one_more.take_back().now_or_never().expect("it has it");
        drop(waiting);
        assert_eq!(turns.waiting.available_permits(), MAX_WAITING);
    }
}
