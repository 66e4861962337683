//! What callers were told, held against what handlers did.
//!
//! Callers note each request and its answer, handlers their starts and ends;
//! [`History::check`] then says where the two break the contract of outcomes:
//!
//! | answer | the handler |
//! |---|---|
//! | `not-sent`, `refused` | never started |
//! | `executed` | started, and its one complete run is the one that was answered |
//! | `unknown` | started at most once; GET and HEAD, which may be sent again, at most three times |
//!
//! and each request has exactly one answer. An `executed` GET or HEAD may have
//! other runs, whose answers were lost.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use restpipe_pipe::Outcome;

/// How often a handler may run for one GET or HEAD: sent once, and again twice.
pub const SAFE_RUNS: usize = 3;

/// A request's number; whoever asks makes it up and sends it along.
pub type Id = u64;

/// One run of a handler: the handler puts it into its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The request.
    pub id: Id,
    /// Which of its runs, from 0.
    pub number: usize,
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.id, self.number)
    }
}

impl Run {
    /// Reads what [`fmt::Display`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        let (id, number) = text.trim().split_once('.')?;
        Some(Self { id: id.parse().ok()?, number: number.parse().ok()? })
    }
}

#[derive(Debug, Default)]
struct Request {
    /// GET or HEAD.
    safe: bool,
    asked: bool,
    /// For each run, whether it came to its end.
    runs: Vec<bool>,
    answers: Vec<(Outcome, Option<Run>)>,
}

/// Everything that was noted; clones share it.
#[derive(Clone, Debug, Default)]
pub struct History {
    requests: Arc<Mutex<BTreeMap<Id, Request>>>,
}

/// What a history that keeps the contract has in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Requests.
    pub requests: usize,
    /// Answers `executed`.
    pub executed: usize,
    /// Answers `not-sent`.
    pub not_sent: usize,
    /// Answers `refused`.
    pub refused: usize,
    /// Answers `unknown`.
    pub unknown: usize,
}

impl History {
    fn with<R>(&self, id: Id, change: impl FnOnce(&mut Request) -> R) -> R {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        change(requests.entry(id).or_default())
    }

    /// A request is about to be sent; `safe` if it is a GET or HEAD.
    ///
    /// # Panics
    /// If its number was used before.
    pub fn asked(&self, id: Id, safe: bool) {
        self.with(id, |request| {
            assert!(!request.asked, "two requests with the number {id}");
            (request.asked, request.safe) = (true, safe);
        });
    }

    /// Its caller has an answer; `run` is what an executed one says of itself.
    pub fn answered(&self, id: Id, outcome: Outcome, run: Option<Run>) {
        self.with(id, |request| request.answers.push((outcome, run)));
    }

    /// A handler starts.
    pub fn started(&self, id: Id) -> Run {
        self.with(id, |request| {
            request.runs.push(false);
            Run { id, number: request.runs.len() - 1 }
        })
    }

    /// A handler has come to its end.
    pub fn ended(&self, run: Run) {
        self.with(run.id, |request| request.runs[run.number] = true);
    }

    /// What is in it, if it keeps the contract.
    ///
    /// # Errors
    /// A sentence for each request that does not.
    pub fn check(&self) -> Result<Summary, Vec<String>> {
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let mut summary = Summary { requests: requests.len(), ..Summary::default() };
        let mut faults = Vec::new();
        for (id, request) in requests.iter() {
            if let Err(fault) = request.check(*id) {
                faults.push(format!("request {id}: {fault}: {request:?}"));
                continue;
            }
            let count = match request.answers[0].0 {
                Outcome::Executed => &mut summary.executed,
                Outcome::NotSent => &mut summary.not_sent,
                Outcome::Refused => &mut summary.refused,
                Outcome::Unknown => &mut summary.unknown,
            };
            *count += 1;
        }
        if faults.is_empty() { Ok(summary) } else { Err(faults) }
    }
}

impl Request {
    fn check(&self, id: Id) -> Result<(), &'static str> {
        if !self.asked {
            return Err("a handler ran for what nobody asked");
        }
        let [(outcome, run)] = &self.answers[..] else {
            return Err(if self.answers.is_empty() { "no answer" } else { "several answers" });
        };
        let most = if self.safe { SAFE_RUNS } else { 1 };
        if self.runs.len() > most {
            return Err("its handler ran too often");
        }
        match outcome {
            Outcome::NotSent | Outcome::Refused if !self.runs.is_empty() => {
                Err("its handler ran, and the answer says that it did not")
            }
            Outcome::NotSent | Outcome::Refused | Outcome::Unknown => Ok(()),
            Outcome::Executed => match run {
                None => Err("an answer that no run gave"),
                Some(run) if run.id != id => Err("the answer to another request"),
                Some(run) if self.runs.get(run.number) != Some(&true) => {
                    Err("the answer of a run that has not come to its end")
                }
                Some(_) => Ok(()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(safe: bool, runs: usize, outcome: Outcome) -> History {
        let history = History::default();
        history.asked(7, safe);
        let mut last = None;
        for _ in 0..runs {
            let run = history.started(7);
            history.ended(run);
            last = Some(run);
        }
        history.answered(7, outcome, last.filter(|_| outcome == Outcome::Executed));
        history
    }

    #[test]
    fn what_the_contract_promises_is_accepted() {
        for (safe, runs, outcome) in [
            (false, 0, Outcome::NotSent),
            (false, 0, Outcome::Refused),
            (false, 0, Outcome::Unknown),
            (false, 1, Outcome::Unknown),
            (false, 1, Outcome::Executed),
            (true, 3, Outcome::Unknown),
            (true, 3, Outcome::Executed),
        ] {
            let summary = answered(safe, runs, outcome).check().unwrap_or_else(|faults| {
                panic!("{safe} {runs} {outcome:?}: {faults:?}");
            });
            assert_eq!(summary.requests, 1);
        }
    }

    #[test]
    fn every_way_to_break_the_contract_is_noticed() {
        for (safe, runs, outcome) in [
            (false, 1, Outcome::NotSent),
            (true, 1, Outcome::Refused),
            (false, 2, Outcome::Executed),
            (false, 2, Outcome::Unknown),
            (true, 4, Outcome::Executed),
            (false, 0, Outcome::Executed),
        ] {
            assert!(answered(safe, runs, outcome).check().is_err(), "{safe} {runs} {outcome:?}");
        }

        let unanswered = History::default();
        unanswered.asked(1, true);
        assert!(unanswered.check().is_err());

        let twice = answered(true, 1, Outcome::Unknown);
        twice.answered(7, Outcome::NotSent, None);
        assert!(twice.check().is_err());

        let unasked = History::default();
        unasked.started(1);
        assert!(unasked.check().is_err());

        let foreign = answered(false, 1, Outcome::Executed);
        foreign.asked(8, false);
        let run = foreign.started(8);
        foreign.ended(run);
        foreign.answered(8, Outcome::Executed, Some(Run { id: 7, number: 0 }));
        assert!(foreign.check().is_err());

        let unfinished = History::default();
        unfinished.asked(1, false);
        let run = unfinished.started(1);
        unfinished.answered(1, Outcome::Executed, Some(run));
        assert!(unfinished.check().is_err());
    }
}
