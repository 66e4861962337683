//! What an idle node takes, what each idle pipe adds, and whether a request
//! costs more when there are many pipes.

use std::time::Duration;

use crate::bench::{Ask, Bench, SMALL};
use crate::process::Memory;
use crate::report::{Bound, Report, Rounds};
use crate::site::{SERVER, free_address};

/// Idle pipes between which the slope is taken.
const FEW: u32 = 100;
const MANY: u32 = 2000;

/// So many pipes are open within this time.
const OPEN: Duration = Duration::from_secs(60);

/// Idle pipes give their tables back at a heartbeat, 5 s.
const SETTLE: Duration = Duration::from_secs(7);

/// An idle node has done everything that comes with starting.
const STARTED: Duration = Duration::from_secs(2);

/// Calls per second, the same with one pipe and with many, at even distances.
const PACE: u32 = 10_000;

const CONNECTIONS: u32 = 64;

const MIB: f64 = 1024.0 * 1024.0;

pub(super) fn run(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    let mut rounds = Rounds::default();
    idle(bench, &mut rounds)?;
    for node in ["server", "client"] {
        report.judged(&rounds, &format!("RSS of an idle {node}"), "MiB", Bound::at_most(10.0, 6.0));
        report.info(&rounds, &format!("of it not files (RssAnon), {node}"), "MiB");
    }
    many(bench, &mut rounds)?;
    let slope = format!("RSS of an idle pipe, slope {FEW} to {MANY}");
    report.judged(&rounds, &slope, "KiB", Bound::at_most(16.0, 10.0));
    report.info(&rounds, "the same of RssAnon", "KiB");
    for pace in ["10,000 calls/s", "64 in flight"] {
        report.info(&rounds, &format!("CPU of the server, 1 pipe, {pace}"), "us a call");
        report.info(&rounds, &format!("CPU of the server, {MANY} pipes, {pace}"), "us a call");
    }
    let ratio = format!("CPU, {MANY} pipes / 1 pipe");
    report.judged(&rounds, &format!("{ratio}, 10,000 calls/s"), "", Bound::at_most(1.5, 1.5));
    // Not judged: it says what batches save, which only one pipe has here, and
    // not what pipes cost.
    report.info(&rounds, &format!("{ratio}, 64 in flight"), "");
    Ok(())
}

fn idle(bench: &Bench, rounds: &mut Rounds) -> anyhow::Result<()> {
    let listen = free_address()?.to_string();
    let binary = bench.node()?;
    let server = bench.site.node(&binary, "server", &["--listen", &listen])?;
    let flags = ["--server", &listen, "--server-name", SERVER];
    let client = bench.site.node(&binary, "client", &flags)?;
    std::thread::sleep(STARTED);
    for (name, node) in [("server", server), ("client", client)] {
        let memory = node.process.memory()?;
        rounds.add(&format!("RSS of an idle {name}"), memory.rss as f64 / MIB);
        let anonymous = memory.anonymous as f64 / MIB;
        rounds.add(&format!("of it not files (RssAnon), {name}"), anonymous);
    }
    Ok(())
}

fn many(bench: &Bench, rounds: &mut Rounds) -> anyhow::Result<()> {
    let listen = free_address()?.to_string();
    let flags = ["--listen", &listen, "--max-handshakes-per-source", "64"];
    let server = bench.site.node(&bench.node()?, "server", &flags)?;
    let ca = bench.site.path("ca").display().to_string();
    let args = ["--at", &listen, "--ca", &ca, "--name", SERVER];
    let mut pipes = bench.site.many_files("pipes", &args)?;
    let mut open = |count: u32| {
        pipes.tell(&count.to_string())?;
        pipes.line(&format!("open {count}"), OPEN)
    };
    let cpu = |names: u32, rate: Option<u32>| -> anyhow::Result<f64> {
        let path = format!("/client/n{{n}}{SMALL}");
        let ask = Ask { names, rate, ..Ask::one(server.gateway, path).by(CONNECTIONS) };
        Ok(bench.http(&ask, bench.window(), false, &[&server.process])?.cpu[0])
    };
    let both = |names: u32| -> anyhow::Result<[Vec<f64>; 2]> {
        let mut all = [Vec::new(), Vec::new()];
        for _ in 0..bench.rounds() {
            all[0].push(cpu(names, Some(PACE))?);
            all[1].push(cpu(names, None)?);
        }
        Ok(all)
    };
    open(1)?;
    let one = both(1)?;
    open(FEW)?;
    std::thread::sleep(SETTLE);
    let few = server.process.memory()?;
    open(MANY)?;
    std::thread::sleep(SETTLE);
    let most = server.process.memory()?;
    let slope = |of: fn(&Memory) -> u64| {
        (of(&most) as f64 - of(&few) as f64) / 1024.0 / f64::from(MANY - FEW)
    };
    rounds.add(&format!("RSS of an idle pipe, slope {FEW} to {MANY}"), slope(|memory| memory.rss));
    rounds.add("the same of RssAnon", slope(|memory| memory.anonymous));
    let all = both(MANY)?;
    for (index, pace) in ["10,000 calls/s", "64 in flight"].into_iter().enumerate() {
        for (one, all) in one[index].iter().zip(&all[index]) {
            rounds.add(&format!("CPU of the server, 1 pipe, {pace}"), *one);
            rounds.add(&format!("CPU of the server, {MANY} pipes, {pace}"), *all);
            rounds.add(&format!("CPU, {MANY} pipes / 1 pipe, {pace}"), all / one);
        }
    }
    Ok(())
}
