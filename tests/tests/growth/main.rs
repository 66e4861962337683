//! Growth: what strangers and pipes cost a node, and where it ends.

mod app;
mod cancels;
mod cycles;
mod hostile;
mod strangers;

use std::sync::atomic::{AtomicUsize, Ordering};

use restpipe_tests::binary::Start;

/// These tests measure, and would measure each other.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// So much more memory a node may hold afterwards than before, in percent:
/// what it frees does not all go back to the system.
const PERCENT: u64 = 5;

/// Of thousands of pipes only the first line that says where the node listens.
fn quiet(node: Start) -> Start {
    node.env("RESTPIPE_LOG", "error,restpipe::app=info")
}

/// Runs `job` for each number below `count`, several at a time.
async fn each<J>(count: usize, at_once: usize, job: impl Fn(usize, usize) -> J)
where
    J: Future<Output = ()>,
{
    let next = AtomicUsize::new(0);
    let worker = |worker: usize| {
        let (next, job) = (&next, &job);
        async move {
            loop {
                let number = next.fetch_add(1, Ordering::SeqCst);
                if number >= count {
                    return;
                }
                job(worker, number).await;
            }
        }
    };
    futures_util::future::join_all((0..at_once).map(worker)).await;
}
