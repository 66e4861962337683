//! What is measured.

mod bulk;
mod latency;
mod rate;

use clap::ValueEnum;

use crate::bench::Bench;
use crate::report::Report;

/// One measurement, by its name on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Case {
    Latency,
    Rate,
    Bulk,
}

impl Case {
    pub(crate) fn all() -> Vec<Self> {
        Self::value_variants().to_vec()
    }

    /// What it is called in the table.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Latency => "a lone call, all on one CPU",
            Self::Rate => "64 calls in flight",
            Self::Bulk => "large bodies",
        }
    }

    pub(crate) fn run(self, bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
        report.section(self);
        match self {
            Self::Latency => latency::run(bench, report),
            Self::Rate => rate::run(bench, report),
            Self::Bulk => bulk::run(bench, report),
        }
    }
}
