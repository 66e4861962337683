//! Prometheus metrics. Labels are fixed words: never a noun, never a hostname.

use std::sync::OnceLock;
use std::time::Duration;

use prometheus::{
    Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts,
    Registry, TextEncoder,
};
use restpipe_pipe::Outcome;

use super::code_word;
use crate::event::{CODE_OK, Verb};

/// Seconds; from a call on loopback to the longest wait by default.
const BUCKETS: [f64; 14] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.0, 10.0, 30.0, 60.0];

/// Which way an event went.
#[derive(Clone, Copy, Debug)]
pub(super) enum Direction {
    /// From a peer, to a handler here.
    In,
    /// From a caller here, to a peer.
    Out,
}

impl Direction {
    const ALL: [Self; 2] = [Self::In, Self::Out];

    const fn word(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
        }
    }
}

/// All metrics of a node.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    events: IntCounterVec,
    /// Of `events` those that ended well, by direction and verb: most do, and to find one by its
    /// labels takes as long as all the rest of counting.
    well: [[OnceLock<IntCounter>; Verb::ALL.len()]; 2],
    /// By direction.
    seconds: [Histogram; 2],
    pub(super) refused: IntCounterVec,
    pub(super) heartbeat: Histogram,
    pub(super) dials: IntCounterVec,
    pub(super) pipes: IntGauge,
    pub(super) pipes_opened: IntCounter,
    pub(super) pipes_ended: IntCounterVec,
    pub(super) handshakes_failed: IntCounterVec,
    /// Unix time, in seconds, at which this node's certificate ends.
    pub certificate_not_after: Gauge,
    /// Reloads of the identity's files, by result.
    pub certificate_reloads: IntCounterVec,
}

impl Metrics {
    /// Metrics in a registry of their own.
    ///
    /// # Errors
    /// If two have one name: a mistake in this file.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new_custom(Some("restpipe".to_owned()), None)?;
        let counters = |name: &str, help: &str, labels: &[&str]| {
            let counters = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counters.clone()))?;
            Ok::<_, prometheus::Error>(counters)
        };
        let timing =
            |name: &str, help: &str| HistogramOpts::new(name, help).buckets(BUCKETS.to_vec());
        let seconds = HistogramVec::new(
            timing(
                "event_seconds",
                "Time from an event to the head of its answer (out) or to its whole answer (in).",
            ),
            &["direction"],
        )?;
        registry.register(Box::new(seconds.clone()))?;
        let metrics = Self {
            seconds: Direction::ALL.map(|way| seconds.with_label_values(&[way.word()])),
            well: Default::default(),
            events: counters(
                "events_total",
                "Events, by direction, verb, outcome and code.",
                &["direction", "verb", "outcome", "code"],
            )?,
            refused: counters(
                "gateway_refused_total",
                "Requests that the gateway refused.",
                &["code"],
            )?,
            dials: counters("dials_total", "Attempts to reach the server.", &["result"])?,
            pipes_ended: counters("pipes_ended_total", "Pipes that ended.", &["reason"])?,
            handshakes_failed: counters(
                "handshakes_failed_total",
                "Connections to the pipe listener that became no pipe.",
                &["reason"],
            )?,
            certificate_reloads: counters(
                "certificate_reloads_total",
                "Reloads of the identity after its files changed.",
                &["result"],
            )?,
            heartbeat: Histogram::with_opts(timing("heartbeat_seconds", "Round trips of pings."))?,
            pipes: IntGauge::new("pipes", "Pipes that are up.")?,
            pipes_opened: IntCounter::new("pipes_opened_total", "Pipes that came up.")?,
            certificate_not_after: Gauge::new(
                "certificate_not_after_seconds",
                "Unix time at which this node's certificate ends.",
            )?,
            registry: registry.clone(),
        };
        registry.register(Box::new(metrics.heartbeat.clone()))?;
        registry.register(Box::new(metrics.pipes.clone()))?;
        registry.register(Box::new(metrics.pipes_opened.clone()))?;
        registry.register(Box::new(metrics.certificate_not_after.clone()))?;
        Ok(metrics)
    }

    /// An event ended; `verb` is none where it was not even looked at.
    pub(super) fn event(
        &self,
        direction: Direction,
        verb: Option<Verb>,
        outcome: Outcome,
        word: &str,
        took: Duration,
    ) {
        let counter = || {
            let verb = verb.map_or("none", Verb::as_str);
            self.events.with_label_values(&[direction.word(), verb, outcome.word(), word])
        };
        match verb {
            Some(verb) if outcome == Outcome::Executed && word == code_word(CODE_OK) => {
                self.well[direction as usize][verb as usize].get_or_init(counter).inc();
            }
            _ => counter().inc(),
        }
        self.seconds[direction as usize].observe(took.as_secs_f64());
    }

    /// An event of a peer of which not even the verb was looked at; nothing
    /// took any time.
    pub(super) fn refused_event(&self, word: &str) {
        let labels = [Direction::In.word(), "none", Outcome::Refused.word(), word];
        self.events.with_label_values(&labels).inc();
    }

    /// All metrics in Prometheus's text format, those of the process too.
    ///
    /// # Errors
    /// If one cannot be written.
    pub fn render(&self) -> prometheus::Result<String> {
        let mut families = self.registry.gather();
        families.extend(prometheus::core::Collector::collect(
            &prometheus::process_collector::ProcessCollector::for_self(),
        ));
        TextEncoder::new().encode_to_string(&families)
    }
}
