//! How the CA of a server changes.
//!
//! A new root is *spread*: every `ca.crt` gets it beside the old one, and nothing is signed by it.
//! Once every Secret has held it for [`SPREAD_TIME`](super::authority::SPREAD_TIME), and every server
//! pod and every pipe reports that it trusts it, certificates are *switched*: the server's first,
//! since a server pod that shows a leaf of the new root has read a bundle that holds it, and so will
//! take its clients' new leafs. When nothing of the old root lives, it is *dropped*.
//!
//! Exported identities are waited for until they end or their pipes report what is needed: nobody
//! but their user can bring them another one, and without it the switch would lock them out. The user
//! may say that it goes on without them ([`ROTATE_CA_GO_ON`](restpipe_api::names::ROTATE_CA_GO_ON)); that
//! counts for the rotation under way and for no later one. Nothing waits for ever: in the last days of
//! the old root the switch is made anyway; and the old one is dropped when it has ended, or in the last
//! days of the new one if it would outlive that.

mod evidence;
mod phases;

use std::time::{Duration, SystemTime};

use restpipe_api::CaPhase;
use restpipe_api::condition::reason;
use restpipe_identity::rfc3339;

use super::authority::{CaState, Retired, Root, Source};
use super::event::{self, Event};
use super::time::earlier;
use crate::seen::Trouble;

pub(super) use evidence::{Evidence, LeafFact, listed};

/// What the user wants of the CA.
pub(super) struct Want<'a> {
    /// The CA of the user's Secret, or why it cannot be used; none: one of the operator's own.
    pub(super) user: Option<&'a Result<Root, Trouble>>,
    /// Value of the annotation that asks for a rotation.
    pub(super) rotate: Option<&'a str>,
    /// Value of the annotation that has it go on without clients outside.
    pub(super) go_on: Option<&'a str>,
    /// What a root of the operator's own is called.
    pub(super) name: &'a str,
    pub(super) spread_time: Duration,
}

/// What became of the CA.
pub(super) struct Step {
    /// Nothing if there is none and none can be had.
    pub(super) state: Option<CaState>,
    /// Whether it must be stored.
    pub(super) changed: bool,
    /// Why nothing can be signed, or why the user's wish cannot be followed.
    pub(super) problem: Option<Trouble>,
    pub(super) events: Vec<Event>,
    /// Whom a rotation waits for.
    pub(super) waiting_for: Vec<String>,
    /// Whether these are clients outside of the cluster, and nobody else.
    pub(super) waits_for_exported: bool,
    pub(super) again_at: Option<SystemTime>,
}

impl Step {
    /// Nothing can be done.
    pub(super) fn stuck(problem: Option<Trouble>) -> Self {
        Self {
            state: None,
            changed: false,
            problem,
            events: Vec::new(),
            waiting_for: Vec::new(),
            waits_for_exported: false,
            again_at: None,
        }
    }
}

/// Takes the CA one step on. `stored` is what the CA Secret holds, if there is one.
pub(super) fn step(
    stored: Option<Result<CaState, String>>,
    evidence: &Evidence<'_>,
    want: &Want<'_>,
    now: SystemTime,
) -> Step {
    let mut steps = Steps {
        evidence,
        want,
        now,
        changed: false,
        problem: want.user.and_then(|user| user.as_ref().err().cloned()),
        events: Vec::new(),
        waiting_for: Vec::new(),
        again_at: None,
    };
    let state = steps.run(stored);
    let Steps { changed, problem, events, waiting_for, again_at, .. } = steps;
    let waits_for_exported =
        !waiting_for.is_empty() && waiting_for.iter().all(|name| evidence.is_exported(name));
    Step { state, changed, problem, events, waiting_for, waits_for_exported, again_at }
}

struct Steps<'a> {
    evidence: &'a Evidence<'a>,
    want: &'a Want<'a>,
    now: SystemTime,
    changed: bool,
    problem: Option<Trouble>,
    events: Vec<Event>,
    waiting_for: Vec<String>,
    again_at: Option<SystemTime>,
}

