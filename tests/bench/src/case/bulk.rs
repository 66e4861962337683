//! Large bodies: 64 MiB from one connection, 1 MiB from eight.

use crate::bench::{Ask, Bench};
use crate::report::{Bound, Report, Rounds};
use crate::roof;

const MIB: u64 = 1 << 20;

/// What is asked for: bytes, connections, what must be and what is wanted of the roof.
const JOBS: [(&str, u64, u32, f64, f64); 2] =
    [("64 MiB x 1", 64 * MIB, 1, 0.75, 0.90), ("1 MiB x 8", MIB, 8, 0.60, 0.75)];

pub(super) fn run(bench: &Bench, report: &mut Report) -> anyhow::Result<()> {
    for (job, bytes, connections, must, wanted) in JOBS {
        let rounds = rounds(bench, job, bytes, connections)?;
        for name in ["http hop (R3)", "tls hop (R2)", "bare proxy (R4)", "roof B*"] {
            report.info(&rounds, &format!("{job}: {name}"), "MB/s");
        }
        for pair in &bench.pairs {
            let label = &pair.label;
            report.info(&rounds, &format!("{label}: {job}, from client to server"), "MB/s");
            let name = format!("{label}: {job} / B*");
            report.judged(&rounds, &name, "", Bound::at_least(must, wanted));
            report.info(&rounds, &format!("{label}: {job}, from server to client"), "MB/s");
        }
        for target in bench.targets() {
            report.info(&rounds, &format!("{}: {job}", target.name), "MB/s");
            report.info(&rounds, &format!("{}: {job} / B*", target.name), "");
        }
        report.versus(bench, &rounds, &format!("{job}, from client to server"));
    }
    Ok(())
}

fn rounds(bench: &Bench, job: &str, bytes: u64, connections: u32) -> anyhow::Result<Rounds> {
    let mut rounds = Rounds::default();
    let window = bench.window();
    let path = format!("/b/{bytes}");
    let all = |ask: Ask| {
        let found = bench.http(&ask.by(connections), window, false, &[])?.found;
        Ok::<_, anyhow::Error>(found.megabytes())
    };
    for _ in 0..bench.rounds() {
        let http = all(Ask::one(bench.app_at, &path))?;
        let tls = bench.tls(connections, bytes, window, false)?.found.megabytes();
        let roof = roof::rate(http, tls);
        rounds.add(&format!("{job}: http hop (R3)"), http);
        rounds.add(&format!("{job}: tls hop (R2)"), tls);
        rounds.add(&format!("{job}: bare proxy (R4)"), all(Ask::one(bench.proxy_at, &path))?);
        rounds.add(&format!("{job}: roof B*"), roof);
        for pair in &bench.pairs {
            let label = &pair.label;
            let up = all(Ask::one(pair.server.gateway, pair.to_client(&path)))?;
            rounds.add(&format!("{label}: {job}, from client to server"), up);
            rounds.add(&format!("{label}: {job} / B*"), up / roof);
            let down = all(Ask::one(pair.client.gateway, pair.to_server(&path)))?;
            rounds.add(&format!("{label}: {job}, from server to client"), down);
        }
        for target in bench.targets() {
            let got = all(target.ask(&path)?)?;
            rounds.add(&format!("{}: {job}", target.name), got);
            rounds.add(&format!("{}: {job} / B*", target.name), got / roof);
        }
    }
    Ok(rounds)
}
