//! What the controller counts. Labels are of fixed sets: no name of an object is one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{
    Gauge, GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};

use crate::seen::Key;

/// Seconds of a reconcile: from one that writes nothing to one that waits for a slow API server.
const BUCKETS: [f64; 9] = [0.001, 0.005, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0, 20.0];

/// The kinds of leafs whose end is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Leaf {
    /// Of a server.
    Server,
    /// Of a client that is renewed by the operator.
    Client,
    /// Of a client outside the cluster.
    Exported,
    /// The root of a server.
    Ca,
    /// Of the webhook.
    Webhook,
}

impl Leaf {
    const ALL: [Self; 5] = [Self::Server, Self::Client, Self::Exported, Self::Ca, Self::Webhook];

    fn word(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Client => "client",
            Self::Exported => "exported",
            Self::Ca => "ca",
            Self::Webhook => "webhook",
        }
    }
}

/// What became of a link, as it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum LinkState {
    /// It has a pipe.
    Connected,
    /// It has none.
    Disconnected,
    /// It is cut off.
    Suspended,
    /// The server does not take it.
    Refused,
}

impl LinkState {
    const ALL: [Self; 4] = [Self::Connected, Self::Disconnected, Self::Suspended, Self::Refused];

    fn word(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Disconnected => "disconnected",
            Self::Suspended => "suspended",
            Self::Refused => "refused",
        }
    }
}

/// All metrics of the controller.
pub(super) struct Metrics {
    reconciles: IntCounterVec,
    seconds: HistogramVec,
    writes: IntCounterVec,
    watch_errors: IntCounterVec,
    links: IntGaugeVec,
    ends: Ends,
    pub(super) leader: IntGauge,
    link_states: Mutex<HashMap<Key, LinkState>>,
}

/// When certificates end; the next of each kind is found when somebody looks.
#[derive(Clone)]
struct Ends {
    gauge: GaugeVec,
    all: Arc<Mutex<HashMap<(Leaf, Key), SystemTime>>>,
}

impl Collector for Ends {
    fn desc(&self) -> Vec<&Desc> {
        self.gauge.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        for leaf in Leaf::ALL {
            let next = all.iter().filter(|((of, _), _)| *of == leaf).map(|(_, end)| *end).min();
            match next.and_then(|end| end.duration_since(SystemTime::UNIX_EPOCH).ok()) {
                Some(end) => self.gauge.with_label_values(&[leaf.word()]).set(end.as_secs_f64()),
                // There may be none to remove.
                None => drop(self.gauge.remove_label_values(&[leaf.word()])),
            }
        }
        self.gauge.collect()
    }
}

impl Metrics {
    /// Registers all of them.
    ///
    /// # Errors
    /// If two have one name: a mistake in this program.
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let counter = |name: &str, help: &str, labels: &[&str]| {
            let counter = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let reconciles = counter(
            "restpipe_operator_reconciles_total",
            "Reconciles, by kind and by result: ok, or error.",
            &["kind", "result"],
        )?;
        let writes = counter(
            "restpipe_operator_writes_total",
            "Objects written, by what was written.",
            &["what"],
        )?;
        let watch_errors = counter(
            "restpipe_operator_watch_errors_total",
            "Watches that failed and began anew, by what is watched.",
            &["what"],
        )?;
        let seconds = HistogramVec::new(
            HistogramOpts::new(
                "restpipe_operator_reconcile_seconds",
                "How long reconciles took, by kind.",
            )
            .buckets(BUCKETS.to_vec()),
            &["kind"],
        )?;
        registry.register(Box::new(seconds.clone()))?;
        let links =
            IntGaugeVec::new(Opts::new("restpipe_operator_links", "Links, by state."), &["state"])?;
        registry.register(Box::new(links.clone()))?;
        for state in LinkState::ALL {
            links.with_label_values(&[state.word()]).set(0);
        }
        let gauge = GaugeVec::new(
            Opts::new(
                "restpipe_operator_certificate_not_after_seconds",
                "When the next certificate of a kind ends, in seconds since 1970.",
            ),
            &["kind"],
        )?;
        let ends = Ends { gauge, all: Arc::default() };
        registry.register(Box::new(ends.clone()))?;
        let leader = IntGauge::new("restpipe_operator_leader", "1 if this replica leads.")?;
        registry.register(Box::new(leader.clone()))?;
        let version = Gauge::with_opts(
            Opts::new("restpipe_operator_info", "1, with the version of this program.")
                .const_label("version", env!("CARGO_PKG_VERSION")),
        )?;
        version.set(1.0);
        registry.register(Box::new(version))?;
        Ok(Self {
            reconciles,
            seconds,
            writes,
            watch_errors,
            links,
            ends,
            leader,
            link_states: Mutex::default(),
        })
    }

