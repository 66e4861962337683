//! A pod as raw JSON: what injection looks at in it.

use restpipe_api::{names, pods};
use serde_json::{Map, Value};

use super::Role;
use super::annotations::{PIPE_PORT, Wanted};
use super::refusal::{Refusal, shown};

/// Containers of either kind. Nodes run a few hundred at most, of all pods together.
const MAX_CONTAINERS: usize = 1000;

/// Node label, by which a pod asks for Windows without saying so in `spec.os`.
const OS_LABEL: &str = "kubernetes.io/os";

/// One container.
#[derive(Clone, Copy, Debug)]
pub(super) struct Container<'a>(&'a Map<String, Value>);

impl<'a> Container<'a> {
    fn name(&self) -> &'a str {
        self.0.get("name").and_then(Value::as_str).unwrap_or_default()
    }

    /// Whether it has the field; null is none.
    pub(super) fn has(&self, field: &str) -> bool {
        self.0.get(field).is_some_and(|value| !value.is_null())
    }

    fn list(&self, field: &str) -> impl Iterator<Item = &'a Value> {
        self.0.get(field).and_then(Value::as_array).into_iter().flatten()
    }

    pub(super) fn has_env(&self, name: &str) -> bool {
        self.env(name).is_some()
    }

    /// A variable, with its name.
    pub(super) fn env(&self, name: &str) -> Option<&'a Value> {
        self.list("env").find(|variable| variable["name"] == name)
    }

    /// TCP ports that it declares.
    fn ports(&self) -> impl Iterator<Item = u64> {
        self.list("ports")
            .filter(|port| matches!(port["protocol"].as_str(), None | Some("TCP")))
            .filter_map(|port| port["containerPort"].as_u64())
    }

    /// Whether it does what ours does. What others add to it meanwhile, defaults of Kubernetes or
    /// another registry for its image, does not make it foreign.
    fn is_ours(&self, role: Role) -> bool {
        self.0.get("restartPolicy").is_some_and(|policy| policy == "Always")
            && self.list("args").eq([role.word()])
            && self.list("volumeMounts").any(|mount| {
                mount["name"] == pods::VOLUME && mount["mountPath"] == pods::NODE_DIRECTORY
            })
    }
}

/// A list of containers.
#[derive(Debug)]
pub(super) struct Containers<'a> {
    /// Its field in the pod's spec.
    pub(super) field: &'static str,
    /// Whether the pod has the field.
    pub(super) present: bool,
    all: Vec<Container<'a>>,
}

impl<'a> Containers<'a> {
    fn read(spec: &'a Map<String, Value>, field: &'static str) -> Result<Self, Refusal> {
        let list = List::read(spec, field)?;
        // A patch of what is no list would fail.
        if list.all.iter().any(|container| {
            !matches!(container.get("env"), None | Some(Value::Null | Value::Array(_)))
        }) {
            return Err(Refusal::Malformed {
                field: format!("spec.{field}[].env"),
                expected: "a list",
            });
        }
        Ok(Self {
            field,
            present: list.present,
            all: list.all.into_iter().map(Container).collect(),
        })
    }

    /// What has the sidecar's name, with its place.
    fn ours(&self) -> Option<(usize, Container<'a>)> {
        let mut all = self.all.iter().copied().enumerate();
        all.find(|(_, container)| container.name() == pods::CONTAINER)
    }

    /// Those that are not the sidecar, with their places.
    pub(super) fn others(&self) -> impl Iterator<Item = (usize, Container<'a>)> {
        self.all
            .iter()
            .copied()
            .enumerate()
            .filter(|(_, container)| container.name() != pods::CONTAINER)
    }
}

/// A list of objects.
#[derive(Debug)]
pub(super) struct List<'a> {
    /// Whether the pod has the field.
    pub(super) present: bool,
    all: Vec<&'a Map<String, Value>>,
}

impl<'a> List<'a> {
    fn read(spec: &'a Map<String, Value>, field: &'static str) -> Result<Self, Refusal> {
        let malformed = |expected| Refusal::Malformed { field: format!("spec.{field}"), expected };
        match spec.get(field) {
            None | Some(Value::Null) => Ok(Self { present: false, all: Vec::new() }),
            Some(Value::Array(items)) => {
                let all = items
                    .iter()
                    .map(|item| item.as_object().ok_or_else(|| malformed("a list of objects")))
                    .collect::<Result<_, _>>()?;
                Ok(Self { present: true, all })
            }
            Some(_) => Err(malformed("a list")),
        }
    }
}

/// A pod.
#[derive(Debug)]
pub(super) struct Pod<'a> {
    pub(super) annotations: Option<&'a Map<String, Value>>,
    pub(super) labels: Option<&'a Map<String, Value>>,
    spec: &'a Map<String, Value>,
    pub(super) containers: Containers<'a>,
    pub(super) init_containers: Containers<'a>,
    pub(super) volumes: List<'a>,
}

