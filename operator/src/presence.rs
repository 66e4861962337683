//! Who is connected: the operator is a peer of every server pod and watches there.
//!
//! [`Presence`] keeps one pipe to each pod of the servers it is told to follow, knows who is
//! connected there, and tells the pods who may be. One task owns a pod's pipe; what it finds is on
//! a board that [`Presence::seen`] reads, and who waits for changes is called at most once a second
//! for each server. [`Prober`] asks the other side, a link's pod, why it is not connected.

mod ask;
mod board;
mod identity;
mod metrics;
mod pod;
mod probe;
mod server;
mod snapshot;
mod watch;
mod words;

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use restpipe_identity::CertificateAuthority;
use restpipe_pipe::Budget;
use tokio::sync::Semaphore;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

pub use metrics::Metrics;
pub use probe::{FailureSeen, ProbeSeen, Prober};

use crate::seen::{Key, Names, ServerPodSeen};
use server::Server;

/// Pods that are followed at once, of all servers: each costs a connection and a task.
const MAX_PODS: usize = 4096;

/// Bytes that all pipes of the operator may hold for answers that it has not read yet.
const PIPE_MEMORY: usize = 64 * 1024 * 1024;

/// Large snapshots that are read at once; small ones need no turn. What a server of ordinary size
/// tells is small, so pods that answer slowly and at length delay only their like.
const LARGE_READS: usize = 4;

/// A pod of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerPod {
    /// Its name.
    pub name: String,
    /// Its UID: another pod of the same name is another pod.
    pub uid: String,
    /// Where it accepts pipes: its address, and [`restpipe_api::names::PIPE_PORT`].
    pub address: SocketAddr,
}

/// What is to be followed of one server.
#[derive(Clone, Debug)]
pub struct Followed {
    /// Its pods that run.
    pub pods: Vec<ServerPod>,
    /// The one name in their certificate.
    pub server_name: String,
    /// The CA that signs the operator's own certificate for them.
    pub authority: Arc<CertificateAuthority>,
    /// The roots that their certificate may be of, in PEM; the authority's is among them.
    pub bundle: String,
    /// Who may connect to them.
    pub names: Names,
}

/// The pipes to all followed servers; clones share them. They end with the last clone, or with
/// [`Presence::shutdown`].
#[derive(Clone)]
pub struct Presence {
    inner: Arc<Inner>,
}

struct Inner {
    context: Arc<Context>,
    servers: Mutex<HashMap<Key, Server>>,
    _stop: DropGuard,
}

/// What all tasks share.
struct Context {
    on_change: Box<dyn Fn(&Key) + Send + Sync>,
    /// What the operator calls itself.
    instance: String,
    /// Random bytes of this process.
    boot_id: [u8; 16],
    /// Counts pipes.
    epochs: AtomicU64,
    budget: Budget,
    large_reads: Semaphore,
    pods: Arc<Semaphore>,
    metrics: Metrics,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl fmt::Debug for Presence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Presence").field("servers", &self.servers().len()).finish_non_exhaustive()
    }
}

impl Presence {
    /// Follows nothing yet. `on_change` is called, from a task of the runtime, when what
    /// [`Self::seen`] says of a server has changed by itself; it is to return at once. `instance`
    /// is what servers' pods see the operator as: its pod's name.
    ///
    /// # Panics
    /// If a metric's name is none: a mistake in this module.
    pub fn new(on_change: impl Fn(&Key) + Send + Sync + 'static, instance: String) -> Self {
        let stop = CancellationToken::new();
        let context = Context {
            on_change: Box::new(on_change),
            instance,
            boot_id: rand::random(),
            epochs: AtomicU64::new(0),
            budget: Budget::new(PIPE_MEMORY),
            large_reads: Semaphore::new(LARGE_READS),
            pods: Arc::new(Semaphore::new(MAX_PODS)),
            metrics: Metrics::new().expect("names of metrics are constants"),
            tasks: TaskTracker::new(),
            stop: stop.clone(),
        };
        let (context, _stop) = (Arc::new(context), stop.drop_guard());
        Self { inner: Arc::new(Inner { context, servers: Mutex::default(), _stop }) }
    }

    fn servers(&self) -> MutexGuard<'_, HashMap<Key, Server>> {
        self.inner.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows a server, from inside a runtime. What was followed of it before goes on as far as
    /// it is the same, so that this can be called as often as one likes.
    pub fn follow(&self, key: Key, followed: Followed) {
        let context = &self.inner.context;
        if context.stop.is_cancelled() {
            return;
        }
        let Followed { pods, server_name, authority, bundle, names } = followed;
        let config = Arc::new(identity::Config { server_name, authority, bundle, names });
        let mut servers = self.servers();
        let begin = |key: &Key| Server::begin(context, key, config.clone());
        servers.entry(key).or_insert_with_key(begin).follow(context, config, pods);
    }

    /// Ends what is followed of a server.
    pub fn forget(&self, key: &Key) {
        self.servers().remove(key);
    }

    /// What is known of a server's pods, by their names. A pod that has just been followed is not
    /// among them until it has told something or an attempt to reach it has failed. One whose pipe
    /// ends stays as it was seen last until the next attempt has failed.
    pub fn seen(&self, key: &Key) -> Vec<ServerPodSeen> {
        self.servers().get(key).map(Server::seen).unwrap_or_default()
    }

    /// How many servers are followed.
    #[cfg(test)]
    pub(crate) fn followed(&self) -> usize {
        self.servers().len()
    }

    /// What is counted.
    pub fn metrics(&self) -> &Metrics {
        &self.inner.context.metrics
    }

    /// Ends all pipes, and waits until the pods have been told so, or for a moment. Nothing is
    /// followed after it.
    pub async fn shutdown(&self) {
        let context = &self.inner.context;
        context.stop.cancel();
        self.servers().clear();
        context.tasks.close();
        context.tasks.wait().await;
    }
}
