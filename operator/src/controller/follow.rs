//! Watching one kind in one part of the scope.

use std::fmt::Debug;
use std::time::Duration;

use futures_util::{StreamExt, pin_mut};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Resource};
use rand::Rng as _;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep, sleep_until};

use super::metrics::Metrics;
use super::progress::Part;
use crate::process::causes;
use crate::readable::{readable, unwrapped};

/// How often everything is listed again, in case that a watch has missed something
/// (kube-rs#1615): far within the third of a leaf's life that is left for renewal.
const LIST_AGAIN: Duration = Duration::from_secs(600);

/// The first and the longest wait after a watch failed. An API server that comes back is busy,
/// but a handful of watches every five seconds is nothing to it.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Hands all events of a watch to `take`, for ever.
pub(super) async fn follow<K>(
    what: &'static str,
    api: Api<K>,
    config: watcher::Config,
    metrics: &Metrics,
    part: Part,
    mut take: impl FnMut(Event<K>),
) where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let api = readable(api);
    let mut pause = FIRST_PAUSE;
    loop {
        let events = watcher(api.clone(), config.clone());
        pin_mut!(events);
        // Not all kinds at the same moment.
        let again = Instant::now() + LIST_AGAIN.mul_f64(rand::rng().random_range(0.9..=1.1));
        loop {
            let event = tokio::select! {
                event = events.next() => event,
                () = sleep_until(again) => break,
            };
            match event {
                Some(Ok(event)) => {
                    // That one only says that a list is about to be asked for.
                    if !matches!(event, Event::Init) {
                        pause = FIRST_PAUSE;
                    }
                    let complete = matches!(event, Event::InitDone);
                    take(unwrapped(event));
                    if complete {
                        part.complete();
                    }
                }
                Some(Err(error)) => {
                    metrics.watch_failed(what);
                    let text = causes(&error);
                    if is_expired(&error) {
                        // The API server works, and has forgotten what was before (after a
                        // restart, for one): there is nothing to wait for.
                        pause = FIRST_PAUSE;
                    }
                    if pause == FIRST_PAUSE && !is_expired(&error) {
                        tracing::warn!(what, error = text, "a watch failed and begins anew");
                    } else {
                        tracing::debug!(what, error = text, "a watch failed and begins anew");
                    }
                    part.failed(&text);
                    sleep(pause).await;
                    pause = (2 * pause).min(LONGEST_PAUSE);
                }
                None => break,
            }
        }
    }
}

fn is_expired(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::WatchError(status) if status.code == 410)
}
