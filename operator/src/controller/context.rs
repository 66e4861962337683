//! What all reconciles share.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use restpipe_api::{RestPipeLinkStatus, RestPipeServerStatus};
use tokio::sync::Notify;

use super::backoff::Backoff;
use super::clients::Clients;
use super::events::Events;
use super::lease::Gate;
use super::metrics::Metrics;
use super::scope::Scope;
use super::triggers::Triggers;
use super::world::World;
use super::written::{Statuses, Versions};
use crate::plan::ClientPodSeen;
use crate::presence::{Presence, Prober};
use crate::seen::{Key, PipeSeen};

/// What all reconciles share.
pub(super) struct Context {
    pub(super) clients: Clients,
    pub(super) gate: Arc<Gate>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) events: Events,
    pub(super) scope: Scope,
    /// The operator's own namespace.
    pub(super) namespace: String,
    /// How long each phase of a CA's rotation lasts at least.
    pub(super) ca_spread_time: Duration,
    pub(super) world: World,
    pub(super) servers: Triggers,
    pub(super) links: Triggers,
    pub(super) server_backoff: Backoff,
    pub(super) link_backoff: Backoff,
    pub(super) server_statuses: Statuses<RestPipeServerStatus>,
    pub(super) link_statuses: Statuses<RestPipeLinkStatus>,
    pub(super) secret_versions: Versions,
    pub(super) service_versions: Versions,
    pub(super) presence: Presence,
    pub(super) prober: Prober,
    pub(super) looks: Looks,
    pub(super) pipes: Pipes,
    /// Wakes who deletes what is left of servers that are gone.
    pub(super) leftovers: Notify,
    /// Wakes who keeps the webhook's certificate: a Secret of our own namespace has changed.
    pub(super) own_secrets: Notify,
}

/// What links' pods have told of why they are not connected.
#[derive(Default)]
pub(super) struct Looks {
    all: Mutex<HashMap<Key, Look>>,
    running: Mutex<HashSet<Key>>,
}

/// One look at the pods of a link.
#[derive(Clone)]
pub(super) struct Look {
    pub(super) at: Instant,
    pub(super) told: Vec<ClientPodSeen>,
    /// How often in a row nothing was connected.
    pub(super) misses: u32,
}

impl Looks {
    pub(super) fn get(&self, link: &Key) -> Option<Look> {
        lock(&self.all).get(link).cloned()
    }

    /// Gives whether it tells something new.
    pub(super) fn set(&self, link: &Key, look: Look) -> bool {
        let told = look.told.clone();
        lock(&self.all).insert(link.clone(), look).is_none_or(|before| before.told != told)
    }

    pub(super) fn forget(&self, link: &Key) {
        lock(&self.all).remove(link);
    }

    /// Whether the caller is the one to look now; [`Self::ended`] lets the next one.
    pub(super) fn begin(&self, link: &Key) -> bool {
        lock(&self.running).insert(link.clone())
    }

    pub(super) fn ended(&self, link: &Key) {
        lock(&self.running).remove(link);
    }
}

/// The pipes of one server by hostname.
pub(super) type ByHostname = HashMap<String, Vec<PipeSeen>>;

/// The pipes of all servers, as their last reconcile saw them; of a server that has told nothing
/// yet there is no entry.
#[derive(Default)]
pub(super) struct Pipes(Mutex<HashMap<Key, Arc<ByHostname>>>);

impl Pipes {
    pub(super) fn get(&self, server: &Key) -> Option<Arc<ByHostname>> {
        lock(&self.0).get(server).cloned()
    }

    /// Gives what was there before.
    pub(super) fn set(
        &self,
        server: &Key,
        pipes: Option<Arc<ByHostname>>,
    ) -> Option<Arc<ByHostname>> {
        match pipes {
            Some(pipes) => lock(&self.0).insert(server.clone(), pipes),
            None => lock(&self.0).remove(server),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
