//! What is there: the facts that [`plan`](crate::plan) decides from, as
//! [`presence`](crate::presence) and [`controller`](crate::controller) gather them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::time::SystemTime;

/// Namespace and name of an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// An injected pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodSeen {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Its address, once it has one.
    pub ip: Option<IpAddr>,
    /// `Pending`, `Running`, `Succeeded`, `Failed` or `Unknown`.
    pub phase: String,
    /// Whether it is ready.
    pub ready: bool,
    /// Whether it is being deleted.
    pub ending: bool,
    /// Why it does not run, in Kubernetes' words, such as a container's waiting reason.
    pub waiting: Option<String>,
    /// Whether its sidecar runs, whatever its other containers wait for.
    pub sidecar_runs: bool,
}

impl PodSeen {
    /// Whether its sidecar can be asked, by its address.
    #[must_use]
    pub fn can_be_asked(&self) -> bool {
        self.phase == "Running" && !self.ending && self.ip.is_some()
    }
}

/// A pipe that a server holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PipeSeen {
    /// The client's hostname, from its verified certificate.
    pub hostname: String,
    /// What the client calls itself; in this cluster its pod's name.
    pub instance: String,
    /// The server's pod.
    pub server_pod: String,
    /// Where the client is, as the server sees it.
    pub address: String,
    /// Since when, in RFC 3339.
    pub since: String,
    /// Serial number of the client's certificate.
    pub serial: String,
    /// When that certificate ends.
    pub not_after: SystemTime,
    /// Fingerprint of the root that verified it.
    pub root: String,
    /// Fingerprints of the roots that the client trusts.
    pub trusts: BTreeSet<String>,
    /// Why the client does not take the newest files of its identity, in a word.
    pub reload_failed: Option<String>,
}

/// What one server pod has told, or why it tells nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerPodSeen {
    /// The pod's name.
    pub pod: String,
    /// What it told, or why it could not be asked.
    pub state: Result<ServerPodState, Trouble>,
}

/// What a server pod has told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerPodState {
    /// Version of the lists of names in force.
    pub names_version: u64,
    /// Serial number of its certificate.
    pub serial: String,
    /// Fingerprint of the root that verified its certificate.
    pub root: String,
    /// Fingerprints of the roots that it trusts.
    pub trusts: BTreeSet<String>,
    /// Why it does not take the newest files of its identity, in a word.
    pub reload_failed: Option<String>,
    /// Its pipes.
    pub pipes: Vec<PipeSeen>,
}

/// Why something could not be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// A reason of a condition, one of [`restpipe_api::condition::reason`].
    pub reason: &'static str,
    /// A sentence with cause and cure.
    pub detail: String,
}

/// Which names may connect to a server, as its pods are told.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Names {
    /// Grows with every change.
    pub version: u64,
    /// Hostnames that may connect.
    pub clients: BTreeSet<String>,
    /// Hostnames that are cut off.
    pub suspended: BTreeSet<String>,
}

/// A Secret as it is in the cluster. Never printed: it holds keys.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretSeen {
    /// UID of the controlling owner, if there is one.
    pub owner: Option<String>,
    /// Whether it has the label of what the operator makes.
    pub ours: bool,
    /// Its type.
    pub type_: String,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// Its contents.
    pub data: BTreeMap<String, Vec<u8>>,
}

impl fmt::Debug for SecretSeen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretSeen")
            .field("owner", &self.owner)
            .field("ours", &self.ours)
            .field("keys", &self.data.keys().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}
