//! Reconciling a server.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures_util::future::join_all;
use kube::runtime::controller::Action;
use kube::{Resource, ResourceExt};
use restpipe_api::names::{self, PIPE_PORT};
use restpipe_api::{RestPipeServer, RestPipeServerStatus};

use super::apply::failure;
use super::context::{ByHostname, Context};
use super::error::Error;
use super::metrics::Leaf;
use super::status::fresh;
use super::views;
use super::world::{Target, beside, key_of};
use super::{capped, system_time};
use crate::plan::conditions::Failure;
use crate::plan::server::{self, Unwritten};
use crate::plan::{ServerSeen, ServerView};
use crate::presence::{Followed, ServerPod};
use crate::seen::{Key, PodSeen, ServerPodSeen};

/// Reconciles a server, and says when to do it again.
pub(super) async fn reconcile(
    server: Arc<RestPipeServer>,
    context: Arc<Context>,
) -> Result<Action, Error> {
    let key = key_of(&*server);
    context.servers.taken(&key);
    // As it is by now: who asked since its turn was given was told that it waits already.
    let Some(server) = context.world.server(&key) else { return Ok(Action::await_change()) };
    if server.meta().deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    if let Some(wait) = context.server_statuses.wait(&key) {
        return Ok(Action::requeue(wait));
    }
    let begun = Instant::now();
    let uid = server.uid();
    let result = work(server, &key, &context).await;
    context.metrics.reconciled("server", result.is_ok(), begun.elapsed());
    if context.world.server(&key).and_then(|now| now.uid()) != uid {
        // What was noted of it after it had gone would stay, and its pods be followed.
        gone(&context, &key);
    }
    match result {
        Ok(again) => {
            context.server_backoff.reset(&key);
            Ok(Action::requeue(capped(again)))
        }
        Err(error) if error.namespace_ends() => Ok(Action::await_change()),
        Err(error) => Err(error),
    }
}

async fn work(
    server: Arc<RestPipeServer>,
    key: &Key,
    context: &Context,
) -> Result<Option<Duration>, Error> {
    let uid = server.uid().unwrap_or_default();
    let server = fresh(server, &context.server_statuses);
    let user_secret = server.spec.identity.ca_secret_name.as_deref();
    let ca_key = Key { namespace: context.namespace.clone(), name: names::ca_secret(&uid) };
    let secret_key = beside(key, &names::server_secret(&key.name));
    let service_key = beside(key, &names::service(&key.name));
    let replicas_key = beside(key, &names::replicas_service(&key.name));
    let user_ca = async {
        match user_secret {
            Some(name) => context.secret(&beside(key, name)).await,
            None => Ok(None),
        }
    };
    let (ca, user_ca, secret, service, replicas) = tokio::try_join!(
        context.secret(&ca_key),
        user_ca,
        context.secret(&secret_key),
        context.service(&service_key),
        context.service(&replicas_key),
    )?;

    let target = Target::Server(key.clone());
    let pods = context.world.pods(&target);
    let told = context.presence.seen(key);
    let links = context.world.links_of(key);
    let namespaces = context.world.namespaces();
    let last_names = context.world.names(&uid);
    let last_view = context.world.view(key);
    let seen = ServerSeen {
        server: &server,
        links: &links,
        namespaces: views::namespaces(&context.scope, &namespaces),
        operator_namespace: &context.namespace,
        ca_secret: ca.as_ref().map(|read| &read.seen),
        user_ca: user_ca.as_ref().map(|read| &read.seen),
        secret: secret.as_ref().map(|read| &read.seen),
        link_secrets: &context.world.link_secrets_of(key),
        exported_pods: &context.world.exported_pods_of(key),
        service: service.as_ref(),
        replicas_service: replicas.as_ref(),
        pods: &pods,
        without_sidecar: &context.world.without_sidecar(&target),
        told: &told,
        last_names: last_names.as_ref(),
        last_view: last_view.as_deref(),
        ca_refused: None,
        spread_time: context.ca_spread_time,
    };
    let mut plan = server::plan(&seen, SystemTime::now());

    // First of all: certificates of a CA that nobody kept would lock everybody out.
    let mut errors = Vec::new();
    if let Some(write) = plan.ca_secret.take()
        && let Err(error) = context.write_ca(write, ca.as_ref()).await
    {
        let Failure::Refused(trouble) = failure(&error) else { return Err(error) };
        // So that plan is void, and all else goes on with the CA that is stored.
        plan = server::plan(&ServerSeen { ca_refused: Some(&trouble), ..seen }, SystemTime::now());
        errors.push(error);
    }
    let service_of = |name: &str| {
        [&service, &replicas].into_iter().flatten().find(|service| service.name_any() == name)
    };
    let services = std::mem::take(&mut plan.services).into_iter().map(|wanted| {
        let name = wanted.name_any();
        let over = service_of(&name);
        async move { (name, context.apply_service(wanted, over).await) }
    });
    let wanted = plan.secret.take();
    let leaf = async {
        match wanted {
            Some(wanted) => context.apply_secret(wanted, secret.as_ref()).await.map(drop),
            None => Ok(()),
        }
    };
    // None keeps another from being written: one may be refused for ever, such as a node port that
    // is taken.
    let (services, leaf) = tokio::join!(join_all(services), leaf);
    let mut unwritten = Unwritten::default();
    if let Err(error) = leaf {
        unwritten.secret = Some(failure(&error));
        errors.push(error);
    }
    for (name, written) in services {
        let Err(error) = written else { continue };
        let failure = Some(failure(&error));
        if name == service_key.name {
            unwritten.service = failure;
        } else {
            unwritten.replicas_service = failure;
        }
        errors.push(error);
    }
    let plan = plan.without(&seen, &unwritten, SystemTime::now());

    // Servers take whatever is newer: a replica that was frozen must not tell them what the one
    // that leads now has overruled.
    context.gate.check()?;
    follow(context, key, &plan.view, plan.names.clone(), &pods);
    tell_links(context, key, &plan.view, plan.names, &told);
    note(context, key, &plan.status);
    let (statuses, triggers) = (&context.server_statuses, &context.servers);
    let written = context.write_status(&*server, &plan.status, statuses, triggers).await;
    let about = server.object_ref(&());
    for event in plan.events {
        context.events.tell(event, &about);
    }
    written?;
    match errors.into_iter().next() {
        Some(error) => Err(error),
        None => Ok(plan.again_in),
    }
}

