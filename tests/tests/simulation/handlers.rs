//! What the nodes answer with, and note in the history.

use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use http_body_util::StreamBody;
use restpipe::{Event, Exception, Registry, Reply, StreamError, Verb};
use restpipe_tests::history::{History, Run};

/// The run that an answer is of.
pub(crate) const RUN: &str = "x-run";

/// Chunks of a download, and the bytes of each.
const CHUNKS: usize = 10;
const CHUNK: usize = 10 * 1024;

fn arguments(event: &Event) -> Result<(u64, Duration), Exception> {
    let number = |at: usize| event.args.get(at)?.parse().ok();
    match (number(0), number(1)) {
        (Some(id), Some(millis)) => Ok((id, Duration::from_millis(millis))),
        _ => Err(Exception::new("Arguments", format!("{:?}", event.args))),
    }
}

fn marked(mut reply: Reply, run: Run) -> Reply {
    let value = HeaderValue::try_from(run.to_string()).expect("digits");
    reply.headers.insert(RUN, value);
    reply
}

/// `work`: takes its body and its time. `download`: a reply that is streamed.
pub(crate) fn registry(history: &History) -> Registry {
    let mut registry = Registry::new();
    for verb in Verb::ALL {
        let history = history.clone();
        registry = registry.on(verb, "work", move |event| work(history.clone(), event));
    }
    let history = history.clone();
    registry.on(Verb::Get, "download", move |event| download(history.clone(), event))
}

async fn work(history: History, mut event: Event) -> Result<Reply, Exception> {
    let (id, time) = arguments(&event)?;
    let run = history.started(id);
    while let Some(chunk) = event.body.chunk().await {
        chunk.map_err(|error| Exception::new("Body", error.to_string()))?;
    }
    tokio::time::sleep(time).await;
    history.ended(run);
    Ok(marked(Reply::ok("text/plain", "done"), run))
}

async fn download(history: History, event: Event) -> Result<Reply, Exception> {
    let (id, time) = arguments(&event)?;
    let run = history.started(id);
    let chunks = futures_util::stream::unfold(0, move |sent| {
        let history = history.clone();
        async move {
            if sent == CHUNKS {
                return None;
            }
            tokio::time::sleep(time / CHUNKS as u32).await;
            if sent + 1 == CHUNKS {
                history.ended(run);
            }
            let chunk = Bytes::from_static(&[b'x'; CHUNK]);
            Some((Ok::<_, StreamError>(http_body::Frame::data(chunk)), sent + 1))
        }
    });
    Ok(marked(Reply::stream("text/plain", StreamBody::new(chunks)), run))
}
