//! System calls that read or write, of both nodes, a call.

use crate::bench::{Ask, Bench, SMALL};
use crate::process::Process;
use crate::report::{Bound, Report, Rounds};
use crate::role::Window;
use crate::site::Pair;
use crate::trace::{self, Tracer, What};

/// Calls of all connections in the first window and in the second: what does
/// not grow with calls, such as opening connections, is the same in both.
const FEW: u64 = 100;
const MANY: u64 = 1100;

/// With 64 in flight there are so many times as many.
const MORE: u64 = 20;

const CONNECTIONS: u32 = 64;

pub(super) fn run(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    let tracer = Tracer::find()?;
    report.remark(tracer.remark());
    for pair in &bench.pairs {
        let label = &pair.label;
        let mut rounds = Rounds::default();
        let lone = format!("{label}: a lone call, both nodes");
        rounds.add(&lone, each(bench, pair, tracer, 1, false)?);
        report.judged(&rounds, &lone, "", Bound::at_most(8.05, 8.05));
        let pipe = format!("{label}: on the pipe's sockets, a lone call");
        rounds.add(&pipe, each(bench, pair, tracer, 1, true)?);
        report.info(&rounds, &pipe, "");
        let many = format!("{label}: 64 in flight, both nodes, a call");
        let pipe = format!("{label}: on the pipe's sockets, 64 in flight, a call");
        // How many calls share a write is for the scheduler to say.
        for _ in 0..bench.rounds() {
            rounds.add(&many, each(bench, pair, tracer, CONNECTIONS, false)?);
            rounds.add(&pipe, each(bench, pair, tracer, CONNECTIONS, true)?);
        }
        report.info(&rounds, &many, "");
        report.judged(&rounds, &pipe, "", Bound::at_most(0.3, 0.3));
    }
    Ok(())
}

/// System calls of both nodes for each call.
fn each(
    bench: &Bench,
    pair: &Pair,
    tracer: Tracer,
    connections: u32,
    pipe: bool,
) -> anyhow::Result<f64> {
    // Of each connection.
    let count = |all: u64| if connections == 1 { all } else { all * MORE / u64::from(connections) };
    let few = window(bench, pair, tracer, connections, pipe, count(FEW))?;
    let many = window(bench, pair, tracer, connections, pipe, count(MANY))?;
    let calls = (many.1 - few.1) as f64;
    Ok((many.0 as f64 - few.0 as f64) / calls)
}

/// System calls, and calls, of one window.
fn window(
    bench: &Bench,
    pair: &Pair,
    tracer: Tracer,
    connections: u32,
    pipe: bool,
    count: u64,
) -> anyhow::Result<(u64, u64)> {
    let begin = |process: &Process, name: &str| {
        let what = match pipe {
            true => What::CallsOn(trace::socket_of(process, pair.pipe)?),
            false => What::Calls,
        };
        tracer.start(process, what, bench.site.path(name))
    };
    let traces = [
        begin(&pair.server.process, "server.trace")?,
        begin(&pair.client.process, "client.trace")?,
    ];
    let ask = Ask::one(pair.server.gateway, pair.to_client(SMALL)).by(connections);
    let window = Window { warm_ms: 0, run_ms: 20_000, count: Some(count) };
    let calls = bench.http(&ask, window, false, &[])?.found.calls;
    let mut all = 0;
    for trace in traces {
        all += trace.stop()?;
    }
    Ok((all, calls))
}