impl<'a> Pod<'a> {
    /// Finds the parts of a pod, and refuses what has another shape: no API server sends it, and
    /// a patch for it would fail.
    pub(super) fn read(pod: &'a Value) -> Result<Self, Refusal> {
        let object = |field: &str, value: &'a Value| {
            let field = field.to_owned();
            value.as_object().ok_or(Refusal::Malformed { field, expected: "an object" })
        };
        let map = |field: &str, value: &'a Value| match value {
            Value::Null => Ok(None),
            value => object(field, value).map(Some),
        };
        let metadata = object("metadata", &pod["metadata"])?;
        let spec = object("spec", &pod["spec"])?;
        let of = |field| metadata.get(field).unwrap_or(&Value::Null);
        Ok(Self {
            annotations: map("metadata.annotations", of("annotations"))?,
            labels: map("metadata.labels", of("labels"))?,
            spec,
            containers: Containers::read(spec, "containers")?,
            init_containers: Containers::read(spec, "initContainers")?,
            volumes: List::read(spec, "volumes")?,
        })
    }

    pub(super) fn annotation(&self, key: &str) -> Result<Option<&'a str>, Refusal> {
        match self.annotations.and_then(|map| map.get(key)) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(Refusal::Malformed {
                field: format!("metadata.annotations[{key:?}]"),
                expected: "a text in quotes",
            }),
        }
    }

    pub(super) fn is_mirror(&self) -> bool {
        self.annotations.is_some_and(|map| map.contains_key(pods::MIRROR))
    }

    /// Whether it says that it was injected.
    pub(super) fn is_marked(&self) -> bool {
        self.annotations.is_some_and(|map| map.contains_key(pods::INJECTED))
    }

    /// Whether a sidecar can be of use in it, and does no harm.
    pub(super) fn check(&self, wanted: &Wanted) -> Result<(), Refusal> {
        let spec = |field: &str| self.spec.get(field).unwrap_or(&Value::Null);
        if spec("hostNetwork") == true {
            return Err(Refusal::HostNetwork);
        }
        if spec("os")["name"] == "windows" || spec("nodeSelector")[OS_LABEL] == "windows" {
            return Err(Refusal::Windows { annotation: wanted.node.role.key() });
        }
        if self.containers.all.is_empty() {
            return Err(Refusal::NoContainers);
        }
        let lists = [&self.containers, &self.init_containers];
        if lists.iter().any(|list| list.others().count() > MAX_CONTAINERS) {
            return Err(Refusal::TooManyContainers { most: MAX_CONTAINERS });
        }
        let others = self.containers.others().chain(self.init_containers.others());
        others.into_iter().try_for_each(|(_, container)| check_ports(container, wanted))
    }

    /// The sidecar, or what has its name.
    pub(super) fn sidecar(&self) -> Option<Container<'a>> {
        self.init_containers.ours().map(|(_, container)| container)
    }

    /// The sidecar's place among the init containers, if it is there already.
    pub(super) fn our_place(&self, wanted: &Wanted) -> Result<Option<usize>, Refusal> {
        let collision = |field: &str| Refusal::NameCollision {
            what: format!("a container {:?} in spec.{field}", pods::CONTAINER),
        };
        if self.containers.ours().is_some() {
            return Err(collision(self.containers.field));
        }
        match self.init_containers.ours() {
            None => Ok(None),
            Some((place, container)) if container.is_ours(wanted.node.role) => Ok(Some(place)),
            Some(_) => Err(collision(self.init_containers.field)),
        }
    }

    /// Whether the volume with the identity is there already.
    pub(super) fn has_our_volume(&self, secret: &str) -> Result<bool, Refusal> {
        let of_ours = |volume: &&&Map<String, Value>| {
            volume.get("name").is_some_and(|name| name == pods::VOLUME)
        };
        let Some(volume) = self.volumes.all.iter().find(of_ours) else { return Ok(false) };
        let source = volume.get("secret").unwrap_or(&Value::Null);
        if source["secretName"] == secret {
            return Ok(true);
        }
        Err(Refusal::NameCollision { what: format!("a volume {:?}", pods::VOLUME) })
    }

    /// Those of `labels` that are not there yet. One with another value would lie to whoever
    /// selects by it, the server's Service above all.
    pub(super) fn missing_labels<'l>(
        &self,
        labels: &[(&'static str, &'l str)],
    ) -> Result<Vec<(&'static str, &'l str)>, Refusal> {
        let mut missing = Vec::new();
        for (label, value) in labels {
            match self.labels.and_then(|map| map.get(*label)) {
                None => missing.push((*label, *value)),
                Some(there) if there == value => {}
                Some(there) => {
                    let value = shown(there.as_str().unwrap_or_default());
                    return Err(Refusal::LabelTaken { label, value });
                }
            }
        }
        Ok(missing)
    }
}

fn check_ports(container: Container<'_>, wanted: &Wanted) -> Result<(), Refusal> {
    for port in container.ports() {
        let Ok(port) = u16::try_from(port) else { continue };
        let (what, cure) = if port == wanted.gateway_port {
            let cure = format!("move the gateway by the annotation {}", pods::GATEWAY_PORT);
            ("the gateway's", cure)
        } else if port == names::ADMIN_PORT {
            ("the sidecar's admin port", "let the app use another".to_owned())
        } else if port == PIPE_PORT && wanted.node.role == Role::Server {
            ("the port of a server's pipes", "let the app use another".to_owned())
        } else {
            continue;
        };
        return Err(Refusal::PortTaken { container: shown(container.name()), port, what, cure });
    }
    Ok(())
}
