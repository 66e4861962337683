//! What the operator counts of its pipes. Labels are fixed words: never a name.

use prometheus::{IntCounterVec, IntGauge, Opts, Registry};

/// Counters of [`Presence`](super::Presence); clones count together.
#[derive(Clone, Debug)]
pub struct Metrics {
    pipes: IntGauge,
    dial_failures: IntCounterVec,
    names_pushes: IntCounterVec,
}

impl Metrics {
    pub(super) fn new() -> prometheus::Result<Self> {
        let counters = |name: &str, help: &str, label: &str| {
            IntCounterVec::new(Opts::new(name, help), &[label])
        };
        Ok(Self {
            pipes: IntGauge::new(
                "restpipe_operator_pipes",
                "Pipes of the operator to servers' pods that are up.",
            )?,
            dial_failures: counters(
                "restpipe_operator_dial_failures_total",
                "Attempts to reach a server's pod that failed.",
                "reason",
            )?,
            names_pushes: counters(
                "restpipe_operator_names_pushes_total",
                "Lists of names sent to servers' pods.",
                "result",
            )?,
        })
    }

    /// Adds all of them to a registry.
    ///
    /// # Errors
    /// If one of the names is taken there.
    pub fn register(&self, registry: &Registry) -> prometheus::Result<()> {
        registry.register(Box::new(self.pipes.clone()))?;
        registry.register(Box::new(self.dial_failures.clone()))?;
        registry.register(Box::new(self.names_pushes.clone()))
    }

    /// `reason` is one of the fixed words of a failed dial or an ended pipe.
    pub(super) fn dial_failed(&self, reason: &'static str) {
        self.dial_failures.with_label_values(&[reason]).inc();
    }

    pub(super) fn names_pushed(&self, result: Pushed) {
        let word = match result {
            Pushed::Taken => "taken",
            Pushed::Refused => "refused",
            Pushed::Failed => "failed",
        };
        self.names_pushes.with_label_values(&[word]).inc();
    }

    /// Counts a pipe while the guard lives.
    pub(super) fn pipe_up(&self) -> PipeUp {
        self.pipes.inc();
        PipeUp(self.pipes.clone())
    }
}

/// What became of lists of names that were sent.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pushed {
    /// They count, or newer ones do.
    Taken,
    /// The pod does not take them.
    Refused,
    /// There was no answer.
    Failed,
}

/// One pipe that is up.
#[derive(Debug)]
pub(super) struct PipeUp(IntGauge);

impl Drop for PipeUp {
    fn drop(&mut self) {
        self.0.dec();
    }
}
