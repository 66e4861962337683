//! As many calls as there can be from 64 connections, and what they cost.

use crate::bench::{Ask, Bench, SMALL};
use crate::report::{Bound, Report, Rounds};
use crate::roof;
use crate::site::Pair;

const CONNECTIONS: u32 = 64;

/// A share of the processors' time; what they have nothing to do in is lost to latency.
const IDLE_AT_HTTP: &str = "http hop: processors idle";
const IDLE_AT_PROXY: &str = "bare proxy: processors idle";

/// What is left of X* without the time in which the scheduler left a processor idle.
const OF_BUSY: &str = "rate / X*, while processors were busy";

/// What a process costs that takes a call and passes it on, by the same code on the same machine:
/// the microseconds that are wanted of a node were measured on another one.
const CPU_OF_PROXY: &str = "bare proxy: CPU";

/// The same job as the nodes', and nothing beside it.
const BARE: &str = "bare pipe (R5)";
const BARE_OF_ROOF: &str = "bare pipe: rate / X*";
const IDLE_AT_BARE: &str = "bare pipe: processors idle";
const CPU_OF_BARE: [&str; 2] =
    ["bare pipe: CPU of the node near the caller", "bare pipe: CPU of the node near the app"];
const OF_BARE: &str = "rate / bare pipe";

/// With the app on a Unix socket, as who runs a node can have it. X* is of TCP hops all the same.
const CALLS_BY_UNIX: &str = "calls, server asks client, the app on a Unix socket";
const RATE_BY_UNIX: &str = "rate / X*, the app on a Unix socket";

/// X/X* of the prototype with the same job.
const PROTOTYPE: f64 = 0.83;

pub(super) fn run(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    let first = &bench.pairs[0].label;
    // With --app-unix all of it is so.
    let by_unix = if bench.args.app_unix {
        None
    } else {
        Some(bench.site.pair(first, &bench.node()?, &bench.app_by_unix())?)
    };
    let rounds = rounds(bench, by_unix.as_ref())?;
    for name in
        ["http hop (R3)", "tls hop (R2)", "bare proxy (R4)", BARE, "roof X*: 1/X* = 2/R3 + 1/R2"]
    {
        report.info(&rounds, name, "calls/s");
    }
    for name in [BARE_OF_ROOF, IDLE_AT_HTTP, IDLE_AT_PROXY, IDLE_AT_BARE] {
        report.info(&rounds, name, "");
    }
    for name in [CPU_OF_PROXY, CPU_OF_BARE[0], CPU_OF_BARE[1]] {
        report.info(&rounds, name, "us a call");
    }
    for pair in &bench.pairs {
        let label = &pair.label;
        report.info(&rounds, &format!("{label}: calls, server asks client"), "calls/s");
        report.judged(&rounds, &format!("{label}: rate / X*"), "", Bound::at_least(0.70, 0.85));
        report.judged(
            &rounds,
            &format!("{label}: rate / X*, beside a prototype's {PROTOTYPE}"),
            "",
            Bound::at_least(0.9 * PROTOTYPE, PROTOTYPE),
        );
        let of_bare = Bound::at_least(roof::BARE_SHARE, 1.0);
        report.judged(&rounds, &format!("{label}: {OF_BARE}"), "", of_bare);
        report.info(&rounds, &format!("{label}: {OF_BUSY}"), "");
        for node in ["server (near the caller)", "client (near the app)"] {
            let name = format!("{label}: CPU of the {node}");
            report.judged(&rounds, &name, "us a call", Bound::at_most(12.0, 9.0));
        }
        report.info(&rounds, &format!("{label}: p50 at 64 in flight"), "us");
        report.info(&rounds, &format!("{label}: p99 at 64 in flight"), "us");
        report.info(&rounds, &format!("{label}: calls, client asks server"), "calls/s");
        report.info(&rounds, &format!("{label}: context switches, both nodes"), "a call");
        report.info(&rounds, &format!("{label}: processors idle"), "");
        report.info(&rounds, &format!("{label}: processors stolen by other machines"), "");
    }
    if by_unix.is_some() {
        report.info(&rounds, &format!("{first}: {CALLS_BY_UNIX}"), "calls/s");
        report.info(&rounds, &format!("{first}: {RATE_BY_UNIX}"), "");
    }
    for target in bench.targets() {
        report.info(&rounds, &format!("{}: calls", target.name), "calls/s");
        report.info(&rounds, &format!("{}: rate / X*", target.name), "");
    }
    report.versus(bench, &rounds, "calls, server asks client");
    report.versus(bench, &rounds, "CPU of the server (near the caller)");
    report.versus(bench, &rounds, "CPU of the client (near the app)");
    Ok(())
}

