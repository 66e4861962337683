//! What the plans of a server's links need of it.

use std::sync::Arc;
use std::time::Duration;

use restpipe_api::Endpoint;

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
    /// What issues, or why nothing does.
    pub authority: Result<Arc<CaState>, Trouble>,
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
    /// The pipes of one client, for [`LinkSeen::pipes`](crate::plan::LinkSeen::pipes): nothing while
    /// there is a ready pod and none has been asked yet.
    #[must_use]
    pub fn pipes(&self, told: &[ServerPodSeen], hostname: &str) -> Option<Vec<PipeSeen>> {
        if told.is_empty() && self.has_ready_pod {
            return None;
        }
        let states = told.iter().filter_map(|told| told.state.as_ref().ok());
        let pipes = states.flat_map(|state| &state.pipes);
        Some(pipes.filter(|pipe| pipe.hostname == hostname).cloned().collect())
    }
}
