//! When to count, and what was counted.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use clap::Args;
use serde::{Deserialize, Serialize};

use crate::stats::percentile;

/// Times that one process keeps; at 4 bytes each it stays small.
const MAX_TIMES: usize = 4_000_000;

/// How long to ask.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Window {
    /// Milliseconds that do not count.
    #[arg(long, default_value_t = 0)]
    pub(crate) warm_ms: u64,
    /// Milliseconds that count.
    #[arg(long, default_value_t = 60_000)]
    pub(crate) run_ms: u64,
    /// Ends after so many calls of each connection.
    #[arg(long)]
    pub(crate) count: Option<u64>,
}

impl Window {
    /// The flags that say the same.
    pub(crate) fn flags(&self) -> Vec<String> {
        let mut flags =
            vec![format!("--warm-ms={}", self.warm_ms), format!("--run-ms={}", self.run_ms)];
        flags.extend(self.count.map(|count| format!("--count={count}")));
        flags
    }
}

/// What a generator found.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(crate) struct Found {
    pub(crate) calls: u64,
    pub(crate) bytes: u64,
    pub(crate) seconds: f64,
    /// Microseconds.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

impl Found {
    /// Calls per second.
    pub(crate) fn rate(&self) -> f64 {
        self.calls as f64 / self.seconds
    }

    /// Megabytes (10^6) per second.
    pub(crate) fn megabytes(&self) -> f64 {
        self.bytes as f64 / 1e6 / self.seconds
    }
}

/// Shared by all connections of a generator.
#[derive(Debug, Default)]
pub(super) struct Tally {
    counting: AtomicBool,
    ended: AtomicBool,
    calls: AtomicU64,
    bytes: AtomicU64,
    /// Nanoseconds.
    times: Mutex<Vec<u32>>,
}

impl Tally {
    pub(super) fn ended(&self) -> bool {
        self.ended.load(Relaxed)
    }

    pub(super) fn bytes(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Relaxed);
    }

    /// A call that began at `start` is over.
    pub(super) fn call(&self, start: Instant) {
        self.calls.fetch_add(1, Relaxed);
        if self.counting.load(Relaxed)
            && let Ok(mut times) = self.times.lock()
            && times.len() < MAX_TIMES
        {
            times.push(u32::try_from(start.elapsed().as_nanos()).unwrap_or(u32::MAX));
        }
    }

    fn counted(&self) -> (u64, u64, Instant) {
        (self.calls.load(Relaxed), self.bytes.load(Relaxed), Instant::now())
    }

    /// Says `begin` and `end` when the part that counts begins and ends, then
    /// what was found. `calls` is all that asks.
    pub(super) async fn run(
        &self,
        window: Window,
        calls: impl Future<Output = anyhow::Result<()>>,
    ) -> anyhow::Result<()> {
        tokio::pin!(calls);
        let mut over = false;
        if window.warm_ms > 0 {
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(window.warm_ms)) => {}
                result = &mut calls => { result?; over = true; }
            }
        }
        println!("begin");
        self.counting.store(true, Relaxed);
        let before = self.counted();
        if !over {
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(window.run_ms)) => {}
                result = &mut calls => { result?; over = true; }
            }
        }
        let after = self.counted();
        self.counting.store(false, Relaxed);
        self.ended.store(true, Relaxed);
        println!("end");
        if !over {
            // What is still under way is nothing that counts.
            let _ = tokio::time::timeout(Duration::from_millis(200), calls).await;
        }
        let mut times =
            self.times.lock().map(|mut times| std::mem::take(&mut *times)).unwrap_or_default();
        times.sort_unstable();
        let micros = |share| f64::from(percentile(&times, share)) / 1e3;
        let found = Found {
            calls: after.0 - before.0,
            bytes: after.1 - before.1,
            seconds: (after.2 - before.2).as_secs_f64(),
            p50: micros(0.5),
            p99: micros(0.99),
            max: micros(1.0),
        };
        println!("{}", serde_json::to_string(&found)?);
        Ok(())
    }
}
