//! Allocations a call, of each node.

use crate::bench::{Ask, Bench, SMALL};
use crate::report::{Report, Rounds};
use crate::role::Window;
use crate::site::Pair;
use crate::trace::{Probes, Tracer, What};

/// What the node's allocator, mimalloc, is entered by.
const FUNCTIONS: [&str; 3] = ["mi_malloc_aligned", "mi_zalloc_aligned", "mi_realloc_aligned"];

/// Calls of each connection in the first window and in the second: what does
/// not grow with calls is the same in both.
const FEW: u64 = 100;
const MANY: u64 = 1100;

pub(super) fn run(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    for (pair, (_, binary)) in bench.pairs.iter().zip(bench.binaries()?) {
        let probes = Probes::of(&binary, &FUNCTIONS)?;
        for (what, connections) in [("a lone call", 1), ("a call at 64 in flight", 64)] {
            let few = window(bench, pair, &probes, connections, FEW)?;
            let many = window(bench, pair, &probes, connections, MANY)?;
            let calls = (many.2 - few.2) as f64;
            let mut rounds = Rounds::default();
            let nodes = [
                ("server (near the caller)", many.0 as f64 - few.0 as f64),
                ("client (near the app)", many.1 as f64 - few.1 as f64),
            ];
            for (node, allocations) in nodes {
                let name = format!("{}: {what}, {node}", pair.label);
                rounds.add(&name, allocations / calls);
                report.info(&rounds, &name, "");
            }
        }
    }
    Ok(())
}

/// Allocations of the server and of the client, and calls.
fn window(
    bench: &Bench,
    pair: &Pair,
    probes: &Probes,
    connections: u32,
    count: u64,
) -> anyhow::Result<(u64, u64, u64)> {
    let what = What::Functions(probes);
    let begin = |process, name| Tracer::Perf.start(process, what, bench.site.path(name));
    let server = begin(&pair.server.process, "server.trace")?;
    let client = begin(&pair.client.process, "client.trace")?;
    let ask = Ask::one(pair.server.gateway, pair.to_client(SMALL)).by(connections);
    let window = Window { warm_ms: 0, run_ms: 20_000, count: Some(count) };
    let calls = bench.http(&ask, window, false, &[])?.found.calls;
    Ok((server.stop()?, client.stop()?, calls))
}
