//! The two phases of a rotation, and when each is over.

use std::time::{Duration, SystemTime};

use restpipe_identity::rfc3339;

use super::{Steps, evidence, promote};
use crate::plan::authority::CaState;
use crate::plan::event::{self, Event};
use crate::plan::time::earlier;

/// How often is looked while a rotation waits: reports come by themselves, this is for those that
/// were missed.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// How long before the end of a root reports are no longer waited for (of a root that lives a few
/// days only, a twelfth of its life): two days are enough to replace all leafs, which live one.
const LAST_CALL: Duration = Duration::from_secs(2 * 86_400);

impl Steps<'_> {
    /// Waits until everybody trusts the new root.
    pub(super) fn spread(&mut self, state: &mut CaState) {
        let Some(next) = state.next.clone() else { return };
        let new = next.info().fingerprint.clone();
        let without = self.evidence.secrets_without(&new);
        let settled = without.is_empty();
        self.waiting_for = without;
        self.waiting_for.extend(self.evidence.who_does_not_trust(&new, self.now));
        let long_enough = self.settle(state, settled);
        // Then even a Secret that cannot be written is left behind.
        let (last_call, last_minute) = (before_end(state, 2), before_end(state, 1));
        let agreed = long_enough && self.waiting_for.is_empty();
        let forced = self.now >= last_minute || long_enough && self.now >= last_call;
        if !agreed && !forced {
            let next_call = if self.now < last_call { last_call } else { last_minute };
            self.again_at = earlier(self.again_at, Some(next_call));
            return;
        }
        let note = if self.waiting_for.is_empty() {
            "every node trusts the new CA: it signs from now on, the server's certificate first"
                .to_owned()
        } else {
            let missed = evidence::listed(std::mem::take(&mut self.waiting_for));
            format!(
                "the old CA ends at {}, so the new one signs from now on, although these have not said that they trust it: {missed}",
                rfc3339(state.current.info().not_after)
            )
        };
        self.events.push(Event::normal(event::ROTATION_SWITCHED, "RotateCa", note));
        state.next = None;
        promote(state, next);
        self.changed = true;
        self.again_at = Some(self.now);
    }

    /// Waits until nothing of the old root lives, and no longer than the old root itself: what is
    /// still of it then is of no use to anybody. An old root of the user's own may outlive the new
    /// one, which has to be followed before it ends: so this one ends in time for the next spread
    /// to have its own last call.
    pub(super) fn switch(&mut self, state: &mut CaState) {
        let Some(previous) = &state.previous else { return };
        // One that has not begun has not ended: the clock is wrong then.
        let begun = previous.roots.iter().all(|root| root.info().not_before <= self.now);
        let ended = begun && !previous.live(self.now);
        let left = self.evidence.secrets_not_of(state, self.now);
        let settled = left.is_empty();
        self.waiting_for = left;
        if !ended {
            self.waiting_for.extend(self.evidence.who_shows_another(state, self.now));
        }
        let long_enough = self.settle(state, settled);
        let (last_call, last_minute) = (before_end(state, 4), before_end(state, 2));
        let done = ended || long_enough && self.waiting_for.is_empty();
        let forced = self.now >= last_minute || long_enough && self.now >= last_call;
        if !done && !forced {
            return;
        }
        // Nor is a Secret named any more that cannot be written.
        let missed = std::mem::take(&mut self.waiting_for);
        let note = if ended || missed.is_empty() {
            "no certificate of the old CA lives: it is no longer trusted".to_owned()
        } else {
            format!(
                "the new CA ends at {} and has to be followed before, so the old one is no longer trusted, although these may still have a certificate of it: {}",
                rfc3339(state.current.info().not_after),
                evidence::listed(missed)
            )
        };
        self.events.push(Event::normal(event::ROTATION_DONE, "RotateCa", note));
        state.previous = None;
        state.settled = None;
        self.forget_go_on(state);
        self.changed = true;
        self.again_at = Some(self.now);
    }

    /// Whether the Secrets have been as they should be for long enough.
    fn settle(&mut self, state: &mut CaState, settled: bool) -> bool {
        self.waiting_for.sort();
        self.waiting_for.dedup();
        self.again_at = earlier(self.again_at, self.now.checked_add(LOOK_AGAIN));
        // A mark in the future is of another clock.
        let since = state.settled.filter(|since| *since <= self.now);
        match (settled, since) {
            (false, _) => false,
            (true, None) => {
                state.settled = Some(self.now);
                self.changed = true;
                self.want.spread_time.is_zero()
            }
            (true, Some(since)) => {
                let end = since + self.want.spread_time;
                self.again_at = earlier(self.again_at, Some(end.max(self.now)));
                self.now >= end
            }
        }
    }
}

/// So many halves of [`LAST_CALL`] before the end of the root that signs.
fn before_end(state: &CaState, halves: u32) -> SystemTime {
    let info = state.current.info();
    let life = info.not_after.duration_since(info.not_before).unwrap_or_default();
    info.not_after - (life / 12).min(LAST_CALL) / 2 * halves
}
