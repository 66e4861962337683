//! One call at a time, every process on one CPU: unpinned, a wake-up on
//! another core measures where the scheduler put it, not the code.

use crate::bench::{Ask, Bench, SMALL};
use crate::report::{Bound, Report, Rounds};
use crate::roof;

/// L*/p50 of the prototype with the same job, research of November 2026.
const PROTOTYPE: f64 = 0.81;

/// The same job, and nothing beside it.
const BARE: &str = "bare pipe (R5)";
const BARE_OF_ROOF: &str = "bare pipe: L* / p50";
const OF_BARE: &str = "bare pipe / p50, server asks client";

pub(super) fn run(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    let pinned = bench.site.can_pin();
    if !pinned {
        report.remark("taskset is not there: latencies are of where the scheduler put things");
    }
    bench.site.pin(&bench.shared(), pinned)?;
    let measured = rounds(bench, pinned);
    bench.site.pin(&bench.shared(), false)?;
    let rounds = measured?;
    for name in ["http hop (R3)", "tls hop (R2)", "bare proxy (R4)", BARE, "roof L* = 2 R3 + R2"] {
        report.info(&rounds, name, "us");
    }
    report.info(&rounds, BARE_OF_ROOF, "");
    for pair in &bench.pairs {
        let label = &pair.label;
        for way in ["server asks client", "client asks server"] {
            report.info(&rounds, &format!("{label}: p50, {way}"), "us");
            report.info(&rounds, &format!("{label}: p99, {way}"), "us");
            report.judged(
                &rounds,
                &format!("{label}: p50 / L*, {way}"),
                "",
                Bound::at_most(1.35, 1.15),
            );
        }
        report.judged(
            &rounds,
            &format!("{label}: L* / p50, beside a prototype's {PROTOTYPE}"),
            "",
            Bound::at_least(0.9 * PROTOTYPE, PROTOTYPE),
        );
        let of_bare = Bound::at_least(roof::BARE_SHARE, 1.0);
        report.judged(&rounds, &format!("{label}: {OF_BARE}"), "", of_bare);
        report.info(&rounds, &format!("{label}: context switches, both nodes"), "a call");
    }
    for target in bench.targets() {
        report.info(&rounds, &format!("{}: p50", target.name), "us");
        report.info(&rounds, &format!("{}: p50 / L*", target.name), "");
    }
    report.versus(bench, &rounds, "p50, server asks client");
    Ok(())
}

fn rounds(bench: &Bench, pinned: bool) -> anyhow::Result<Rounds> {
    let mut rounds = Rounds::default();
    let window = bench.window();
    let one = |ask: Ask| Ok::<_, anyhow::Error>(bench.http(&ask, window, pinned, &[])?.found);
    for _ in 0..bench.rounds() {
        let http = one(Ask::one(bench.app_at, SMALL))?.p50;
        let tls = bench.tls(1, 128, window, pinned)?.found.p50;
        let roof = roof::latency(http, tls);
        rounds.add("http hop (R3)", http);
        rounds.add("tls hop (R2)", tls);
        rounds.add("bare proxy (R4)", one(Ask::one(bench.proxy_at, SMALL))?.p50);
        rounds.add("roof L* = 2 R3 + R2", roof);
        let bare = one(Ask::one(bench.bare_at, SMALL))?.p50;
        rounds.add(BARE, bare);
        rounds.add(BARE_OF_ROOF, roof / bare);
        for pair in &bench.pairs {
            let label = &pair.label;
            let nodes = [&pair.server.process, &pair.client.process];
            let ways = [
                ("server asks client", Ask::one(pair.server.gateway, pair.to_client(SMALL))),
                ("client asks server", Ask::one(pair.client.gateway, pair.to_server(SMALL))),
            ];
            for (way, ask) in ways {
                let measured = bench.http(&ask, window, pinned, &nodes)?;
                let found = measured.found;
                rounds.add(&format!("{label}: p50, {way}"), found.p50);
                rounds.add(&format!("{label}: p99, {way}"), found.p99);
                rounds.add(&format!("{label}: p50 / L*, {way}"), found.p50 / roof);
                if way == "server asks client" {
                    let beside = format!("{label}: L* / p50, beside a prototype's {PROTOTYPE}");
                    rounds.add(&beside, roof / found.p50);
                    rounds.add(&format!("{label}: {OF_BARE}"), bare / found.p50);
                    let switches = measured.switches.iter().sum();
                    rounds.add(&format!("{label}: context switches, both nodes"), switches);
                }
            }
        }
        for target in bench.targets() {
            // Its processes are not ours to put on one CPU.
            let found = one(target.ask(SMALL)?)?;
            rounds.add(&format!("{}: p50", target.name), found.p50);
            rounds.add(&format!("{}: p50 / L*", target.name), found.p50 / roof);
        }
    }
    Ok(rounds)
}
