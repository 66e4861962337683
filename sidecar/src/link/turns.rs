//! Turns: how many connections may be at one stage of becoming a pipe, and
//! which of them gives way when more come.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use restpipe_pipe::tls::Refusal;
use tokio::sync::oneshot;

/// Turns of one stage; clones share them.
///
/// Who comes when all are taken is not simply refused: else as many sockets as
/// there are turns would keep everybody out for as long as each may hold one.
/// The longest held turn of the source that has the most gives way, if that
/// source has more than the newcomer's would then have, or if the turn was held
/// for longer than an honest peer needs it.
#[derive(Clone, Debug)]
pub(super) struct Turns {
    limit: usize,
    per_source: usize,
    /// How long a turn may be held before any newcomer gets it.
    patience: Duration,
    table: Arc<Mutex<Table>>,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    held: HashMap<u64, Held>,
    sources: HashMap<IpAddr, Source>,
    /// Sources of which a turn gives way, the next one last. Kept in order, as
    /// strangers decide how often it is asked for.
    ranks: BTreeSet<Rank>,
}

#[derive(Debug)]
struct Held {
    source: IpAddr,
    since: Instant,
    /// Dropped to tell the holder that it has given way; nothing if it does
    /// not any more.
    gives_way: Option<oneshot::Sender<()>>,
}

/// The turns of one source.
#[derive(Debug, Default)]
struct Source {
    count: usize,
    /// Those that give way, by number, so the longest held is the first.
    give_way: BTreeSet<u64>,
}

/// How many turns a source has, and the longest held that gives way.
type Rank = (usize, Reverse<u64>, IpAddr);

impl Source {
    fn rank(&self, source: IpAddr) -> Option<Rank> {
        Some((self.count, Reverse(*self.give_way.first()?), source))
    }
}

/// Why there is no turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// All turns are.
    All,
    /// Those of one source are.
    OfSource,
}

impl Taken {
    /// What is said of a connection that is dropped for it.
    pub(super) fn refusal(self) -> Refusal {
        match self {
            Self::All => Refusal::new("busy", "as many handshakes as there may be are going on"),
            Self::OfSource => Refusal::new(
                "source-busy",
                "as many handshakes as one address may have are going on",
            ),
        }
    }
}

/// What is said of a connection whose turn has gone to another.
pub(super) fn given_way() -> Refusal {
    Refusal::new("gave-way", "it was slow and gave way to a newer connection")
}

/// One turn; dropping it gives it back.
#[derive(Debug)]
pub(super) struct Turn {
    table: Arc<Mutex<Table>>,
    number: u64,
    given_way: oneshot::Receiver<()>,
}

impl Turns {
    pub(super) fn new(limit: usize, per_source: usize, patience: Duration) -> Self {
        Self { limit, per_source, patience, table: Arc::default() }
    }

    /// A turn for a connection from `source`.
    pub(super) fn take(&self, source: IpAddr, now: Instant) -> Result<Turn, Taken> {
        let mut table = lock(&self.table);
        let own = table.sources.get(&source).map_or(0, |source| source.count);
        let victim = if own >= self.per_source {
            let oldest =
                table.oldest(source).filter(|oldest| self.has_had_it(&table, *oldest, now));
            Some(oldest.ok_or(Taken::OfSource)?)
        } else if table.held.len() >= self.limit {
            Some(self.victim(&table, own, now).ok_or(Taken::All)?)
        } else {
            None
        };
        if let Some(victim) = victim {
            table.remove(victim);
        }
        let number = table.next;
        table.next += 1;
        let (gives_way, given_way) = oneshot::channel();
        table.held.insert(number, Held { source, since: now, gives_way: Some(gives_way) });
        table.change(source, |source| {
            source.count += 1;
            source.give_way.insert(number);
        });
        Ok(Turn { table: self.table.clone(), number, given_way })
    }

    /// Whose turn a newcomer gets whose source has `own` turns.
    fn victim(&self, table: &Table, own: usize, now: Instant) -> Option<u64> {
        let (most, Reverse(oldest), _) = *table.ranks.last()?;
        (most > own + 1 || self.has_had_it(table, oldest, now)).then_some(oldest)
    }

    fn has_had_it(&self, table: &Table, number: u64, now: Instant) -> bool {
        table.held.get(&number).is_some_and(|held| now - held.since >= self.patience)
    }
}