/// Keeps a pipe to each of its pods.
fn follow(
    context: &Context,
    key: &Key,
    view: &ServerView,
    names: crate::seen::Names,
    pods: &[PodSeen],
) {
    let Some(authority) = &view.own_authority else { return };
    let followed = Followed {
        pods: pods.iter().filter_map(running).collect(),
        server_name: names::server_identity(&key.name, &key.namespace),
        authority: Arc::clone(authority.signer()),
        bundle: authority.bundle(),
        names,
    };
    context.presence.follow(key.clone(), followed);
}

fn running(pod: &PodSeen) -> Option<ServerPod> {
    let port = u16::try_from(PIPE_PORT).ok()?;
    let ip = pod.ip.filter(|_| pod.phase == "Running")?;
    let address = SocketAddr::new(ip, port);
    Some(ServerPod { name: pod.name.clone(), uid: pod.uid.clone(), address })
}

/// Leaves what links need, and asks for a reconcile of those for whom it is different.
fn tell_links(
    context: &Context,
    key: &Key,
    view: &Arc<ServerView>,
    names: crate::seen::Names,
    told: &[ServerPodSeen],
) {
    let pipes = by_hostname(told).map(Arc::new);
    let pipes_before = context.pipes.set(key, pipes.clone());
    let view_before = context.world.set_view(Arc::clone(view), names);
    let links: HashSet<Key> = match &view_before {
        Some(before) if views::same_for_all(before, view) => {
            views::judged_differently(before, view)
                .chain(views::piped_differently(view, pipes_before.as_deref(), pipes.as_deref()))
                .cloned()
                .collect()
        }
        _ => context.world.link_keys_of(key).into_iter().collect(),
    };
    for link in links {
        if context.world.has(&Target::Link(link.clone())) {
            context.links.ask(&link);
        }
    }
}

/// Nothing while no pod has been asked for its pipes. Of pods that were and do not answer none are
/// known, and the plan says so.
fn by_hostname(told: &[ServerPodSeen]) -> Option<ByHostname> {
    let mut pipes = ByHostname::new();
    for state in told.iter().filter_map(|pod| pod.state.as_ref().ok()) {
        for pipe in &state.pipes {
            pipes.entry(pipe.hostname.clone()).or_default().push(pipe.clone());
        }
    }
    (!told.is_empty()).then_some(pipes)
}

fn note(context: &Context, key: &Key, status: &RestPipeServerStatus) {
    let leaf = status.identity.as_ref().map(|identity| system_time(&identity.not_after));
    context.metrics.leaf(Leaf::Server, key, leaf);
    let ca = status.ca.as_ref().map(|ca| system_time(&ca.not_after));
    context.metrics.leaf(Leaf::Ca, key, ca);
}

/// The server is gone, or another of its name has come.
pub(super) fn gone(context: &Context, key: &Key) {
    context.servers.taken(key);
    context.server_backoff.reset(key);
    context.server_statuses.forget(key);
    context.presence.forget(key);
    context.pipes.set(key, None);
    context.metrics.leaf(Leaf::Server, key, None);
    context.metrics.leaf(Leaf::Ca, key, None);
    let secret = beside(key, &names::server_secret(&key.name));
    context.secret_versions.forget(&secret);
    for service in [names::service(&key.name), names::replicas_service(&key.name)] {
        context.service_versions.forget(&beside(key, &service));
    }
    for link in context.world.link_keys_of(key) {
        context.links.ask(&link);
    }
    context.leftovers.notify_one();
}
