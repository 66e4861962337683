//! Conditions that are written only when they say something new.

use std::time::SystemTime;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use restpipe_api::condition::{ACCEPTED, IDENTITY_ISSUED, READY, reason};

use super::time::time;
use crate::seen::Trouble;

/// Characters of a message (the schema of Condition).
const MAX_MESSAGE: usize = 32_768;

/// Characters of what the API server says: an admission webhook may have it say anything.
const MAX_SAID: usize = 1024;

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

/// Why something of a plan was not written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The API server refuses it, and will until somebody removes the cause.
    Refused(Trouble),
    /// Trying again is the cure. What was said before stays meanwhile.
    Passing,
}

impl Failure {
    /// The API server `said` no, in answer to `doing`: "cannot write the Secret a/b".
    #[must_use]
    pub fn refused(doing: &str, said: &str) -> Self {
        let said: String =
            said.chars().map(|one| if one.is_control() { ' ' } else { one }).collect();
        Self::Refused(Trouble {
            reason: reason::WRITE_FAILED,
            detail: format!(
                "{doing}, the API server refuses it: {}; remove the cause (make room in the quota, let the admission policy pass the operator's objects, choose another spec.service.nodePort), it is tried again every minute",
                shortened(&said, MAX_SAID)
            ),
        })
    }

    /// What a condition says of it.
    #[must_use]
    pub fn finding(&self, type_: &'static str) -> Option<Finding> {
        match self {
            Self::Refused(trouble) => Some(Finding::of(type_, trouble)),
            Self::Passing => None,
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
        self.put(finding.type_, finding.status.word(), finding.reason, &finding.message);
        self
    }

    fn put(&mut self, type_: &str, status: &str, reason: &str, message: &str) {
        let since = self.before(type_).filter(|before| before.status == status);
        self.list.push(Condition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message: shortened(message, MAX_MESSAGE),
            observed_generation: self.generation,
            last_transition_time: since
                .map_or_else(|| time(self.now), |before| before.last_transition_time.clone()),
        });
    }

    /// Takes those of a plan of which something was not written. A condition that speaks of it does
    /// not say that all is well, and neither does Ready.
    pub fn take(
        &mut self,
        planned: &[Condition],
        failed: &[(&'static str, &Failure)],
    ) -> &mut Self {
        for one in planned.iter().filter(|one| one.type_ != READY) {
            let failure = failed.iter().find(|(type_, _)| *type_ == one.type_);
            // What is wrong besides is told first: without its cure nothing would be written.
            match failure.filter(|_| one.status == Status::True.word()) {
                None => self.list.push(one.clone()),
                Some(&(type_, failure)) => {
                    match failure.finding(type_) {
                        Some(finding) => self.set(&finding),
                        None => self.keep(type_),
                    };
                }
            }
        }
        let speaks = |one: &&Condition| [ACCEPTED, IDENTITY_ISSUED].contains(&&*one.type_);
        let wrong = self.list.iter().filter(speaks).find(|one| one.status != Status::True.word());
        match wrong.cloned() {
            Some(wrong) => self.put(READY, &wrong.status, &wrong.reason, &wrong.message),
            None => {
                self.keep(READY);
            }
        }
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
