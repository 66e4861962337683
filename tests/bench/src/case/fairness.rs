//! Small calls beside 16 downloads on the same pipe, and how they fare
//! without a pipe.

use std::time::Duration;

use crate::bench::{Ask, Bench, SMALL};
use crate::report::{Bound, Report, Rounds};
use crate::role::{Found, Window};
use crate::site::Pair;

const DOWNLOADS: u32 = 16;

/// What small calls by the pipe are compared with.
const WITHOUT: &str = "all without the pipe";
const PAST: &str = "downloads by the pipe";

/// Bytes of each, which is asked for again and again.
const DOWNLOAD: &str = "/b/67108864";

/// Downloads go on until they are stopped; this only bounds them.
const LONG: Window = Window { warm_ms: 500, run_ms: 60_000, count: None };

/// Downloads are under way within this time.
const UNDER_WAY: Duration = Duration::from_secs(10);

pub(super) fn run(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    for pair in &bench.pairs {
        let label = &pair.label;
        let mut rounds = Rounds::default();
        let piped = Ask::one(pair.server.gateway, pair.to_client(SMALL));
        let direct = Ask::one(bench.app_at, SMALL);
        let ways = [
            ("small call by the pipe, downloads by the pipe", &piped, true),
            ("small call to the app, downloads from the app", &direct, false),
            ("small call to the app, downloads by the pipe", &direct, true),
        ];
        for _ in 0..bench.rounds() {
            let mut all = Vec::new();
            for (way, small, by_pipe) in ways {
                let found = beside(bench, pair, small, by_pipe)?;
                rounds.add(&format!("{label}: p50, {way}"), found.p50);
                rounds.add(&format!("{label}: p99, {way}"), found.p99);
                all.push(found);
            }
            for (beside, other) in [(WITHOUT, 1), (PAST, 2)] {
                let (by_pipe, direct) = (all[0], all[other]);
                let name = |share| format!("{label}: {share} / the app asked directly, {beside}");
                rounds.add(&name("p50"), by_pipe.p50 / direct.p50);
                rounds.add(&name("p99"), by_pipe.p99 / direct.p99);
            }
        }
        for (way, ..) in ways {
            report.info(&rounds, &format!("{label}: p50, {way}"), "us");
            report.info(&rounds, &format!("{label}: p99, {way}"), "us");
        }
        for share in ["p50", "p99"] {
            let name = |beside| format!("{label}: {share} / the app asked directly, {beside}");
            report.judged(&rounds, &name(WITHOUT), "", Bound::at_most(1.0, 1.0));
            // Not judged: who passes no node has one hop of three, so that no
            // pipe can be as fast, with downloads or without.
            report.info(&rounds, &name(PAST), "");
        }
    }
    Ok(())
}

/// Asks `small` while downloads run.
fn beside(bench: &Bench, pair: &Pair, small: &Ask, by_pipe: bool) -> anyhow::Result<Found> {
    let downloads = if by_pipe {
        Ask::one(pair.server.gateway, pair.to_client(DOWNLOAD))
    } else {
        Ask::one(bench.app_at, DOWNLOAD)
    };
    let load = bench.load(&downloads.by(DOWNLOADS), LONG, false)?;
    load.line("begin", UNDER_WAY)?;
    Ok(bench.http(small, bench.window(), false, &[])?.found)
}