impl Table {
    /// The longest held turn of a source that gives way.
    fn oldest(&self, source: IpAddr) -> Option<u64> {
        self.sources.get(&source)?.give_way.first().copied()
    }

    fn remove(&mut self, number: u64) {
        let Some(Held { source, .. }) = self.held.remove(&number) else { return };
        self.change(source, |source| {
            source.count -= 1;
            source.give_way.remove(&number);
        });
    }

    fn change(&mut self, address: IpAddr, change: impl FnOnce(&mut Source)) {
        let source = self.sources.entry(address).or_default();
        if let Some(rank) = source.rank(address) {
            self.ranks.remove(&rank);
        }
        change(source);
        if let Some(rank) = source.rank(address) {
            self.ranks.insert(rank);
        }
        if source.count == 0 {
            self.sources.remove(&address);
        }
    }
}

impl Turn {
    /// Does `work` unless the turn gives way before it has ended; afterwards it
    /// does not any more. `None` if it has.
    pub(super) async fn keep_for<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        let done = tokio::select! {
            biased;
            done = work => done,
            _ = &mut self.given_way => return None,
        };
        let mut table = lock(&self.table);
        let held = table.held.get_mut(&self.number)?;
        held.gives_way = None;
        let source = held.source;
        table.change(source, |source| {
            source.give_way.remove(&self.number);
        });
        Some(done)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        lock(&self.table).remove(self.number);
    }
}

fn lock(table: &Mutex<Table>) -> MutexGuard<'_, Table> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(1);

    fn source(last: u8) -> IpAddr {
        [127, 0, 0, last].into()
    }

    fn has_given_way(turn: &mut Turn) -> bool {
        turn.given_way.try_recv() == Err(oneshot::error::TryRecvError::Closed)
    }

    #[test]
    fn the_source_that_has_the_most_gives_way_and_never_below_the_newcomers_share() {
        let (turns, now) = (Turns::new(4, 3, PATIENCE), Instant::now());
        let mut greedy: Vec<_> =
            (0..3).map(|_| turns.take(source(1), now).expect("room")).collect();
        let mut modest = turns.take(source(2), now).expect("room");
        let third = turns.take(source(3), now).expect("the greedy one has three");
        assert!(has_given_way(&mut greedy[0]) && !has_given_way(&mut greedy[1]));
        // Two, one and one: a fourth source gets the second, a fifth nothing.
        let fourth = turns.take(source(4), now).expect("the greedy one has two");
        assert_eq!(turns.take(source(5), now).err(), Some(Taken::All));
        assert!(!has_given_way(&mut modest));
        drop((greedy, modest, third, fourth));
        let table = lock(&turns.table);
        assert!(table.held.is_empty() && table.sources.is_empty() && table.ranks.is_empty());
    }

    #[test]
    fn a_turn_held_for_too_long_goes_to_whoever_comes() {
        let (turns, now) = (Turns::new(2, 1, PATIENCE), Instant::now());
        let mut first = turns.take(source(1), now).expect("room");
        assert_eq!(turns.take(source(1), now).err(), Some(Taken::OfSource));
        let mut second = turns.take(source(2), now + PATIENCE / 2).expect("room");
        assert_eq!(turns.take(source(3), now + PATIENCE / 2).err(), Some(Taken::All));
        let _third = turns.take(source(3), now + PATIENCE).expect("the first had its time");
        assert!(has_given_way(&mut first) && !has_given_way(&mut second));
        let _own = turns.take(source(2), now + 2 * PATIENCE).expect("its own had its time");
        assert!(has_given_way(&mut second));
    }

    #[tokio::test]
    async fn a_turn_whose_work_is_done_does_not_give_way() {
        let (turns, now) = (Turns::new(1, 1, Duration::ZERO), Instant::now());
        let mut turn = turns.take(source(1), now).expect("room");
        assert_eq!(turn.keep_for(std::future::ready(7)).await, Some(7));
        assert_eq!(turns.take(source(1), now).err(), Some(Taken::OfSource));
        assert_eq!(turns.take(source(2), now).err(), Some(Taken::All));
        drop(turn);
        let mut turn = turns.take(source(1), now).expect("room");
        let _other = turns.take(source(2), now).expect("the first has done nothing yet");
        assert_eq!(turn.keep_for(std::future::pending::<()>()).await, None);
        assert_eq!(turn.keep_for(std::future::ready(7)).await, None);
    }
}
