//! Reconciling a link.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use kube::runtime::controller::Action;
use kube::{Resource, ResourceExt};
use restpipe_api::condition::{ACCEPTED, CONNECTED};
use restpipe_api::{RestPipeLink, RestPipeLinkStatus, names};

use super::apply::{Error, Read, without_key};
use super::context::{Context, Look};
use super::metrics::{Leaf, LinkState};
use super::world::{Target, beside, key_of};
use super::{capped, system_time, views};
use crate::plan::{self, ClientPodSeen, LinkSeen, LinkServer, ServerView, claims};
use crate::seen::{Key, PodSeen};

/// Pods of a link that are asked why it is not connected: the first ones say what all would.
const PODS_ASKED: usize = 3;

/// When its pods are asked again: soon at first, for who is just installing it, and once a minute
/// for what stays so.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
const LOOK_SELDOM: Duration = Duration::from_secs(60);

/// Reconciles a link, and says when to do it again.
pub(super) async fn reconcile(
    link: Arc<RestPipeLink>,
    context: Arc<Context>,
) -> Result<Action, Error> {
    let key = key_of(&*link);
    context.links.taken(&key);
    if link.meta().deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    if let Some(wait) = context.link_statuses.wait(&key) {
        return Ok(Action::requeue(wait));
    }
    let begun = Instant::now();
    let result = work(link, &key, &context).await;
    context.metrics.reconciled("link", result.is_ok(), begun.elapsed());
    match result {
        Ok(again) => {
            context.link_backoff.reset(&key);
            Ok(Action::requeue(capped(again)))
        }
        Err(error) if error.namespace_ends() => Ok(Action::await_change()),
        Err(error) => Err(error),
    }
}

/// The server of a link, as far as it is known.
enum Server {
    /// Its reconcile comes first, and asks for ours then.
    Later,
    Missing,
    Known(Arc<ServerView>),
    External(Option<Read>),
}

async fn server_of(context: &Context, link: &RestPipeLink, key: &Key) -> Result<Server, Error> {
    if let Some(external) = &link.spec.server.external {
        return Ok(Server::External(context.secret(&beside(key, &external.secret_name)).await?));
    }
    let Some(server_key) = claims::server_of(link) else { return Ok(Server::Missing) };
    let Some(server) = context.world.server(&server_key) else { return Ok(Server::Missing) };
    let view = context.world.view(&server_key).filter(|view| {
        let verdict = view.claims.links.get(key);
        server.uid().as_deref() == Some(&view.uid)
            && verdict.is_some_and(|verdict| link.uid().as_deref() == Some(&verdict.uid))
    });
    Ok(view.map_or(Server::Later, Server::Known))
}

async fn work(
    link: Arc<RestPipeLink>,
    key: &Key,
    context: &Arc<Context>,
) -> Result<Option<Duration>, Error> {
    let uid = link.uid().unwrap_or_default();
    let link = fresh(link, key, &uid, context);
    let server = server_of(context, &link, key).await?;
    if matches!(server, Server::Later) {
        return Ok(None);
    }
    let secret = context.secret(&beside(key, &names::link_secret(&key.name))).await?;
    let target = Target::Link(key.clone());
    let pods = context.world.pods(&target);
    let pipes = match &server {
        // Where no pod is that could hold one there is none, though nobody tells it.
        Server::Known(view) => {
            context.pipes.get(&view.key).or_else(|| (!view.has_ready_pod).then(Arc::default))
        }
        _ => None,
    };
    let hostname = claims::hostname_of(&link);
    let pipes = pipes.as_ref().map(|all| all.get(&hostname).map(Vec::as_slice).unwrap_or_default());
    let look = match &server {
        Server::Known(_) if pipes.is_some_and(|pipes| !pipes.is_empty()) => None,
        Server::Known(view) if refused(view, key) => None,
        Server::Missing | Server::Later => None,
        Server::Known(_) | Server::External(_) if link.spec.suspend => None,
        Server::Known(_) | Server::External(_) => look(context, key, &pods),
    };
    if look.is_none() {
        context.looks.forget(key);
    }
    let seen = LinkSeen {
        link: &link,
        server: match &server {
            Server::Later | Server::Missing => LinkServer::Missing,
            Server::Known(view) => LinkServer::Known(view),
            Server::External(read) => {
                LinkServer::External { imported: read.as_ref().map(|read| &read.seen) }
            }
        },
        secret: secret.as_ref().map(|read| &read.seen),
        pods: &pods,
        without_sidecar: &context.world.without_sidecar(&target),
        pipes,
        probes: look.as_ref().map(|(look, _)| look.told.as_slice()).unwrap_or_default(),
    };
    let plan = plan::link::plan(&seen, SystemTime::now());

    let wanted = plan.secret;
    let stored = match wanted {
        Some(wanted) => Some(context.apply_secret(wanted, secret.as_ref()).await?),
        None => secret.map(|read| read.seen),
    };
    if let Server::Known(view) = &server {
        // One that is somebody else's as well: the plan sees that it is, and waits for no leaf in it.
        if context.world.set_link_secret(key, stored.map(without_key).map(Arc::new)) {
            // Whose leaf is of which root decides when a rotation of the CA goes on.
            context.servers.ask(&view.key);
        }
    }
    note(context, key, &link, &plan.status);
    let written = write_status(context, &link, key, &uid, plan.status).await;
    let about = link.object_ref(&());
    for event in plan.events {
        context.events.tell(event, &about);
    }
    written?;
    let next_look = look.map(|(_, next)| next);
    Ok(plan.again_in.into_iter().chain(next_look).min())
}