impl Steps<'_> {
    fn run(&mut self, stored: Option<Result<CaState, String>>) -> Option<CaState> {
        let mut state = match stored {
            Some(Ok(state)) => state,
            Some(Err(why)) => self.begin(Some(&why))?,
            None => self.begin(None)?,
        };
        if !state.current.info().is_valid_at(self.now) {
            // The new one is stored before anything else is done with it, as after a spread.
            self.recover(&mut state);
            return Some(state);
        }
        match state.phase() {
            CaPhase::Stable => self.maybe_start(&mut state),
            CaPhase::Spreading => self.follow_wish(&mut state),
            CaPhase::Switching => {}
        }
        match state.phase() {
            CaPhase::Stable => {}
            CaPhase::Spreading => self.spread(&mut state),
            CaPhase::Switching => self.switch(&mut state),
        }
        Some(state)
    }

    /// A root where there is none. Where there was one, its certificate is still in the server's
    /// own Secret: pods and clients go on trusting it until they have new leafs.
    fn begin(&mut self, damaged: Option<&str>) -> Option<CaState> {
        let root = self.wanted_root()?;
        let mut state = CaState::new(root, self.want.rotate);
        state.previous = self.evidence.trusted_before().filter(|old| {
            let new = &state.current.info().fingerprint;
            old.live(self.now) && !old.roots.fingerprints().contains(new)
        });
        self.changed = true;
        if damaged.is_some() || state.previous.is_some() {
            let why = damaged.unwrap_or("the Secret is gone");
            self.events.push(Event::warning(
                event::CA_RECOVERED,
                "CreateCa",
                format!("the CA's key was lost ({why}): there is a new CA, all certificates are issued anew, and clients outside this cluster must be exported again"),
            ));
        }
        Some(state)
    }

    /// The root that the user wants, made if it is to be one of the operator's own.
    fn wanted_root(&mut self) -> Option<Root> {
        match self.want.user {
            Some(user) => user.as_ref().ok().cloned(),
            None => match Root::create(self.want.name, self.now) {
                Ok(root) => Some(root),
                Err(error) => {
                    self.problem = Some(unavailable(error.to_string()));
                    None
                }
            },
        }
    }

    /// Gives the root that signs, which is out of its time, a successor if there can be one.
    fn recover(&mut self, state: &mut CaState) {
        let ended = state.current.info().not_after;
        if self.now < state.current.info().not_before {
            self.problem = Some(unavailable(format!(
                "the CA begins at {}: the operator's clock is wrong, or was when the CA was made; nothing is signed meanwhile",
                rfc3339(state.current.info().not_before)
            )));
            return;
        }
        let next = state.next.take().filter(|next| next.info().is_valid_at(self.now));
        let Some(new) = next.or_else(|| self.wanted_root()) else {
            self.problem
                .get_or_insert_with(|| unavailable(format!("the CA ended at {}", rfc3339(ended))));
            return;
        };
        self.events.push(Event::warning(
            event::CA_RECOVERED,
            "CreateCa",
            format!("the CA ended at {}, and so did all certificates of it: a new one is in use at once; clients outside this cluster must be exported again", rfc3339(ended)),
        ));
        self.handled(state);
        promote(state, new);
        self.changed = true;
        self.again_at = Some(self.now);
    }

    /// What was said of a former rotation does not count for this one, nor this one's for the next.
    fn forget_go_on(&mut self, state: &mut CaState) {
        if let Some(value) = self.want.go_on
            && state.gone_on.as_deref() != Some(value)
        {
            state.gone_on = Some(value.to_owned());
            self.changed = true;
        }
    }

    fn handled(&mut self, state: &mut CaState) {
        if let Some(rotate) = self.want.rotate
            && state.rotated.as_deref() != Some(rotate)
        {
            state.rotated = Some(rotate.to_owned());
            self.changed = true;
        }
    }

    /// With one root: whether there must be another.
    fn maybe_start(&mut self, state: &mut CaState) {
        let asked = self.want.rotate.is_some_and(|value| state.rotated.as_deref() != Some(value));
        let due = due_at(state);
        let why = match self.want.user {
            Some(Ok(user)) if !user.is(&state.current) => {
                "spec.identity.caSecretName holds another CA"
            }
            Some(_) if asked => {
                self.events.push(Event::warning(
                    event::ROTATION_NOT_DONE,
                    "RotateCa",
                    "the CA is your own: put another one into the Secret that spec.identity.caSecretName names, and it is taken over step by step",
                ));
                return self.handled(state);
            }
            Some(_) => return,
            None if state.current.source == Source::Secret => {
                "spec.identity.caSecretName was removed"
            }
            None if asked => "it was asked for",
            None if self.now >= due => "two thirds of the CA's life are over",
            None => {
                self.again_at = earlier(self.again_at, Some(due));
                return;
            }
        };
        let Some(root) = self.wanted_root() else { return };
        self.handled(state);
        self.forget_go_on(state);
        self.events.push(Event::normal(
            event::ROTATION_STARTED,
            "RotateCa",
            format!("a new CA is sent to all nodes: {why}"),
        ));
        state.next = Some(root);
        state.settled = None;
        self.changed = true;
    }

    /// While a root is spread the user may want another one, or none.
    fn follow_wish(&mut self, state: &mut CaState) {
        self.handled(state);
        let Some(next) = &state.next else { return };
        let fits = next.info().is_valid_at(self.now)
            && match self.want.user {
                Some(Ok(user)) => user.is(next),
                // What cannot be read is no wish.
                Some(Err(_)) => true,
                None => next.source == Source::Operator,
            };
        if fits {
            return;
        }
        let back = match self.want.user {
            Some(user) => user.as_ref().is_ok_and(|user| user.is(&state.current)),
            None => state.current.source == Source::Operator && self.now < due_at(state),
        };
        state.next = if back { None } else { self.wanted_root() };
        state.settled = None;
        self.changed = true;
        self.events.push(if back {
            Event::normal(
                event::ROTATION_NOT_DONE,
                "RotateCa",
                "the CA in use is the wanted one again: nothing was signed by the other",
            )
        } else {
            Event::normal(
                event::ROTATION_STARTED,
                "RotateCa",
                "yet another CA is sent to all nodes: the wanted one has changed",
            )
        });
    }
}

/// `new` signs from now on, and what signed is only trusted.
fn promote(state: &mut CaState, new: Root) {
    let old = std::mem::replace(&mut state.current, new);
    let earlier = state.previous.take().map(|previous| previous.pem).unwrap_or_default();
    let pem = format!("{}{earlier}", old.ca.cert_pem());
    state.previous = Retired::read(pem.as_bytes());
    state.next = None;
    state.settled = None;
}

/// When two thirds of the root's life are over.
fn due_at(state: &CaState) -> SystemTime {
    let info = state.current.info();
    let life = info.not_after.duration_since(info.not_before).unwrap_or_default();
    info.not_before + life * 2 / 3
}

fn unavailable(detail: String) -> Trouble {
    Trouble { reason: reason::CA_UNAVAILABLE, detail }
}
