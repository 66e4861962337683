//! Reconciling a link.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use kube::runtime::controller::Action;
use kube::{Resource, ResourceExt};
use restpipe_api::condition::{ACCEPTED, CONNECTED};
use restpipe_api::{CaPhase, RestPipeLink, RestPipeLinkStatus, names};

use super::apply::{Read, failure, without_key};
use super::context::Context;
use super::error::Error;
use super::metrics::{Leaf, LinkState};
use super::status::fresh;
use super::world::{Target, beside, key_of};
use super::{capped, look, system_time};
use crate::plan::{self, LinkSeen, LinkServer, ServerView, claims, leaf};
use crate::seen::Key;

/// Reconciles a link, and says when to do it again.
pub(super) async fn reconcile(
    link: Arc<RestPipeLink>,
    context: Arc<Context>,
) -> Result<Action, Error> {
    let key = key_of(&*link);
    context.links.taken(&key);
    // As it is by now: who asked since its turn was given was told that it waits already.
    let Some(link) = context.world.link(&key) else { return Ok(Action::await_change()) };
    if link.meta().deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    if let Some(wait) = context.link_statuses.wait(&key) {
        return Ok(Action::requeue(wait));
    }
    let begun = Instant::now();
    let uid = link.uid();
    let result = work(link, &key, &context).await;
    context.metrics.reconciled("link", result.is_ok(), begun.elapsed());
    if context.world.link(&key).and_then(|now| now.uid()) != uid {
        // What was noted of it after it had gone would stay.
        gone(&context, &key);
    }
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
    let link = fresh(link, &context.link_statuses);
    let server = server_of(context, &link, key).await?;
    if matches!(server, Server::Later) {
        return Ok(None);
    }
    let secret = context.secret(&beside(key, &names::link_secret(&key.name))).await?;
    let target = Target::Link(key.clone());
    let pods = context.world.pods(&target);
    let hostname = claims::hostname_of(&link);
    let pipes = match &server {
        // They are of whoever had the hostname before.
        Server::Known(view) if view.is_freed(&hostname) => Some(Arc::default()),
        // Where no pod is that could hold one there is none, though nobody tells it.
        Server::Known(view) => {
            context.pipes.get(&view.key).or_else(|| (!view.has_ready_pod).then(Arc::default))
        }
        _ => None,
    };
    let pipes = pipes.as_ref().map(|all| all.get(&hostname).map(Vec::as_slice).unwrap_or_default());
    let look = match &server {
        Server::Known(_) if pipes.is_some_and(|pipes| !pipes.is_empty()) => None,
        Server::Known(view) if refused(view, key) => None,
        Server::Missing | Server::Later => None,
        Server::Known(_) | Server::External(_) if link.spec.suspend => None,
        Server::Known(_) | Server::External(_) => look::look(context, key, &pods),
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
    let mut plan = plan::link::plan(&seen, SystemTime::now());

    let written = match plan.secret.take() {
        Some(wanted) => context.apply_secret(wanted, secret.as_ref()).await.map(Some),
        None => Ok(None),
    };
    if let Err(error) = &written {
        plan = leaf::link_without_secret(plan, &seen, &failure(error), SystemTime::now());
    }
    let (stored, unwritten) = match written {
        Ok(stored) => (stored, None),
        Err(error) => (None, Some(error)),
    };
    let stored = stored.or_else(|| secret.map(|read| read.seen));
    if let Server::Known(view) = &server {
        // One that is somebody else's as well: the plan sees that it is, and waits for no leaf in it.
        let news = context.world.set_link_secret(key, stored.map(without_key).map(Arc::new));
        let stable = view.authority.as_ref().is_ok_and(|ca| ca.phase() == CaPhase::Stable);
        if news && !stable {
            // Whose leaf is of which root decides when a rotation of the CA goes on.
            context.servers.ask(&view.key);
        }
    }
    note(context, key, &link, &plan.status);
    let (statuses, triggers) = (&context.link_statuses, &context.links);
    let written = context.write_status(&*link, &plan.status, statuses, triggers).await;
    let about = link.object_ref(&());
    for event in plan.events {
        context.events.tell(event, &about);
    }
    written?;
    if let Some(error) = unwritten {
        return Err(error);
    }
    let next_look = look.map(|(_, next)| next);
    Ok(plan.again_in.into_iter().chain(next_look).min())
}

fn refused(view: &ServerView, link: &Key) -> bool {
    view.claims.links.get(link).is_some_and(|verdict| verdict.refused.is_some())
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
