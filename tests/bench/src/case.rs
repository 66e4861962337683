//! What is measured.

mod allocations;
mod bulk;
mod fairness;
mod latency;
mod pipes;
mod rate;
mod records;
mod stall;
mod syscalls;

use clap::ValueEnum;

use crate::bench::Bench;
use crate::report::Report;

/// One measurement, by its name on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Case {
    Latency,
    Rate,
    Bulk,
    Syscalls,
    Records,
    Allocations,
    Fairness,
    Stall,
    Pipes,
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
            Self::Syscalls => "system calls that read or write",
            Self::Records => "TLS records",
            Self::Allocations => "allocations",
            Self::Fairness => "small calls beside 16 downloads",
            Self::Stall => "kept-alive replies",
            Self::Pipes => "an idle node, and many pipes",
        }
    }

    pub(crate) fn run(self, bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
        report.section(self);
        match self {
            Self::Latency => latency::run(bench, report),
            Self::Rate => rate::run(bench, report),
            Self::Bulk => bulk::run(bench, report),
            Self::Syscalls => syscalls::run(bench, report),
            Self::Records => records::run(bench, report),
            Self::Allocations => allocations::run(bench, report),
            Self::Fairness => fairness::run(bench, report),
            Self::Stall => stall::run(bench, report),
            Self::Pipes => pipes::run(bench, report),
        }
    }
}
