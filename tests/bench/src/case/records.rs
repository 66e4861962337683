//! TLS records a call and direction, counted by a relay between the nodes.

use crate::bench::{Ask, Bench, SMALL};
use crate::relay::Relay;
use crate::report::{Bound, Report, Rounds};
use crate::role::Window;
use crate::site::free_address;

/// Calls of each connection.
const CALLS: u64 = 1000;

/// One, and room for a heartbeat or two.
const ONE: f64 = 1.01;

pub(super) fn run(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    let listen = free_address()?;
    let relay = Relay::start(listen)?;
    let app = bench.app_for_nodes();
    let pair = bench.site.pair_with("", &bench.node()?, &app, listen, relay.address)?;
    let window = Window { warm_ms: 0, run_ms: 20_000, count: Some(CALLS) };
    let mut rounds = Rounds::default();
    for (what, connections) in [("a lone call", 1), ("a call at 64 in flight", 64)] {
        let ask = Ask::one(pair.server.gateway, pair.to_client(SMALL)).by(connections);
        let before = relay.records();
        let calls = bench.http(&ask, window, false, &[])?.found.calls as f64;
        let after = relay.records();
        let directions = [("request", after.1 - before.1), ("reply", after.0 - before.0)];
        for (direction, records) in directions {
            let name = format!("records of the {direction}, {what}");
            rounds.add(&name, records as f64 / calls);
            if connections == 1 {
                report.judged(&rounds, &name, "", Bound::at_most(ONE, ONE));
            } else {
                report.info(&rounds, &name, "");
            }
        }
    }
    Ok(())
}