    /// A reconcile ended.
    pub(super) fn reconciled(&self, kind: &'static str, ok: bool, took: Duration) {
        self.reconciles.with_label_values(&[kind, if ok { "ok" } else { "error" }]).inc();
        self.seconds.with_label_values(&[kind]).observe(took.as_secs_f64());
    }

    /// Something was written.
    pub(super) fn wrote(&self, what: &'static str) {
        self.writes.with_label_values(&[what]).inc();
    }

    /// A watch begins: shown as one that has not failed, so that its first failure is an increase.
    pub(super) fn watching(&self, what: &'static str) {
        self.watch_errors.with_label_values(&[what]);
    }

    /// A watch failed.
    pub(super) fn watch_failed(&self, what: &'static str) {
        self.watch_errors.with_label_values(&[what]).inc();
    }

    /// The state of a link; none if it is gone.
    pub(super) fn link(&self, key: &Key, state: Option<LinkState>) {
        let mut states = self.link_states.lock().unwrap_or_else(PoisonError::into_inner);
        let old = match state {
            Some(state) => states.insert(key.clone(), state),
            None => states.remove(key),
        };
        if let Some(old) = old {
            self.links.with_label_values(&[old.word()]).dec();
        }
        if let Some(state) = state {
            self.links.with_label_values(&[state.word()]).inc();
        }
    }

    /// When a certificate ends; none if there is none.
    pub(super) fn leaf(&self, leaf: Leaf, key: &Key, end: Option<SystemTime>) {
        let mut all = self.ends.all.lock().unwrap_or_else(PoisonError::into_inner);
        match end {
            Some(end) => all.insert((leaf, key.clone()), end),
            None => all.remove(&(leaf, key.clone())),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        Key { namespace: "a".into(), name: name.into() }
    }

    fn metrics() -> (Registry, Metrics) {
        let registry = Registry::new();
        let metrics = Metrics::new(&registry).expect("no name twice");
        (registry, metrics)
    }

    #[test]
    fn links_are_counted_in_one_state_each() {
        let (_, metrics) = metrics();
        metrics.link(&key("x"), Some(LinkState::Connected));
        metrics.link(&key("y"), Some(LinkState::Connected));
        metrics.link(&key("x"), Some(LinkState::Suspended));
        metrics.link(&key("y"), None);
        let count = |state: LinkState| metrics.links.with_label_values(&[state.word()]).get();
        assert_eq!((count(LinkState::Connected), count(LinkState::Suspended)), (0, 1));
    }

    #[test]
    fn the_next_end_of_each_kind_is_shown() {
        let (_, metrics) = metrics();
        let at = |seconds| Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        metrics.leaf(Leaf::Client, &key("x"), at(9));
        metrics.leaf(Leaf::Client, &key("y"), at(7));
        let shown = || {
            let families = metrics.ends.collect();
            families[0]
                .get_metric()
                .iter()
                .map(|one| one.get_gauge().get_value())
                .collect::<Vec<_>>()
        };
        assert_eq!(shown(), [7.0]);
        metrics.leaf(Leaf::Client, &key("y"), None);
        assert_eq!(shown(), [9.0]);
    }
}
