//! What the node tells about itself: logs, Prometheus, statsd. The same fixed
//! words stand in all three.

mod log;
mod metrics;
mod statsd;

use std::sync::Arc;
use std::time::Duration;

use restpipe_config::StatsdAddress;
use restpipe_pipe::error::cancel_word;
use restpipe_pipe::{Outcome, Why, pb::CancelReason};

pub use log::init as init_log;
use metrics::Direction;
pub use metrics::Metrics;
pub use statsd::{FLUSH_EVERY, Statsd};

use crate::event::{CODE_EXCEPTION, CODE_NO_HANDLER, CODE_OK, Verb};

/// How an event of a peer ended here.
#[derive(Clone, Copy, Debug)]
pub struct Served {
    /// The return code; 0 where there was no answer.
    pub code: u32,
    outcome: Outcome,
    word: &'static str,
}

fn is_default(address: &StatsdAddress) -> bool {
    restpipe_config::default::in_words("statsd")
        .is_some_and(|default| default == address.to_string())
}

/// The word for a return code.
pub fn code_word(code: u32) -> &'static str {
    match code {
        CODE_OK => "ok",
        CODE_EXCEPTION => "handler-failed",
        CODE_NO_HANDLER => "no-handler",
        _ => "other",
    }
}

impl Served {
    /// A handler answered with this return code.
    pub fn answered(code: u32) -> Self {
        Self { code, outcome: Outcome::Executed, word: code_word(code) }
    }

    /// The caller was told that there is no answer.
    pub fn cancelled(reason: CancelReason) -> Self {
        let refused = matches!(reason, CancelReason::RefusedByApp | CancelReason::RefusedInvalid);
        let outcome = if refused { Outcome::Refused } else { Outcome::Unknown };
        Self { code: 0, outcome, word: cancel_word(reason) }
    }
}

/// Counts and times for all sinks; clones are the same.
#[derive(Clone, Debug)]
pub struct Recorder {
    metrics: Arc<Metrics>,
    statsd: Option<Arc<Statsd>>,
}

impl Recorder {
    /// A recorder for Prometheus and, if there is an address, for statsd.
    ///
    /// # Errors
    /// If no socket can be had for statsd.
    pub fn new(statsd: Option<&StatsdAddress>) -> anyhow::Result<Self> {
        let statsd = match statsd.map(|address| (address, Statsd::new(address))) {
            Some((address, Err(error))) if is_default(address) => {
                // Nobody asked for it, so nobody is to be kept from starting.
                tracing::warn!(error = format!("{error:#}"), "statsd is off");
                None
            }
            Some((_, made)) => Some(Arc::new(made?)),
            None => None,
        };
        Ok(Self { metrics: Arc::new(Metrics::new()?), statsd })
    }

    /// The Prometheus side.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The statsd side, if it is on.
    pub fn statsd(&self) -> Option<&Arc<Statsd>> {
        self.statsd.as_ref()
    }

    /// A call of this node ended.
    pub fn called(&self, verb: Verb, outcome: Outcome, word: &'static str, took: Duration) {
        self.metrics.event(Direction::Out, Some(verb), outcome, word, took);
        if let Some(statsd) = &self.statsd {
            statsd.tick("message.send.tick");
            statsd.timing("message.send.timing", took);
        }
    }

    /// An event of a peer was handled.
    pub fn served(&self, verb: Verb, noun: &str, served: Served, took: Duration) {
        self.metrics.event(Direction::In, Some(verb), served.outcome, served.word, took);
        if let Some(statsd) = &self.statsd {
            statsd.tick("message.receive.tick");
            statsd.timing("message.receive.handle.timing", took);
            statsd.handler(verb, noun, took);
        }
    }

    /// An event of a peer made no sense, so that not even its verb is known.
    pub fn invalid(&self, took: Duration) {
        let word = cancel_word(CancelReason::RefusedInvalid);
        self.metrics.event(Direction::In, None, Outcome::Refused, word, took);
    }

    /// An event of a peer was refused by its pipe: its head was none, or there
    /// was no room for it.
    pub fn not_taken(&self, reason: CancelReason) {
        self.metrics.refused_event(cancel_word(reason));
    }

    /// The gateway refused a request before any pipe was asked.
    pub fn refused(&self, word: &'static str) {
        self.metrics.refused.with_label_values(&[word]).inc();
    }

    /// A ping was answered.
    pub fn heartbeat(&self, rtt: Duration) {
        self.metrics.heartbeat.observe(rtt.as_secs_f64());
        if let Some(statsd) = &self.statsd {
            statsd.timing("client.connect.heartbeat.timing", rtt);
            statsd.tick("client.connect.heartbeat.success.tick");
        }
    }

    /// This client began to dial.
    pub fn dialling(&self) {
        if let Some(statsd) = &self.statsd {
            statsd.tick("client.connect.new.tick");
        }
    }

    /// One attempt to dial ended.
    pub fn dialled(&self, took: Duration, result: Result<(), &'static str>) {
        let word = result.err().unwrap_or("ok");
        self.metrics.dials.with_label_values(&[word]).inc();
        if let Some(statsd) = &self.statsd {
            statsd.timing("client.connect.new.attempt.timing", took);
        }
    }

    /// A pipe is up.
    pub fn pipe_opened(&self) {
        self.metrics.pipes.inc();
        self.metrics.pipes_opened.inc();
        if let Some(statsd) = &self.statsd {
            statsd.tick("client.connect.connected.tick");
        }
    }

    /// A pipe that was up has ended.
    pub fn pipe_ended(&self, why: &Why) {
        self.metrics.pipes.dec();
        self.metrics.pipes_ended.with_label_values(&[why.reason()]).inc();
        let Some(statsd) = &self.statsd else { return };
        if matches!(why, Why::Silent(_)) {
            statsd.tick("client.connect.heartbeat.fail.tick");
        }
        if !matches!(why, Why::Drained) {
            statsd.tick("client.connect.broken.tick");
        }
    }

    /// A connection to the pipe listener did not become a pipe.
    pub fn handshake_failed(&self, word: &'static str) {
        self.metrics.handshakes_failed.with_label_values(&[word]).inc();
    }
}
