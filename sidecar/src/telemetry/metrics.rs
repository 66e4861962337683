//! Prometheus metrics. Labels are fixed words: never a noun, never a hostname.

use std::time::Duration;

use prometheus::{
    Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts,
    Registry, TextEncoder,
};
use restpipe_pipe::Outcome;

/// Seconds; from a call on loopback to the longest wait by default.
const BUCKETS: [f64; 14] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.0, 10.0, 30.0, 60.0];

/// All metrics of a node.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    events: IntCounterVec,
    seconds: HistogramVec,
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
        let metrics = Self {
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
            seconds: HistogramVec::new(
                timing(
                    "event_seconds",
                    "Time from an event to the head of its answer (out) or to its whole answer (in).",
                ),
                &["direction"],
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
        registry.register(Box::new(metrics.seconds.clone()))?;
        registry.register(Box::new(metrics.heartbeat.clone()))?;
        registry.register(Box::new(metrics.pipes.clone()))?;
        registry.register(Box::new(metrics.pipes_opened.clone()))?;
        registry.register(Box::new(metrics.certificate_not_after.clone()))?;
        Ok(metrics)
    }

    pub(super) fn event(
        &self,
        direction: &str,
        verb: &str,
        outcome: Outcome,
        word: &str,
        took: Duration,
    ) {
        let labels = [direction, verb, outcome.word(), word];
        self.events.with_label_values(&labels).inc();
        self.seconds.with_label_values(&[direction]).observe(took.as_secs_f64());
    }

    /// An event of a peer of which not even the verb was looked at; nothing
    /// took any time.
    pub(super) fn refused_event(&self, word: &str) {
        let labels = ["in", "none", Outcome::Refused.word(), word];
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
