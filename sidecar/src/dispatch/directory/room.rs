//! Room for answers of executables. An answer is held until its peer has read
//! it, so without a bound a peer would decide how much memory they take.
//!
//! Room is taken in parts, as output comes. Executables that each hold some
//! parts and need more could wait for each other for ever; so there is a
//! reserve, of which one gets all at once that it may still need.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use super::{MAX_RUNNING, MAX_STDOUT};

/// Bytes in the unit that room is counted in.
const KIB: usize = 1024;

/// Bytes of an answer's first part, which takes no room. How many there are
/// is bounded by the streams of a pipe, as it is with the first bytes of
/// requests. Most answers are no longer.
pub(super) const FIRST_PART: usize = 16 * KIB;

/// Bytes of every other part.
pub(super) const PART: usize = 64 * KIB;

const PART_KIB: u32 = (PART / KIB) as u32;

/// Parts that an answer has at most, beside the first.
const MAX_PARTS: u32 = MAX_STDOUT.div_ceil(PART) as u32;

/// Bytes that the answers to one peer take beyond their first parts: 4 MiB,
/// one part for each executable that a peer has at once. If it reads what it
/// asked for, nobody waits whose answer is no longer than 80 KiB.
const PEER_ROOM: usize = MAX_RUNNING * PART;

/// Bytes beside [`PEER_ROOM`] by which an answer comes to its end that finds
/// no more room there: what one may need beyond its first part.
const RESERVE: usize = MAX_STDOUT;

/// So long an executable waits for room. A pipe's write that moves nothing is
/// borne for the same time.
const ROOM_WAIT: Duration = Duration::from_secs(10);

/// The rooms of those peers that have an executable, or an answer of more than
/// one part that they have not read.
#[derive(Debug, Default)]
pub(super) struct Rooms(Mutex<HashMap<Arc<str>, Weak<Room>>>);

/// One peer's.
#[derive(Debug)]
pub(super) struct Room {
    /// Executables that it may still have at once.
    places: Semaphore,
    /// What is left of [`PEER_ROOM`], in KiB.
    parts: Arc<Semaphore>,
    /// What is left of [`RESERVE`], in KiB.
    reserve: Arc<Semaphore>,
}

/// The room of one answer that comes.
#[derive(Debug)]
pub(super) struct Growing {
    room: Arc<Room>,
    /// Parts that it has got.
    parts: u32,
    /// What it may still need, once it was given that.
    reserved: Option<OwnedSemaphorePermit>,
}

/// Room for one part, until it is dropped.
#[derive(Debug)]
pub(super) struct Taken {
    permit: OwnedSemaphorePermit,
    /// So that its peer finds this room again as long as it is in use.
    _room: Arc<Room>,
}

/// Bytes that take room.
struct Kept {
    bytes: Vec<u8>,
    _taken: Taken,
}

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Rooms {
    /// The room of a peer.
    pub(super) fn of(&self, peer: &Arc<str>) -> Arc<Room> {
        let mut rooms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(room) = rooms.get(peer).and_then(Weak::upgrade) {
            return room;
        }
        if rooms.len() == rooms.capacity() {
            // Before the table grows, those that are gone leave it.
            rooms.retain(|_, room| room.strong_count() > 0);
        }
        let room = Arc::new(Room::default());
        rooms.insert(peer.clone(), Arc::downgrade(&room));
        room
    }
}

impl Default for Room {
    fn default() -> Self {
        let of = |bytes: usize| Arc::new(Semaphore::new(bytes / KIB));
        Self { places: Semaphore::new(MAX_RUNNING), parts: of(PEER_ROOM), reserve: of(RESERVE) }
    }
}

impl Room {
    /// Waits until the peer has fewer than [`MAX_RUNNING`] executables; one
    /// more is there until what is returned is dropped. Those that wait for
    /// room without a turn are among them.
    pub(super) async fn place(&self) -> Option<SemaphorePermit<'_>> {
        // The semaphores of this file are never closed.
        self.places.acquire().await.ok()
    }
}

impl Growing {
    /// The room of an answer of which nothing has come.
    pub(super) fn new(room: Arc<Room>) -> Self {
        Self { room, parts: 0, reserved: None }
    }

    /// Room for one more part, if there is any now.
    pub(super) fn try_part(&mut self) -> Option<Taken> {
        let reserved = self.reserved.as_mut().and_then(|reserved| reserved.split(PART / KIB));
        let permit = match reserved {
            Some(permit) => permit,
            None => self.room.parts.clone().try_acquire_many_owned(PART_KIB).ok()?,
        };
        Some(self.taken(permit))
    }

    /// Room for one more part, as soon as there is any.
    ///
    /// # Errors
    /// If that takes too long.
    pub(super) async fn part(&mut self) -> io::Result<Taken> {
        match tokio::time::timeout(ROOM_WAIT, self.wait()).await {
            Ok(permit) => Ok(self.taken(permit?)),
            Err(_) => {
                let mib = (PEER_ROOM + RESERVE) / (KIB * KIB);
                Err(io::Error::other(format!(
                    "answers of executables that this peer has not read to their end take \
                     {mib} MiB: read them, or serve large replies from an app"
                )))
            }
        }
    }

