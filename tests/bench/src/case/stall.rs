//! Kept-alive replies whose last segment is not full: some tunnels stall
//! 40 ms on them, Nagle on one side and a delayed acknowledgement on the other.

use crate::bench::{Ask, Bench};
use crate::report::{Bound, Report, Rounds};
use crate::role::Window;

const SIZES: [u32; 3] = [16_000, 64_000, 200_000];

const CALLS: u64 = 50;

pub(super) fn run(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    let window = Window { warm_ms: 0, run_ms: 10_000, count: Some(CALLS) };
    for pair in &bench.pairs {
        let mut rounds = Rounds::default();
        for bytes in SIZES {
            let name = format!("{}: replies of {bytes} bytes, slowest of {CALLS}", pair.label);
            for _ in 0..bench.rounds() {
                let path = pair.to_client(&format!("/b/{bytes}"));
                let found = bench.http(&Ask::one(pair.server.gateway, path), window, false, &[])?;
                rounds.add(&name, found.found.max / 1e3);
            }
            report.judged(&rounds, &name, "ms", Bound::at_most(5.0, 5.0));
        }
    }
    Ok(())
}
