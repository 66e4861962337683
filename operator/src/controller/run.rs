//! Putting the parts together, and taking them apart again.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::backoff::Backoff;
use super::clients::Clients;
use super::context::{Context, Looks, Pipes};
use super::lease::Election;
use super::metrics::Metrics;
use super::progress::Progress;
use super::scope::Scope;
use super::triggers::Triggers;
use super::watches::Watches;
use super::webhook_certificate::{self, Places};
use super::world::World;
use super::written::{Statuses, Versions};
use super::{Options, controllers, events, leftovers, prime};
use crate::presence::{Presence, Prober};
use crate::process::{self, Admin, bind, init_logging, stop_on_signals};
use crate::seen::Key;

/// How long running reconciles may take to end: each is a handful of requests.
const END_WITHIN: Duration = Duration::from_secs(10);

/// What this replica is about, for `/ready`.
#[derive(Clone, Default)]
struct State(Arc<Mutex<Role>>);

#[derive(Clone, Default)]
enum Role {
    /// The API server has not answered yet.
    #[default]
    Starting,
    /// Another replica leads.
    Standby,
    Leading(Arc<Progress>),
}

impl State {
    fn set(&self, role: Role) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = role;
    }

    fn ready(&self) -> Result<(), String> {
        match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Role::Starting => Err("the API server has not answered yet".to_owned()),
            Role::Standby => Ok(()),
            Role::Leading(progress) => progress.check(),
        }
    }
}

/// See [`super::run`].
pub(super) async fn run(options: Options) -> anyhow::Result<()> {
    init_logging(&options.process.log, options.process.log_format)?;
    let stop = stop_on_signals()?;
    let registry = process::registry()?;
    let metrics = Arc::new(Metrics::new(&registry)?);
    let state = State::default();
    let listener = bind("--admin", options.process.admin)?;
    let admin = {
        let state = state.clone();
        Admin::new(registry.clone(), move || state.ready())
    };
    // Shown until the very end: while this replica ends, too.
    let admin_stop = CancellationToken::new();
    let admin = tokio::spawn(admin.run(listener, admin_stop.clone()));
    let clients = Clients::new().await?;

    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        namespace = options.namespace,
        watched = ?Scope::of(&options.watch_namespaces),
        "the controller starts"
    );
    let result = tokio::select! {
        () = stop.cancelled() => Ok(()),
        election = elected(&clients, &options, &state) => {
            lead(election, clients, &options, metrics, &registry, &state, &stop).await
        }
    };
    admin_stop.cancel();
    let _ = admin.await;
    result
}

async fn elected(clients: &Clients, options: &Options, state: &State) -> Election {
    let Options { namespace, lease_name, pod_name, .. } = options;
    let mut election = Election::new(clients.lease.clone(), namespace, lease_name, pod_name).await;
    state.set(Role::Standby);
    election.campaign().await;
    election
}

async fn lead(
    election: Election,
    clients: Clients,
    options: &Options,
    metrics: Arc<Metrics>,
    registry: &prometheus::Registry,
    state: &State,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    tracing::info!(pod = options.pod_name, "this replica leads");
    metrics.leader.set(1);
    let progress = Arc::new(Progress::default());
    let work = work(&election, clients, options, Arc::clone(&metrics), registry, &progress, stop);
    state.set(Role::Leading(Arc::clone(&progress)));
    let result = tokio::select! {
        result = work => Ok(result),
        lost = election.hold() => Err(lost),
    };
    metrics.leader.set(0);
    state.set(Role::Standby);
    match result {
        Ok(result) => {
            election.release().await;
            result
        }
        // It is somebody else's now.
        Err(lost) => Err(lost.into()),
    }
}

async fn work(
    election: &Election,
    clients: Clients,
    options: &Options,
    metrics: Arc<Metrics>,
    registry: &prometheus::Registry,
    progress: &Arc<Progress>,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let scope = Scope::of(&options.watch_namespaces);
    let (servers, server_queues) = Triggers::new(&scope.parts());
    let (links, link_queues) = Triggers::new(&scope.parts());
    let (events, teller) = events::queue(clients.working.clone(), &options.pod_name);
    let context = Arc::new_cyclic(|context: &std::sync::Weak<Context>| {
        let context = context.clone();
        let changed = move |key: &Key| {
            if let Some(context) = context.upgrade() {
                context.servers.ask(key);
            }
        };
        Context {
            clients,
            gate: election.gate(),
            metrics,
            events,
            scope,
            namespace: options.namespace.clone(),
            ca_spread_time: options.ca_spread_time,
            world: World::default(),
            servers,
            links,
            server_backoff: Backoff::default(),
            link_backoff: Backoff::default(),
            server_statuses: Statuses::default(),
            link_statuses: Statuses::default(),
            secret_versions: Versions::default(),
            service_versions: Versions::default(),
            presence: Presence::new(changed, options.pod_name.clone()),
            prober: Prober::default(),
            looks: Looks::default(),
            pipes: Pipes::default(),
            leftovers: Notify::new(),
            own_secrets: Notify::new(),
        }
    });
    context.presence.metrics().register(registry)?;
    // All of these end when the set is dropped, which is when this returns or is dropped itself.
    let mut beside = JoinSet::new();
    beside.spawn(teller.run());
    let (mut watches, server_stores, link_stores) = Watches::start(&context, progress);
    tokio::select! {
        () = progress.wait() => {}
        () = stop.cancelled() => return Ok(()),
        ended = watches.join_next() => anyhow::bail!("a watch ended: {ended:?}"),
    }
    tokio::select! {
        () = prime::run(&context) => {}
        () = stop.cancelled() => return Ok(()),
    }
    tracing::info!("everything is listed; reconciling");
    beside.spawn(leftovers::run(Arc::clone(&context)));
    beside.spawn(webhook_certificate::run(Arc::clone(&context), places(options)));

    let mut running = JoinSet::new();
    controllers::servers(&mut running, &context, server_stores, server_queues, stop);
    controllers::links(&mut running, &context, link_stores, link_queues, stop);
    tokio::select! {
        // First, since it ends the controllers as well.
        biased;
        () = stop.cancelled() => {}
        // What panics there would be missing for ever: better to begin anew.
        ended = watches.join_next() => anyhow::bail!("a watch ended: {ended:?}"),
        ended = beside.join_next() => anyhow::bail!("a task ended: {ended:?}"),
        ended = running.join_next() => anyhow::bail!("a controller ended: {ended:?}"),
        trouble = controllers::stand_still(&context) => anyhow::bail!("{trouble}"),
    }
    let all = async { while running.join_next().await.is_some() {} };
    if timeout(END_WITHIN, all).await.is_err() {
        tracing::warn!("some reconciles did not end in time; they are taken up by the next leader");
    }
    context.presence.shutdown().await;
    Ok(())
}

fn places(options: &Options) -> Places {
    Places {
        service: options.webhook_service.clone(),
        configuration: options.webhook_configuration.clone(),
        tls_secret: options.webhook_tls_secret.clone(),
        ca_secret: options.webhook_ca_secret.clone(),
        ca_overlap: options.webhook_ca_overlap,
    }
}