    async fn wait(&mut self) -> io::Result<OwnedSemaphorePermit> {
        let needed = MAX_PARTS.saturating_sub(self.parts).max(1) * PART_KIB;
        let (parts, reserve) = (self.room.parts.clone(), self.room.reserve.clone());
        let got = tokio::select! {
            biased;
            permit = parts.acquire_many_owned(PART_KIB) => permit,
            permit = reserve.acquire_many_owned(needed) => permit,
        };
        let mut permit = got.map_err(io::Error::other)?;
        // Of the reserve it is more than one part.
        let more = permit.num_permits().saturating_sub(PART / KIB);
        self.reserved = permit.split(more);
        Ok(permit)
    }

    fn taken(&mut self, permit: OwnedSemaphorePermit) -> Taken {
        self.parts += 1;
        Taken { permit, _room: self.room.clone() }
    }
}

impl Taken {
    /// The bytes of a part, which take the room that they need until they are
    /// dropped, with all slices of them.
    pub(super) fn keep(mut self, mut bytes: Vec<u8>) -> Bytes {
        bytes.shrink_to_fit();
        let spare = self.permit.num_permits().saturating_sub(bytes.len().div_ceil(KIB));
        drop(self.permit.split(spare));
        Bytes::from_owner(Kept { bytes, _taken: self })
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    /// KiB that are left of [`PEER_ROOM`] and of [`RESERVE`].
    fn left(room: &Room) -> (usize, usize) {
        (room.parts.available_permits(), room.reserve.available_permits())
    }

    fn all() -> (usize, usize) {
        left(&Room::default())
    }

    #[test]
    fn bytes_take_the_room_that_they_need_until_the_last_slice_of_them_is_dropped() {
        let room = Arc::new(Room::default());
        let mut growing = Growing::new(room.clone());
        let taken = growing.try_part().expect("there is room");
        assert_eq!(left(&room), (all().0 - PART / KIB, all().1));
        let kept = taken.keep(vec![b'x'; KIB + 1]);
        assert_eq!(left(&room), (all().0 - 2, all().1));
        let slice = kept.slice(1..2);
        drop((kept, growing));
        assert_eq!(left(&room), (all().0 - 2, all().1));
        assert_eq!(slice, "x");
        drop(slice);
        assert_eq!(left(&room), all());
    }

    #[tokio::test(start_paused = true)]
    async fn of_many_that_would_wait_for_each_other_one_comes_to_its_end_and_then_the_next() {
        let room = Arc::new(Room::default());
        let mut answers: Vec<_> = (0..MAX_RUNNING).map(|_| Growing::new(room.clone())).collect();
        let part = |growing: &mut Growing| growing.try_part().expect("a part for each");
        let parts: Vec<_> = answers.iter_mut().map(part).collect();
        assert_eq!(left(&room), (0, all().1));

        let (mut second, mut first) = (answers.pop().expect("one"), answers.pop().expect("one"));
        assert!(first.try_part().is_none(), "nothing is left");
        let mut rest = vec![first.part().await.expect("the reserve")];
        while let Some(part) = first.try_part() {
            rest.push(part);
        }
        assert_eq!(rest.len() + 1, MAX_PARTS as usize, "as much as an answer may be");

        let waited = tokio::time::Instant::now();
        let error = second.part().await.expect_err("the first has the reserve").to_string();
        assert!(error.contains("take 5 MiB: read them, or"), "{error}");
        assert!(waited.elapsed() >= ROOM_WAIT);
        drop((first, rest));
        let next = second.part().await.expect("the reserve is free");
        drop((parts, next, second));
        assert_eq!(left(&room), all());
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_gets_what_another_has_given_back() {
        let room = Arc::new(Room::default());
        let mut growing = Growing::new(room.clone());
        let mut parts: Vec<_> = std::iter::from_fn(|| growing.try_part()).collect();
        let held = room.reserve.clone().try_acquire_many_owned(1).expect("it is free");
        let mut other = Growing::new(room.clone());
        assert!(other.part().now_or_never().is_none(), "there is none");
        let (got, ()) = tokio::join!(other.part(), async { drop(parts.pop()) });
        drop((got.expect("what was given back"), parts, held, other, growing));
        assert_eq!(left(&room), all());
    }

    #[tokio::test]
    async fn one_peer_has_only_so_many_at_once_and_another_its_own() {
        let rooms = Rooms::default();
        let (room, other) = (rooms.of(&"a".into()), rooms.of(&"b".into()));
        let mut places = Vec::new();
        for _ in 0..MAX_RUNNING {
            places.push(room.place().await.expect("a place"));
        }
        assert!(room.place().now_or_never().is_none(), "all are taken");
        assert!(other.place().now_or_never().is_some());
        places.pop();
        assert!(room.place().now_or_never().is_some());
    }

    #[test]
    fn a_peer_finds_its_room_again_as_long_as_something_of_it_is_in_use() {
        let rooms = Rooms::default();
        let peer: Arc<str> = "a".into();
        let kept = {
            let mut growing = Growing::new(rooms.of(&peer));
            growing.try_part().expect("there is room").keep(vec![b'x'; PART])
        };
        assert_eq!(left(&rooms.of(&peer)), (all().0 - PART / KIB, all().1));
        drop(kept);
        assert_eq!(left(&rooms.of(&peer)), all());
    }

    #[test]
    fn peers_of_which_nothing_is_in_use_are_forgotten() {
        let rooms = Rooms::default();
        let mut kept = Vec::new();
        for number in 0..10_000 {
            let room = rooms.of(&format!("n{number}").into());
            if number < 10 {
                kept.push(room);
            }
        }
        let known = rooms.0.lock().expect("no panic").len();
        assert!((10..100).contains(&known), "{known}");
    }
}
