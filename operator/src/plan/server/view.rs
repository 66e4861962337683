//! What the plans of a server's links need of it.

use std::sync::Arc;
use std::time::Duration;

use restpipe_api::Endpoint;

use crate::plan::claims::Freed;
use crate::plan::{CaState, Claims};
use crate::seen::{Key, PipeSeen, ServerPodSeen, Trouble};

/// What the plans of a server's links need of it.
#[derive(Clone, Debug)]
pub struct ServerView {
    /// Its namespace and name.
    pub key: Key,
    /// Its UID.
    pub uid: String,
    /// The port of its Service.
    pub port: i32,
    /// How long leafs of its clients live.
    pub duration: Duration,
    /// Which links it takes.
    pub claims: Claims,
    /// Hostnames that are on no list for now, whoever has them.
    pub freed: Freed,
    /// What issues, or why nothing does.
    pub authority: Result<Arc<CaState>, Trouble>,
    /// What the operator shows the server's pods a certificate of: the CA that issues or, while
    /// nothing does, the last one that did. Who may connect is told in any case.
    pub own_authority: Option<Arc<CaState>>,
    /// Whether clients' leafs of a former root are to be replaced now.
    pub clients_may_switch: bool,
    /// Where it is reached, the best from outside first.
    pub endpoints: Vec<Endpoint>,
    /// Why it is not ready; nothing if it is.
    pub not_ready: Option<Trouble>,
    /// Whether one of its pods is ready, as Kubernetes sees it.
    pub has_ready_pod: bool,
    /// Whether one of its ready pods has told of its pipes.
    pub answers: bool,
}

impl ServerView {
    /// Whether pipes of the hostname are none of the link that has it now.
    #[must_use]
    pub fn is_freed(&self, hostname: &str) -> bool {
        self.freed.contains_key(hostname)
    }

    /// The pipes of one client, for [`LinkSeen::pipes`](crate::plan::LinkSeen::pipes): nothing while
    /// there is a ready pod and none has been asked yet.
    #[must_use]
    pub fn pipes(&self, told: &[ServerPodSeen], hostname: &str) -> Option<Vec<PipeSeen>> {
        if self.is_freed(hostname) {
            return Some(Vec::new());
        }
        if told.is_empty() && self.has_ready_pod {
            return None;
        }
        let states = told.iter().filter_map(|told| told.state.as_ref().ok());
        let pipes = states.flat_map(|state| &state.pipes);
        Some(pipes.filter(|pipe| pipe.hostname == hostname).cloned().collect())
    }
}
