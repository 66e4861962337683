//! What injection adds to a pod: a function from a pod to a JSON patch.
//!
//! Pods are handled as raw JSON. A round trip through types would drop the fields that are newer
//! than the types, and would do so in a user's pod. The patch adds what is not there yet, and moves
//! the sidecar to the front if it stands elsewhere, so that nothing of the pod is lost and a second
//! run over the result changes nothing.

mod annotations;
mod container;
mod options;
mod patch;
mod pod;
mod quantity;
mod refusal;

use json_patch::Patch;
use restpipe_api::{names, pods};
use serde_json::{Value, json};

pub use options::{BadOptions, InjectOptions, PullPolicy};
pub use quantity::{BadQuantity, Quantity};
pub use refusal::Refusal;
pub(crate) use refusal::{plain, shown};

use annotations::Wanted;
use patch::Changes;
use pod::Pod;

/// Longest warning: API servers cut longer ones.
const MAX_WARNING: usize = 250;

/// Names that were hardly meant as names: other injectors take them for "leave this pod alone", for
/// which the word here is [`pods::DISABLED`].
const NO: [&str; 4] = ["false", "no", "none", "off"];

/// How messages end that whoever wants no sidecar may get.
const WITHOUT: &str = "; for a pod without a sidecar write disabled";

/// What an annotated pod becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// A server's pod.
    Server,
    /// A client's pod.
    Client,
}

impl Role {
    /// As in the pod's label, and the node's subcommand.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Server => pods::ROLE_SERVER,
            Self::Client => pods::ROLE_CLIENT,
        }
    }

    /// The annotation that asks for it, and the label that injection writes.
    fn key(self) -> &'static str {
        match self {
            Self::Server => pods::SERVER,
            Self::Client => pods::LINK,
        }
    }

    /// The kind of the object that the annotation names.
    fn kind(self) -> &'static str {
        match self {
            Self::Server => "RestPipeServer",
            Self::Client => "RestPipeLink",
        }
    }
}

/// Which node an annotated pod is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Server or client.
    pub role: Role,
    /// Name of the server or link in the pod's namespace.
    pub name: String,
}

impl Node {
    /// The Secret with its identity.
    fn secret(&self) -> String {
        match self.role {
            Role::Server => names::server_secret(&self.name),
            Role::Client => names::link_secret(&self.name),
        }
    }
}

/// What is known of a server or link. It makes warnings only: the pod waits for its Secret anyway,
/// and pods and links of one `kubectl apply` come in any order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing yet: the watch has not told.
    Unknown,
    /// It is there, and nobody has refused it.
    Good,
    /// It is not there.
    Absent,
    /// Its namespace is not among those that this installation looks after.
    NotWatched,
    /// It is there and `Accepted` is False.
    NotAccepted {
        /// The condition's reason.
        reason: String,
        /// The condition's sentence.
        message: String,
    },
}

/// Who knows servers and links.
pub trait Links {
    /// What is known of the server or link `name` in `namespace`.
    fn standing(&self, role: Role, namespace: &str, name: &str) -> Standing;
}

/// What injection does to a pod.
#[derive(Clone, Debug, PartialEq)]
pub struct Injection {
    /// Which node the pod is; none if it does not ask for a sidecar.
    pub node: Option<Node>,
    /// What is added and moved; empty if there is nothing to do.
    pub patch: Patch,
    /// For whoever creates the pod.
    pub warnings: Vec<String>,
}

impl Injection {
    fn nothing() -> Self {
        Self { node: None, patch: Patch(Vec::new()), warnings: Vec::new() }
    }
}

/// What `pod`, which is being created in `namespace`, needs to become a node.
///
/// # Errors
/// If it can't become one, or its annotations make no sense.
pub fn inject(
    pod: &Value,
    namespace: &str,
    look: &dyn Links,
    options: &InjectOptions,
) -> Result<Injection, Refusal> {
    let pod = Pod::read(pod)?;
    if pod.is_mirror() {
        // Kubelet's picture of a static pod: what it shows runs already.
        return Ok(Injection::nothing());
    }
    let Some(wanted) = Wanted::read(&pod, options)? else {
        return Ok(Injection::nothing());
    };
    pod.check(&wanted)?;

    let patch = patch(&pod, &wanted, options)?;
    let warnings = warnings(&pod, namespace, look, &wanted);
    Ok(Injection { node: Some(wanted.node), patch, warnings })
}

