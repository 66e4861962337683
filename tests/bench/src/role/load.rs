//! The generator of HTTP/1.1: each connection asks, reads, and asks again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use http::Uri;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::http::Http;
use super::tally::{Tally, Window};

/// Calls that a pace which was not kept may make up for at once.
const MAKE_UP: u32 = 10;

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
    let pace = args.rate.map(even_pace).transpose()?;
    for index in 0..args.connections {
        let pace = pace.clone();
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
    pace: Option<Arc<Semaphore>>,
) -> anyhow::Result<()> {
    let mut http = Http::connect(at).await?;
    let mut path = paths.iter().cycle().skip(first);
    while !tally.ended() && left != Some(0) {
        if let Some(pace) = &pace {
            pace.acquire().await.context("nobody closes it")?.forget();
        }
        let start = Instant::now();
        let path = path.next().context("there is a path")?;
        http.get(path, |bytes| tally.bytes(bytes)).await?;
        tally.call(start);
        left = left.map(|left| left - 1);
    }
    Ok(())
}

/// Permits for `rate` calls a second, one at a time, for as long as somebody
/// has the semaphore. A thread of its own gives them: tokio's clock has
/// milliseconds, and calls that begin ten at a time share batches that calls at
/// even distances do not.
fn even_pace(rate: u32) -> anyhow::Result<Arc<Semaphore>> {
    let pace = Arc::new(Semaphore::new(0));
    let permits = Arc::downgrade(&pace);
    let each = Duration::from_secs(1) / rate;
    let give = move || {
        let mut due = Instant::now();
        while let Some(pace) = permits.upgrade() {
            if pace.available_permits() < MAKE_UP as usize {
                pace.add_permits(1);
            }
            drop(pace);
            let now = Instant::now();
            due = (due + each).max(now - MAKE_UP * each);
            std::thread::sleep(due.saturating_duration_since(now));
        }
    };
    std::thread::Builder::new().name("pace".to_owned()).spawn(give)?;
    Ok(pace)
}
