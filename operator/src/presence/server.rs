//! What is followed of one server.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::SocketAddr;
use std::sync::Arc;

use restpipe_api::condition::reason;
use tokio::sync::{Notify, watch};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{debug, warn};

use super::board::{self, Board};
use super::identity::{Config, Issuer};
use super::pod::Pod;
use super::{Context, MAX_PODS, ServerPod};
use crate::seen::{Key, ServerPodSeen, Trouble};

/// Pods of one server that are followed at once: one is what is meant, two while it is replaced,
/// more only by mistake.
const MAX_PODS_OF_SERVER: usize = 16;

/// One server; its tasks end when it is dropped.
pub(super) struct Server {
    key: Key,
    config: watch::Sender<Arc<Config>>,
    issuer: Arc<Issuer>,
    changed: Arc<Notify>,
    /// By UID.
    pods: BTreeMap<String, Followed>,
    stop: CancellationToken,
    _stop: DropGuard,
}

/// One pod; its task ends when it is dropped.
struct Followed {
    address: SocketAddr,
    board: Arc<Board>,
    /// `None` if there was no room for a task.
    task: Option<DropGuard>,
}

impl Server {
    pub(super) fn begin(context: &Arc<Context>, key: &Key, config: Arc<Config>) -> Self {
        let (stop, changed) = (context.stop.child_token(), Arc::new(Notify::new()));
        let tell = board::tell(context.clone(), key.clone(), changed.clone(), stop.clone());
        context.tasks.spawn(tell);
        Self {
            key: key.clone(),
            config: watch::Sender::new(config),
            issuer: Arc::default(),
            changed,
            pods: BTreeMap::new(),
            stop: stop.clone(),
            _stop: stop.drop_guard(),
        }
    }

    /// Takes what is to be followed now.
    pub(super) fn follow(
        &mut self,
        context: &Arc<Context>,
        config: Arc<Config>,
        mut pods: Vec<ServerPod>,
    ) {
        self.config.send_if_modified(|known| {
            let changed = !known.same_identity(&config) || known.names != config.names;
            if changed {
                *known = config;
            }
            changed
        });
        // Of too many it is always the same ones that are followed.
        pods.sort_by(|a, b| (&a.name, &a.uid).cmp(&(&b.name, &b.uid)));
        if pods.len() > MAX_PODS_OF_SERVER {
            warn!(server = %self.key, pods = pods.len(), followed = MAX_PODS_OF_SERVER,
                "not all pods of the server are followed: scale its Deployment down to one");
            pods.truncate(MAX_PODS_OF_SERVER);
        }
        self.pods.retain(|uid, known| {
            pods.iter().any(|pod| pod.uid == *uid && pod.address == known.address)
        });
        for pod in pods {
            self.add(context, pod);
        }
    }

    fn add(&mut self, context: &Arc<Context>, pod: ServerPod) {
        let ServerPod { name, uid, address } = pod;
        let followed = match self.pods.entry(uid) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => {
                let board = Arc::new(Board::new(name, self.changed.clone()));
                place.insert(Followed { address, board, task: None })
            }
        };
        if followed.task.is_some() {
            return;
        }
        let board = followed.board.clone();
        let Ok(slot) = context.pods.clone().try_acquire_owned() else {
            board.fails(no_room());
            return;
        };
        debug!(server = %self.key, pod = board.pod(), %address, "following a pod");
        let stop = self.stop.child_token();
        let pod = Pod {
            context: context.clone(),
            key: self.key.clone(),
            address,
            board,
            config: self.config.subscribe(),
            issuer: self.issuer.clone(),
            stop: stop.clone(),
        };
        followed.task = Some(stop.drop_guard());
        context.tasks.spawn(async move {
            pod.run().await;
            drop(slot);
        });
    }

    /// What is known of its pods, by their names.
    pub(super) fn seen(&self) -> Vec<ServerPodSeen> {
        let mut seen: Vec<_> = self.pods.values().filter_map(|pod| pod.board.seen()).collect();
        seen.sort_by(|a, b| a.pod.cmp(&b.pod));
        seen
    }
}

fn no_room() -> Trouble {
    let detail = format!(
        "this operator follows {MAX_PODS} pods of servers already: run another one for some of the namespaces"
    );
    Trouble { reason: reason::SERVER_NOT_READY, detail }
}
