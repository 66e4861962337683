//! Conditions that are written only when they say something new.

use std::time::SystemTime;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use restpipe_api::condition::{READY, reason};

use super::time::time;
use crate::seen::Trouble;

/// Characters of a message (the schema of Condition).
const MAX_MESSAGE: usize = 32_768;

/// The status of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It holds.
    True,
    /// It does not.
    False,
    /// Nobody can tell.
    Unknown,
}

impl Status {
    /// As it is written.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// What one condition says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Its type, one of [`restpipe_api::condition`].
    pub type_: &'static str,
    /// Its status.
    pub status: Status,
    /// One of [`restpipe_api::condition::reason`].
    pub reason: &'static str,
    /// A sentence; with the cure, unless all is well.
    pub message: String,
}

impl Finding {
    /// All is well.
    pub fn good(type_: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self { type_, status: Status::True, reason, message: message.into() }
    }

    /// Something is wrong.
    pub fn bad(type_: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self { type_, status: Status::False, reason, message: message.into() }
    }

    /// Nobody can tell.
    pub fn unknown(type_: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self { type_, status: Status::Unknown, reason, message: message.into() }
    }

    /// [`Self::bad`] for that trouble.
    #[must_use]
    pub fn of(type_: &'static str, trouble: &Trouble) -> Self {
        Self::bad(type_, trouble.reason, trouble.detail.clone())
    }

    /// Whether all is well.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.status == Status::True
    }

    /// Ready: as the first of `needed` that does not hold, else `message`.
    pub fn ready(needed: &[&Self], message: impl Into<String>) -> Self {
        match needed.iter().find(|finding| !finding.holds()) {
            Some(first) => Self { type_: READY, ..(*first).clone() },
            None => Self::good(READY, reason::READY, message),
        }
    }
}

/// The conditions of an object, from what they were and what was found.
#[derive(Debug)]
pub struct Conditions<'a> {
    before: &'a [Condition],
    generation: Option<i64>,
    now: SystemTime,
    list: Vec<Condition>,
}

impl<'a> Conditions<'a> {
    /// None yet. `before` are those of the present status.
    #[must_use]
    pub fn new(before: &'a [Condition], generation: Option<i64>, now: SystemTime) -> Self {
        Self { before, generation, now, list: Vec::new() }
    }

    /// The condition as it is in the present status.
    #[must_use]
    pub fn before(&self, type_: &str) -> Option<&'a Condition> {
        self.before.iter().find(|condition| condition.type_ == type_)
    }

    /// Sets one. Its time is that of the last change of its status.
    pub fn set(&mut self, finding: &Finding) -> &mut Self {
        let status = finding.status.word();
        let since = self.before(finding.type_).filter(|before| before.status == status);
        self.list.push(Condition {
            type_: finding.type_.to_owned(),
            status: status.to_owned(),
            reason: finding.reason.to_owned(),
            message: shortened(&finding.message, MAX_MESSAGE),
            observed_generation: self.generation,
            last_transition_time: since
                .map_or_else(|| time(self.now), |before| before.last_transition_time.clone()),
        });
        self
    }

    /// Leaves one as it is.
    pub fn keep(&mut self, type_: &str) -> &mut Self {
        if let Some(before) = self.before(type_) {
            self.list.push(Condition { observed_generation: self.generation, ..before.clone() });
        }
        self
    }

    /// All that were set or kept.
    #[must_use]
    pub fn finish(self) -> Vec<Condition> {
        self.list
    }
}

/// At most `most` characters.
#[must_use]
pub fn shortened(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some(_) => text.chars().take(most.saturating_sub(3)).chain("...".chars()).collect(),
    }
}
