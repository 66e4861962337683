//! The generator of HTTP/1.1: each connection asks, reads, and asks again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use http::Uri;
use tokio::task::JoinSet;

use super::http::Http;
use super::tally::{Tally, Window};

/// Arguments of the generator.
#[derive(Args, Clone, Debug)]
pub(crate) struct LoadArgs {
    /// Where to ask.
    #[arg(long)]
    at: SocketAddr,
    /// For what. `{n}` is 0, 1, … below --names, another one with each call.
    #[arg(long)]
    path: String,
    #[arg(long, default_value_t = 1)]
    names: u32,
    #[arg(long, default_value_t = 1)]
    connections: u32,
    /// Calls per second of all connections; as many as there can be if not given.
    #[arg(long)]
    rate: Option<u32>,
    #[command(flatten)]
    window: Window,
}

pub(super) async fn run(args: LoadArgs) -> anyhow::Result<()> {
    let tally = Arc::new(Tally::default());
    let paths: Result<Vec<Uri>, _> =
        (0..args.names).map(|n| args.path.replace("{n}", &n.to_string()).parse()).collect();
    let paths: Arc<[Uri]> = paths.context("the path is no URI")?.into();
    let mut all = JoinSet::new();
    for index in 0..args.connections {
        let pace = args.rate.map(|rate| {
            let each = Duration::from_secs(1) / rate * args.connections;
            (Instant::now() + each / args.connections * index, each)
        });
        let first = (index * args.names / args.connections) as usize;
        all.spawn(ask(args.at, paths.clone(), first, tally.clone(), args.window.count, pace));
    }
    let calls = async {
        while let Some(ended) = all.join_next().await {
            ended??;
        }
        Ok(())
    };
    tally.run(args.window, calls).await
}

async fn ask(
    at: SocketAddr,
    paths: Arc<[Uri]>,
    first: usize,
    tally: Arc<Tally>,
    mut left: Option<u64>,
    mut pace: Option<(Instant, Duration)>,
) -> anyhow::Result<()> {
    let mut http = Http::connect(at).await?;
    let mut path = paths.iter().cycle().skip(first);
    while !tally.ended() && left != Some(0) {
        if let Some((next, each)) = &mut pace {
            tokio::time::sleep_until((*next).into()).await;
            // Whoever is late does not make up for it by a burst.
            *next = (*next + *each).max(Instant::now());
        }
        let start = Instant::now();
        let path = path.next().context("there is a path")?;
        http.get(path, |bytes| tally.bytes(bytes)).await?;
        tally.call(start);
        left = left.map(|left| left - 1);
    }
    Ok(())
}
