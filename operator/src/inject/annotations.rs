//! The annotations of a pod, read strictly: a value that is misunderstood in silence is a pod that
//! does something else than its author thinks.

use restpipe_api::{GROUP, names, pods};

use super::options;
use super::pod::Pod;
use super::quantity::{BadQuantity, Quantity};
use super::refusal::{Refusal, shown};
use super::{InjectOptions, Node, Role, WITHOUT};

/// The gateway's port unless a pod wants another.
pub(super) const GATEWAY_PORT: u16 = 7070;

/// Ports below are the kernel's own to give, and the sidecar has no rights.
const FIRST_FREE_PORT: u16 = 1024;

/// The port of a server's pipes.
pub(super) const PIPE_PORT: u16 = names::PIPE_PORT as u16;

/// Longest name of a link that a pod can use: it becomes the value of a label.
const MAX_LINK_NAME: usize = 63;

/// All annotations that have a meaning.
const KNOWN: [&str; 9] = [
    pods::LINK,
    pods::SERVER,
    pods::APP_PORT,
    pods::GATEWAY_PORT,
    pods::LOG_LEVEL,
    pods::CPU_REQUEST,
    pods::MEMORY_REQUEST,
    pods::MEMORY_LIMIT,
    pods::INJECTED,
];

/// The levels that the node knows.
const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

/// What a pod's annotations ask for.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) node: Node,
    pub(super) app_port: Option<u16>,
    pub(super) gateway_port: u16,
    pub(super) log_level: Option<String>,
    pub(super) cpu_request: Quantity,
    pub(super) memory_request: Quantity,
    pub(super) memory_limit: Quantity,
}

impl Wanted {
    /// None if the pod does not ask for a sidecar.
    pub(super) fn read(pod: &Pod<'_>, options: &InjectOptions) -> Result<Option<Self>, Refusal> {
        let (link, server) = (pod.annotation(pods::LINK)?, pod.annotation(pods::SERVER)?);
        let (role, name) = match (link.and_then(pods::named), server.and_then(pods::named)) {
            (None, None) => return Ok(None),
            (Some(_), Some(_)) => return Err(Refusal::BothRoles),
            (Some(link), None) => (Role::Client, link),
            (None, Some(server)) => (Role::Server, server),
        };
        check_name(role, name)?;
        let gateway_port = gateway_port(pod)?;
        let wanted = Self {
            node: Node { role, name: name.to_owned() },
            app_port: app_port(pod, role, gateway_port)?,
            gateway_port,
            log_level: log_level(pod)?,
            cpu_request: quantity(pod, pods::CPU_REQUEST, options::cpu_request)?
                .unwrap_or_else(|| options.cpu_request.clone()),
            memory_request: quantity(pod, pods::MEMORY_REQUEST, options::memory_request)?
                .unwrap_or_else(|| options.memory_request.clone()),
            memory_limit: quantity(pod, pods::MEMORY_LIMIT, options::memory_limit)?
                .unwrap_or_else(|| options.memory_limit.clone()),
        };
        if wanted.memory_request.nanos() > wanted.memory_limit.nanos() {
            return Err(Refusal::RequestOverLimit {
                request: wanted.memory_request.to_string(),
                limit: wanted.memory_limit.to_string(),
            });
        }
        Ok(Some(wanted))
    }
}

/// An annotation with our prefix that means nothing, if there is one.
pub(super) fn unknown(pod: &Pod<'_>) -> Option<String> {
    let keys = pod.annotations.into_iter().flat_map(|map| map.keys());
    keys.filter(|key| key.strip_prefix(GROUP).is_some_and(|rest| rest.starts_with('/')))
        .find(|key| !KNOWN.contains(&key.as_str()))
        .map(|key| shown(key))
}

fn check_name(role: Role, name: &str) -> Result<(), Refusal> {
    let label = |part: &str| {
        let inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
        !part.is_empty()
            && part.bytes().all(inner)
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    // Links may have dots in their names, servers not.
    let (good, most) = match role {
        Role::Server => (label(name), names::MAX_SERVER_NAME),
        Role::Client => (name.split('.').all(label), MAX_LINK_NAME),
    };
    if good && name.len() <= most {
        return Ok(());
    }
    Err(Refusal::BadName {
        annotation: role.key(),
        value: shown(name),
        expected: format!(
            "give the name of a {} in the pod's namespace, at most {most} lower-case letters, digits and '-'{WITHOUT}",
            role.kind()
        ),
    })
}

fn port(pod: &Pod<'_>, annotation: &'static str) -> Result<Option<u16>, Refusal> {
    let Some(text) = pod.annotation(annotation)? else { return Ok(None) };
    // `parse` alone would take "+80" and "0080".
    let plain = !text.starts_with(['+', '0']);
    match text.parse::<u16>() {
        Ok(port) if plain => Ok(Some(port)),
        _ => Err(bad_port(annotation, text, "give a port, 1 to 65535".to_owned())),
    }
}

fn bad_port(annotation: &'static str, text: &str, expected: String) -> Refusal {
    Refusal::BadPort { annotation, value: shown(text), expected }
}

fn gateway_port(pod: &Pod<'_>) -> Result<u16, Refusal> {
    let annotation = pods::GATEWAY_PORT;
    let Some(port) = port(pod, annotation)? else { return Ok(GATEWAY_PORT) };
    let expected = match port {
        names::ADMIN_PORT => "that is the sidecar's admin port, give another",
        PIPE_PORT => "that is the port of pipes, give another",
        ..FIRST_FREE_PORT => "the sidecar has no rights and can't listen below 1024, give another",
        _ => return Ok(port),
    };
    Err(bad_port(annotation, &port.to_string(), expected.to_owned()))
}

fn app_port(pod: &Pod<'_>, role: Role, gateway_port: u16) -> Result<Option<u16>, Refusal> {
    let annotation = pods::APP_PORT;
    let Some(port) = port(pod, annotation)? else { return Ok(None) };
    let whose = if port == gateway_port {
        "the gateway's port: events would come back to the sidecar"
    } else if port == names::ADMIN_PORT {
        "the sidecar's admin port"
    } else if port == PIPE_PORT && role == Role::Server {
        "the port of pipes"
    } else {
        return Ok(Some(port));
    };
    let cure =
        format!("that is {whose}; give the app's, or move the gateway by {}", pods::GATEWAY_PORT);
    Err(bad_port(annotation, &port.to_string(), cure))
}

fn log_level(pod: &Pod<'_>) -> Result<Option<String>, Refusal> {
    match pod.annotation(pods::LOG_LEVEL)? {
        Some(level) if !LEVELS.contains(&level) => Err(Refusal::BadLevel { value: shown(level) }),
        level => Ok(level.map(str::to_owned)),
    }
}

fn quantity(
    pod: &Pod<'_>,
    annotation: &'static str,
    parse: fn(&str) -> Result<Quantity, BadQuantity>,
) -> Result<Option<Quantity>, Refusal> {
    let Some(text) = pod.annotation(annotation)? else { return Ok(None) };
    let bad = |cause| Refusal::BadQuantity { annotation, value: shown(text), cause };
    parse(text).map(Some).map_err(bad)
}