/// The patch. Environment comes first: our container, added or moved, moves the others' places.
fn patch(pod: &Pod<'_>, wanted: &Wanted, options: &InjectOptions) -> Result<Patch, Refusal> {
    let mut changes = Changes::default();
    add_url(&mut changes, pod, wanted);

    // The first of the init containers, so that the others may use the gateway too.
    let list = ["spec", "initContainers"];
    let place = pod.our_place(wanted)?;
    match place {
        None => {
            let container = container::sidecar(wanted, options);
            changes.first(&list, pod.init_containers.present, container);
        }
        Some(0) => {}
        // Another webhook has put its own before it, or the pod was copied from such a one. If that
        // webhook wants to be first too, this has an end all the same: the API server asks each of
        // them once, and once more at most.
        Some(place) => changes.move_first(&list, place),
    }

    let secret = wanted.node.secret();
    if !pod.has_our_volume(&secret)? {
        // 0444: user 65532 reads it with and without the pod's fsGroup, which owns the files
        // otherwise. No other container mounts the volume.
        let volume = json!({
            "name": pods::VOLUME,
            "secret": { "secretName": secret, "defaultMode": 0o444 },
        });
        changes.last(&["spec", "volumes"], pod.volumes.present, volume);
    }

    let labels = [
        (pods::ROLE, wanted.node.role.word()),
        (wanted.node.role.key(), wanted.node.name.as_str()),
    ];
    changes.entries(&["metadata", "labels"], pod.labels, &pod.missing_labels(&labels)?);
    // A pod that was injected by another version keeps saying so. A mark without a container was
    // copied from somewhere.
    if place.is_none() || !pod.is_marked() {
        let mark = [(pods::INJECTED, options.version.as_str())];
        changes.entries(&["metadata", "annotations"], pod.annotations, &mark);
    }
    Ok(changes.patch())
}

/// Where the gateway is, for every other container that has not its own idea of it. First in the
/// list, so that the container's own variables may refer to it.
fn add_url(changes: &mut Changes, pod: &Pod<'_>, wanted: &Wanted) {
    let url = format!("http://127.0.0.1:{}", wanted.gateway_port);
    for list in [&pod.containers, &pod.init_containers] {
        for (index, container) in list.others() {
            if !container.has_env(pods::URL_VARIABLE) {
                let variable = json!({ "name": pods::URL_VARIABLE, "value": url });
                let index = index.to_string();
                let path = ["spec", list.field, index.as_str(), "env"];
                changes.first(&path, container.has("env"), variable);
            }
        }
    }
}

fn warnings(pod: &Pod<'_>, namespace: &str, look: &dyn Links, wanted: &Wanted) -> Vec<String> {
    let (mut warnings, node) = (Vec::new(), &wanted.node);
    if pod.sidecar().is_some_and(|there| !container::is_set_as(there, wanted)) {
        warnings.push(format!(
            "the pod comes with a container {:?} that is not set as its annotations say: remove that container, it is made anew",
            pods::CONTAINER
        ));
    }
    if let Some(unknown) = annotations::unknown(pod) {
        warnings.push(format!("annotation {unknown} means nothing to RestPipe: is it misspelt?"));
    }
    let (kind, name) = (node.role.kind(), &node.name);
    match look.standing(node.role, namespace, name) {
        Standing::Unknown | Standing::Good => {}
        Standing::Absent => {
            let else_ = if NO.contains(&name.as_str()) { WITHOUT } else { "" };
            warnings.push(format!(
                "there is no {kind} {name} in namespace {namespace}: the pod waits until you make it{else_}"
            ));
        }
        Standing::NotWatched => warnings.push(format!(
            "RestPipe does not look after namespace {namespace}: add it to watchNamespaces of the chart, the pod waits until then"
        )),
        Standing::NotAccepted { reason, message } => warnings
            .push(format!("{kind} {name} is not accepted, {reason}: {message}")),
    }
    for warning in &mut warnings {
        if let Some((end, _)) = warning.char_indices().nth(MAX_WARNING) {
            warning.truncate(end);
        }
    }
    warnings
}
