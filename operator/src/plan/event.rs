//! Events, as values. They are told at transitions only, so that a lasting fault is one Event.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use restpipe_api::condition::{
    ACCEPTED, CONNECTED, IDENTITY_ISSUED, INJECTED, SINGLE_REPLICA, reason,
};

use super::conditions::{Finding, Status};

/// Bytes of a note (the schema of Event).
const MAX_NOTE: usize = 1024;

/// A certificate was issued for the first time.
pub const ISSUED: &str = "Issued";
/// A certificate was issued again.
pub const RENEWED: &str = "Renewed";
/// No certificate could be issued.
pub const ISSUE_FAILED: &str = "IssueFailed";
/// A new root is being spread.
pub const ROTATION_STARTED: &str = "RotationStarted";
/// The new root signs.
pub const ROTATION_SWITCHED: &str = "RotationSwitched";
/// The old root is no longer trusted.
pub const ROTATION_DONE: &str = "RotationDone";
/// A rotation was asked for that the operator cannot make, or is not needed any more.
pub const ROTATION_NOT_DONE: &str = "RotationNotDone";
/// The CA had ended or was lost, and there is a new one.
pub const CA_RECOVERED: &str = "CaRecovered";
/// The last pipe of a link has ended.
pub const DISCONNECTED: &str = "Disconnected";

/// How an Event is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventType {
    /// News.
    Normal,
    /// Something to act on.
    Warning,
}

/// An Event to tell, about the object that was planned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// How it is shown.
    pub type_: EventType,
    /// One word, as in conditions.
    pub reason: &'static str,
    /// What the operator did or tried, one word.
    pub action: &'static str,
    /// A sentence, of at most 1024 bytes.
    pub note: String,
}

impl Event {
    /// News.
    pub fn normal(reason: &'static str, action: &'static str, note: impl Into<String>) -> Self {
        Self::new(EventType::Normal, reason, action, note.into())
    }

    /// Something to act on.
    pub fn warning(reason: &'static str, action: &'static str, note: impl Into<String>) -> Self {
        Self::new(EventType::Warning, reason, action, note.into())
    }

    fn new(type_: EventType, reason: &'static str, action: &'static str, mut note: String) -> Self {
        if note.len() > MAX_NOTE {
            let end = (0..=MAX_NOTE - 3).rev().find(|end| note.is_char_boundary(*end));
            note.truncate(end.unwrap_or_default());
            note.push_str("...");
        }
        Self { type_, reason, action, note }
    }
}

/// What is news in `found`, next to the conditions of the present status.
#[must_use]
pub fn news(before: &[Condition], found: &[&Finding]) -> Vec<Event> {
    found.iter().filter_map(|finding| news_of(before, finding)).collect()
}

fn news_of(before: &[Condition], found: &Finding) -> Option<Event> {
    let old = before.iter().find(|condition| condition.type_ == found.type_);
    let same_status = old.is_some_and(|old| old.status == found.status.word());
    let same = same_status && old.is_some_and(|old| old.reason == found.reason);
    let was_true = old.is_some_and(|old| old.status == Status::True.word());
    let note = &*found.message;
    match (found.type_, found.status) {
        _ if same => None,
        (ACCEPTED, Status::False) => Some(Event::warning(found.reason, "Accept", note)),
        // The cause that Accepted has told already is no further news.
        (IDENTITY_ISSUED, Status::False) if is_issue_failure(found.reason) => {
            Some(Event::warning(ISSUE_FAILED, "Issue", note))
        }
        (IDENTITY_ISSUED, Status::True) if found.reason == reason::EXPORT_EXPIRING => {
            Some(Event::warning(found.reason, "Issue", note))
        }
        (IDENTITY_ISSUED, Status::True) if found.reason == reason::CERT_RELOAD_FAILED => {
            Some(Event::warning(found.reason, "Observe", note))
        }
        (IDENTITY_ISSUED, Status::True) if found.reason == reason::ROTATION_WAITS => {
            Some(Event::normal(found.reason, "RotateCa", note))
        }
        (INJECTED, Status::False) if found.reason == reason::NOT_INJECTED => {
            Some(Event::warning(found.reason, "Inject", note))
        }
        (SINGLE_REPLICA, Status::False) => Some(Event::warning(found.reason, "Observe", note)),
        (CONNECTED, Status::True) if !same_status => {
            Some(Event::normal(reason::CONNECTED, "Observe", note))
        }
        (CONNECTED, Status::False) if was_true => {
            let note = format!("{}: {note}", found.reason);
            let wanted = [reason::SUSPENDED, reason::NO_PODS].contains(&found.reason);
            Some(if wanted {
                Event::normal(DISCONNECTED, "Observe", note)
            } else {
                Event::warning(DISCONNECTED, "Observe", note)
            })
        }
        _ => None,
    }
}

fn is_issue_failure(word: &str) -> bool {
    [
        reason::CA_UNAVAILABLE,
        reason::SECRET_NOT_FOUND,
        reason::SECRET_INVALID,
        reason::CERTIFICATE_EXPIRED,
        reason::CLOCK_SKEW,
        reason::NAME_MISMATCH,
        reason::WRITE_FAILED,
    ]
    .contains(&word)
}