fn rounds(bench: &Bench, by_unix: Option<&Pair>) -> anyhow::Result<Rounds> {
    let mut rounds = Rounds::default();
    let window = bench.window();
    let all = |ask: Ask| bench.http(&ask.by(CONNECTIONS), window, false, &[]);
    for _ in 0..bench.rounds() {
        let http = all(Ask::one(bench.app_at, SMALL))?;
        rounds.add(IDLE_AT_HTTP, http.idle);
        let tls = bench.tls(CONNECTIONS, 128, window, false)?;
        let busy = roof::latency(http.busy(), tls.busy());
        let (http, tls) = (http.found.rate(), tls.found.rate());
        let roof = roof::rate(http, tls);
        rounds.add("http hop (R3)", http);
        rounds.add("tls hop (R2)", tls);
        let ask = Ask::one(bench.proxy_at, SMALL).by(CONNECTIONS);
        let proxy = bench.http(&ask, window, false, &[&bench.proxy])?;
        rounds.add("bare proxy (R4)", proxy.found.rate());
        rounds.add(IDLE_AT_PROXY, proxy.idle);
        rounds.add(CPU_OF_PROXY, proxy.cpu[0]);
        rounds.add("roof X*: 1/X* = 2/R3 + 1/R2", roof);
        let [near, far] = &bench.bare;
        let ask = Ask::one(bench.bare_at, SMALL).by(CONNECTIONS);
        let measured = bench.http(&ask, window, false, &[near, far])?;
        let bare = measured.found.rate();
        rounds.add(BARE, bare);
        rounds.add(BARE_OF_ROOF, bare / roof);
        rounds.add(IDLE_AT_BARE, measured.idle);
        for (name, cpu) in CPU_OF_BARE.into_iter().zip(&measured.cpu) {
            rounds.add(name, *cpu);
        }
        for pair in &bench.pairs {
            let label = &pair.label;
            let nodes = [&pair.server.process, &pair.client.process];
            let ask = Ask::one(pair.server.gateway, pair.to_client(SMALL)).by(CONNECTIONS);
            let measured = bench.http(&ask, window, false, &nodes)?;
            let rate = measured.found.rate();
            rounds.add(&format!("{label}: calls, server asks client"), rate);
            rounds.add(&format!("{label}: rate / X*"), rate / roof);
            let beside = format!("{label}: rate / X*, beside a prototype's {PROTOTYPE}");
            rounds.add(&beside, rate / roof);
            rounds.add(&format!("{label}: {OF_BARE}"), rate / bare);
            rounds.add(&format!("{label}: {OF_BUSY}"), busy / measured.busy());
            rounds.add(&format!("{label}: CPU of the server (near the caller)"), measured.cpu[0]);
            rounds.add(&format!("{label}: CPU of the client (near the app)"), measured.cpu[1]);
            rounds.add(&format!("{label}: p50 at 64 in flight"), measured.found.p50);
            rounds.add(&format!("{label}: p99 at 64 in flight"), measured.found.p99);
            let switches = measured.switches.iter().sum();
            rounds.add(&format!("{label}: context switches, both nodes"), switches);
            rounds.add(&format!("{label}: processors idle"), measured.idle);
            rounds.add(&format!("{label}: processors stolen by other machines"), measured.stolen);
            let back = all(Ask::one(pair.client.gateway, pair.to_server(SMALL)))?.found.rate();
            rounds.add(&format!("{label}: calls, client asks server"), back);
        }
        if let Some(pair) = by_unix {
            let label = &pair.label;
            let ask = Ask::one(pair.server.gateway, pair.to_client(SMALL));
            let rate = all(ask)?.found.rate();
            rounds.add(&format!("{label}: {CALLS_BY_UNIX}"), rate);
            rounds.add(&format!("{label}: {RATE_BY_UNIX}"), rate / roof);
        }
        for target in bench.targets() {
            let rate = all(target.ask(SMALL)?)?.found.rate();
            rounds.add(&format!("{}: calls", target.name), rate);
            rounds.add(&format!("{}: rate / X*", target.name), rate / roof);
        }
    }
    Ok(rounds)
}