/// The object, with the status that we wrote if the watch does not show it yet.
fn fresh(link: Arc<RestPipeLink>, key: &Key, uid: &str, context: &Context) -> Arc<RestPipeLink> {
    let version = link.resource_version();
    match context.link_statuses.later_than(key, uid, version.as_deref()) {
        Some(status) => {
            let mut link = Arc::unwrap_or_clone(link);
            link.status = Some(status);
            Arc::new(link)
        }
        None => link,
    }
}

fn refused(view: &ServerView, link: &Key) -> bool {
    view.claims.links.get(link).is_some_and(|verdict| verdict.refused.is_some())
}

/// What the pods of a link have told, and when to ask them again. They are asked beside of the
/// reconcile, which does not wait: a pod that does not answer would hold up everybody else.
fn look(context: &Arc<Context>, key: &Key, pods: &[PodSeen]) -> Option<(Look, Duration)> {
    let asked: Vec<_> = pods
        .iter()
        .filter(|pod| pod.phase == "Running" && !pod.ending)
        .filter_map(|pod| Some((pod.name.clone(), pod.ip?)))
        .take(PODS_ASKED)
        .collect();
    if asked.is_empty() {
        return None;
    }
    let before = context.looks.get(key);
    let age = before.as_ref().map(|look| (look.at.elapsed(), pause(look.misses)));
    match (before, age) {
        (Some(look), Some((age, pause))) if age < pause => Some((look, pause - age)),
        (before, _) => {
            if context.looks.begin(key) {
                tokio::spawn(ask(Arc::clone(context), key.clone(), asked, before.clone()));
            }
            let nothing = Look { at: Instant::now(), told: Vec::new(), misses: 0 };
            let look = before.unwrap_or(nothing);
            let next = pause(look.misses);
            Some((look, next))
        }
    }
}

fn pause(misses: u32) -> Duration {
    LOOK_AGAIN.saturating_mul(2_u32.saturating_pow(misses)).min(LOOK_SELDOM)
}

async fn ask(
    context: Arc<Context>,
    key: Key,
    pods: Vec<(String, std::net::IpAddr)>,
    before: Option<Look>,
) {
    let mut told = Vec::new();
    for (pod, ip) in pods {
        let state = context.prober.probe(ip).await.and_then(crate::presence::ProbeSeen::state);
        told.push(ClientPodSeen { pod, state });
    }
    let misses = before.map_or(0, |look| look.misses.saturating_add(1));
    let news = context.looks.set(&key, Look { at: Instant::now(), told, misses });
    context.looks.ended(&key);
    if !context.world.has(&Target::Link(key.clone())) {
        context.looks.forget(&key);
    } else if news {
        context.links.ask(&key);
    }
}

fn note(context: &Context, key: &Key, link: &RestPipeLink, status: &RestPipeLinkStatus) {
    let is = |type_: &str, value: &str| {
        status.conditions.iter().any(|one| one.type_ == type_ && one.status == value)
    };
    let state = if is(ACCEPTED, "False") {
        LinkState::Refused
    } else if link.spec.suspend {
        LinkState::Suspended
    } else if is(CONNECTED, "True") {
        LinkState::Connected
    } else {
        LinkState::Disconnected
    };
    context.metrics.link(key, Some(state));
    let end = status.identity.as_ref().map(|identity| system_time(&identity.not_after));
    let exported = link.spec.export.is_some() || link.spec.server.external.is_some();
    let (of, other) =
        if exported { (Leaf::Exported, Leaf::Client) } else { (Leaf::Client, Leaf::Exported) };
    context.metrics.leaf(of, key, end);
    context.metrics.leaf(other, key, None);
}

async fn write_status(
    context: &Context,
    link: &RestPipeLink,
    key: &Key,
    uid: &str,
    status: RestPipeLinkStatus,
) -> Result<(), Error> {
    if views::same_status(link.status.as_ref(), &status)? {
        return Ok(());
    }
    let version = context.write_status(link, &status).await?;
    context.link_statuses.wrote(key, uid, version.as_deref(), status);
    Ok(())
}

/// The link is gone, or another of its name has come.
pub(super) fn gone(context: &Context, key: &Key) {
    context.links.taken(key);
    context.link_backoff.reset(key);
    context.link_statuses.forget(key);
    context.looks.forget(key);
    context.metrics.link(key, None);
    context.metrics.leaf(Leaf::Client, key, None);
    context.metrics.leaf(Leaf::Exported, key, None);
    context.secret_versions.forget(&beside(key, &names::link_secret(&key.name)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_are_asked_again_soon_and_then_once_a_minute() {
        assert_eq!(pause(0), LOOK_AGAIN);
        assert_eq!(pause(1), 2 * LOOK_AGAIN);
        assert_eq!(pause(40), LOOK_SELDOM);
    }
}
