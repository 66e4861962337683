//! What is counted. Labels are fixed words: never a name out of a pod.

use prometheus::{
    Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, Opts, Registry, Result,
};

/// Seconds; most answers take less than one millisecond, an API server waits for five seconds.
const BUCKETS: [f64; 12] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.25, 1.0, 5.0];

/// Metrics of the webhook.
#[derive(Debug)]
pub struct Metrics {
    admissions: IntCounterVec,
    pub(super) seconds: Histogram,
    pub(super) handshakes_failed: IntCounter,
    pub(super) certificate_not_after: Gauge,
    reloads: IntCounterVec,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Injected,
    Skipped,
    Refused,
    Error,
}

impl Outcome {
    const ALL: [Self; 4] = [Self::Injected, Self::Skipped, Self::Refused, Self::Error];

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Injected => "injected",
            Self::Skipped => "skipped",
            Self::Refused => "refused",
            Self::Error => "error",
        }
    }
}

impl Metrics {
    /// Metrics in `registry`.
    ///
    /// # Errors
    /// If two have one name: a mistake in this program.
    pub fn new(registry: &Registry) -> Result<Self> {
        let metrics = Self {
            admissions: IntCounterVec::new(
                Opts::new(
                    "restpipe_webhook_admissions_total",
                    "Requests of API servers: injected, skipped (nothing to do), refused, error (no request that could be answered).",
                ),
                &["result"],
            )?,
            seconds: Histogram::with_opts(
                HistogramOpts::new(
                    "restpipe_webhook_admission_seconds",
                    "Time from the head of a request to its answer.",
                )
                .buckets(BUCKETS.to_vec()),
            )?,
            handshakes_failed: IntCounter::new(
                "restpipe_webhook_handshakes_failed_total",
                "Connections on which TLS did not come about.",
            )?,
            certificate_not_after: Gauge::new(
                "restpipe_webhook_certificate_not_after_seconds",
                "Unix time at which the serving certificate ends; 0 while there is none.",
            )?,
            reloads: IntCounterVec::new(
                Opts::new(
                    "restpipe_webhook_certificate_reloads_total",
                    "Certificates found in the directory: ok was taken, failed was not.",
                ),
                &["result"],
            )?,
        };
        registry.register(Box::new(metrics.admissions.clone()))?;
        registry.register(Box::new(metrics.seconds.clone()))?;
        registry.register(Box::new(metrics.handshakes_failed.clone()))?;
        registry.register(Box::new(metrics.certificate_not_after.clone()))?;
        registry.register(Box::new(metrics.reloads.clone()))?;
        // A rate over what was never there is no rate.
        for outcome in Outcome::ALL {
            metrics.admissions.with_label_values(&[outcome.word()]);
        }
        for taken in [true, false] {
            metrics.reload(taken, 0);
        }
        Ok(metrics)
    }

    pub(super) fn admission(&self, outcome: Outcome) {
        self.admissions.with_label_values(&[outcome.word()]).inc();
    }

    pub(super) fn reload(&self, taken: bool, count: u64) {
        let result = if taken { "ok" } else { "failed" };
        self.reloads.with_label_values(&[result]).inc_by(count);
    }
}
