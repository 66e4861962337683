//! The two controllers, one of each for every part of the scope.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use kube::runtime::controller::{Action, Config, Controller, Error as ControllerError};
use kube::runtime::reflector::Store;
use kube::runtime::watcher;
use kube::{Resource, ResourceExt};
use restpipe_api::{RestPipeLink, RestPipeServer};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::backoff::Backoff;
use super::context::Context;
use super::error::Error;
use super::triggers::{Queues, Triggers, reference};
use super::watches::Stores;
use super::world::key_of;
use super::{link, server};
use crate::seen::Key;

/// How long events for one object are gathered before its reconcile.
const DEBOUNCE: Duration = Duration::from_millis(200);

/// Reconciles at once. They wait for the API server most of the time; of links there are many, and
/// each is a few small requests.
const SERVERS_AT_ONCE: u16 = 4;
const LINKS_AT_ONCE: u16 = 8;

/// For so long no reconcile has begun though somebody waits: it goes on no more by itself. One that
/// waits for an API server which is silent takes a few times ten seconds.
const STANDS_STILL: Duration = Duration::from_secs(300);

/// How often that is looked at.
const CHECK_EVERY: Duration = Duration::from_secs(30);

/// Starts those of servers.
pub(super) fn servers(
    tasks: &mut JoinSet<()>,
    context: &Arc<Context>,
    stores: Stores<RestPipeServer>,
    mut queues: Queues,
    stop: &CancellationToken,
) {
    for (part, store) in stores {
        let Some(queue) = queues.remove(&part) else { continue };
        let running = controller(store, queue, SERVERS_AT_ONCE, stop)
            .run(
                server::reconcile,
                |server, error, context| failed("server", &context.server_backoff, &*server, error),
                Arc::clone(context),
            )
            .for_each({
                let context = Arc::clone(context);
                move |result| {
                    ended(result.err(), &context.servers, &context.server_backoff);
                    std::future::ready(())
                }
            });
        tasks.spawn(running);
    }
}

/// Starts those of links.
pub(super) fn links(
    tasks: &mut JoinSet<()>,
    context: &Arc<Context>,
    stores: Stores<RestPipeLink>,
    mut queues: Queues,
    stop: &CancellationToken,
) {
    for (part, store) in stores {
        let Some(queue) = queues.remove(&part) else { continue };
        let running = controller(store, queue, LINKS_AT_ONCE, stop)
            .run(
                link::reconcile,
                |link, error, context| failed("link", &context.link_backoff, &*link, error),
                Arc::clone(context),
            )
            .for_each({
                let context = Arc::clone(context);
                move |result| {
                    ended(result.err(), &context.links, &context.link_backoff);
                    std::future::ready(())
                }
            });
        tasks.spawn(running);
    }
}

/// Returns what is wrong, if no reconcile begins any more.
pub(super) async fn stand_still(context: &Context) -> String {
    let begun = Instant::now();
    loop {
        sleep(CHECK_EVERY).await;
        for (kind, triggers) in [("server", &context.servers), ("link", &context.links)] {
            // What was asked for while everything was listed waits since we are here.
            let still = triggers.stands_still().min(begun.elapsed());
            if still > STANDS_STILL {
                return format!(
                    "no reconcile of a {kind} has begun for {} s though some wait: this replica ends, \
                     and starts anew",
                    still.as_secs()
                );
            }
        }
    }
}

/// A controller of objects that our own watch stores, which runs by our own requests.
fn controller<K>(
    store: Store<K>,
    mut queue: UnboundedReceiver<Key>,
    at_once: u16,
    stop: &CancellationToken,
) -> Controller<K>
where
    K: Resource<DynamicType = ()>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug
        + Send
        + Sync
        + 'static,
{
    let requests = stream::poll_fn(move |context| queue.poll_recv(context));
    Controller::for_stream(stream::pending::<Result<K, watcher::Error>>(), store)
        .reconcile_on(requests.map(|key| reference(&key)))
        .with_config(Config::default().concurrency(at_once).debounce(DEBOUNCE))
        .graceful_shutdown_on(stop.clone().cancelled_owned())
}

fn failed<K: ResourceExt>(
    kind: &'static str,
    backoff: &Backoff,
    object: &K,
    error: &Error,
) -> Action {
    let key = key_of(object);
    let again_in = backoff.failed(&key);
    match error {
        // Said once, by the gate.
        Error::Closed(_) => tracing::debug!(kind, %key, "not reconciled: not leading"),
        _ if error.is_outdated() => {
            tracing::debug!(kind, %key, %error, "not reconciled: something changed meanwhile");
        }
        _ if error.is_unreachable() => tracing::debug!(kind, %key, %error, "not reconciled"),
        _ => tracing::warn!(kind, %key, %error, ?again_in, "not reconciled"),
    }
    Action::requeue(again_in)
}

/// Nobody waits any more for an object that was gone when its turn came, and how often it failed is
/// of no interest: its last reconcile may have failed after it had gone, and because of that.
fn ended<Q: std::error::Error + 'static>(
    error: Option<ControllerError<Error, Q>>,
    triggers: &Triggers,
    backoff: &Backoff,
) {
    match error {
        None | Some(ControllerError::ReconcilerFailed(..)) => {}
        Some(ControllerError::ObjectNotFound(object)) => {
            let key = Key { namespace: object.namespace.unwrap_or_default(), name: object.name };
            triggers.taken(&key);
            backoff.reset(&key);
        }
        Some(error) => tracing::warn!(%error, "a controller stumbled"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_of_an_object_that_was_gone_when_its_turn_came_is_forgotten() {
        let key = Key { namespace: "a".into(), name: "b".into() };
        let (triggers, _ends) = Triggers::new(&[None]);
        let backoff = Backoff::default();
        for _ in 0..20 {
            backoff.failed(&key);
        }
        assert!(backoff.failed(&key) > Duration::from_secs(10));
        let gone = reference::<RestPipeLink>(&key).erase();
        let error = ControllerError::<Error, watcher::Error>::ObjectNotFound(Box::new(gone));
        ended(Some(error), &triggers, &backoff);
        assert!(backoff.failed(&key) < Duration::from_secs(1));
    }
}
