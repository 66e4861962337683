//! The Services of a server.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;
use restpipe_api::condition::reason;
use restpipe_api::{Endpoint, RestPipeServer, ServiceType, names, pods};

use super::objects::Owner;
use crate::seen::Trouble;

/// The port's name.
const PORT_NAME: &str = "pipe";

/// Annotation of the Service: which annotations came from the spec, so that those which are gone
/// from there are removed.
const FROM_SPEC: &str = "restpipe.io/annotations";

/// Entries in a status (its schema).
const MAX_ENDPOINTS: usize = 32;

/// The Services to apply, or which of those that are there is somebody else's.
pub(super) fn services(
    server: &RestPipeServer,
    owner: &Owner,
    main: Option<&Service>,
    replicas: Option<&Service>,
) -> (Vec<Service>, Option<Trouble>) {
    let (mut apply, mut problem) = (Vec::new(), None);
    for (seen, wanted) in [(main, wanted(server, owner)), (replicas, wanted_replicas(owner))] {
        match seen {
            None => apply.push(wanted),
            Some(seen) if !is_ours(seen, &owner.uid) => {
                problem.get_or_insert_with(|| conflict(seen));
            }
            Some(seen) if fits(seen, &wanted) => {}
            Some(_) => apply.push(wanted),
        }
    }
    (apply, problem)
}

fn is_ours(service: &Service, uid: &str) -> bool {
    let owned = service.owner_references().iter().any(|owner| owner.uid == uid);
    let (key, value) = names::MANAGED_BY;
    // That of a former server of this name has our label, and another UID in it.
    owned || service.labels().get(key).is_some_and(|found| found == value)
}

fn conflict(service: &Service) -> Trouble {
    let (namespace, name) = (service.namespace().unwrap_or_default(), service.name_any());
    Trouble {
        reason: reason::SERVICE_CONFLICT,
        detail: format!(
            "the Service {namespace}/{name} is there and was not made for this server, so it is left alone: delete or rename it (kubectl describe service -n {namespace} {name})"
        ),
    }
}

fn wanted(server: &RestPipeServer, owner: &Owner) -> Service {
    let spec = &server.spec.service;
    let mut annotations = spec.annotations.clone();
    if !annotations.is_empty() {
        let keys: Vec<&str> = spec.annotations.keys().map(String::as_str).collect();
        annotations.insert(FROM_SPEC.to_owned(), keys.join(","));
    }
    let outside = spec.type_ != ServiceType::ClusterIP;
    Service {
        metadata: owner.meta(names::service(owner.name()), annotations),
        spec: Some(ServiceSpec {
            type_: Some(type_word(spec.type_).to_owned()),
            ports: Some(vec![port(spec.port, spec.node_port.filter(|_| outside))]),
            selector: Some(selector(owner)),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

/// With the address of each pod, also while it is not ready: servers find each other there.
fn wanted_replicas(owner: &Owner) -> Service {
    Service {
        metadata: owner.meta(names::replicas_service(owner.name()), BTreeMap::new()),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".to_owned()),
            cluster_ip: Some("None".to_owned()),
            publish_not_ready_addresses: Some(true),
            ports: Some(vec![port(names::PIPE_PORT, None)]),
            selector: Some(selector(owner)),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

fn port(port: i32, node_port: Option<i32>) -> ServicePort {
    ServicePort {
        name: Some(PORT_NAME.to_owned()),
        port,
        node_port,
        protocol: Some("TCP".to_owned()),
        target_port: Some(IntOrString::Int(names::PIPE_PORT)),
        app_protocol: None,
    }
}

fn selector(owner: &Owner) -> BTreeMap<String, String> {
    [(pods::ROLE, pods::ROLE_SERVER), (pods::SERVER, owner.name())]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

fn type_word(type_: ServiceType) -> &'static str {
    match type_ {
        ServiceType::ClusterIP => "ClusterIP",
        ServiceType::NodePort => "NodePort",
        ServiceType::LoadBalancer => "LoadBalancer",
    }
}

/// Whether all that is wanted is there. Others may have added to it, as the API server does.
fn fits(seen: &Service, wanted: &Service) -> bool {
    let holds = |seen: &BTreeMap<String, String>, wanted: &BTreeMap<String, String>| {
        wanted.iter().all(|(key, value)| seen.get(key) == Some(value))
    };
    let listed = seen.annotations().get(FROM_SPEC).map_or("", |list| list);
    let is_wanted = |key: &str| wanted.annotations().contains_key(key);
    let nothing_to_remove = listed
        .split(',')
        .filter(|key| !key.is_empty())
        .all(|key| is_wanted(key) || !seen.annotations().contains_key(key));
    let (Some(spec), Some(want)) = (&seen.spec, &wanted.spec) else { return false };
    let ports = match (spec.ports.as_deref(), want.ports.as_deref()) {
        (Some([port]), Some([want])) => same_port(port, want),
        _ => false,
    };
    holds(seen.labels(), wanted.labels())
        && holds(seen.annotations(), wanted.annotations())
        && nothing_to_remove
        && wanted.owner_references().iter().all(|owner| seen.owner_references().contains(owner))
        && spec.type_ == want.type_
        && spec.selector == want.selector
        && (want.cluster_ip.is_none() || spec.cluster_ip == want.cluster_ip)
        && spec.publish_not_ready_addresses.unwrap_or_default()
            == want.publish_not_ready_addresses.unwrap_or_default()
        && ports
}

fn same_port(seen: &ServicePort, want: &ServicePort) -> bool {
    seen.name == want.name
        && seen.port == want.port
        && seen.protocol == want.protocol
        && seen.target_port == want.target_port
        && (want.node_port.is_none() || seen.node_port == want.node_port)
}

/// Where clients reach the server, the best from outside first.
pub(super) fn endpoints(server: &RestPipeServer, seen: Option<&Service>) -> Vec<Endpoint> {
    let spec = &server.spec.service;
    let ports = seen.and_then(|seen| seen.spec.as_ref()?.ports.as_ref()?.first());
    let node_port = spec.node_port.or_else(|| ports.and_then(|port| port.node_port));
    let outside = match spec.type_ {
        ServiceType::NodePort => node_port,
        ServiceType::ClusterIP | ServiceType::LoadBalancer => Some(spec.port),
    };
    let named = server.spec.hostnames.iter().cloned().zip(outside.into_iter().cycle());
    let ingress = match spec.type_ {
        ServiceType::LoadBalancer => ingress(seen),
        ServiceType::ClusterIP | ServiceType::NodePort => Vec::new(),
    };
    let ingress = ingress.into_iter().map(|host| (host, spec.port));
    let own = names::service_host(&server.name_any(), &server.namespace().unwrap_or_default());
    let mut found: Vec<Endpoint> = Vec::new();
    for (host, port) in named.chain(ingress).take(MAX_ENDPOINTS - 1).chain([(own, spec.port)]) {
        let endpoint = Endpoint { host, port };
        if !found.contains(&endpoint) {
            found.push(endpoint);
        }
    }
    found
}

fn ingress(seen: Option<&Service>) -> Vec<String> {
    let status = seen.and_then(|seen| seen.status.as_ref()?.load_balancer.as_ref());
    let entries = status.and_then(|status| status.ingress.as_ref()).into_iter().flatten();
    // A name before its addresses, and none that is longer than the status takes.
    let hosts = entries.filter_map(|entry| entry.hostname.clone().or_else(|| entry.ip.clone()));
    hosts.filter(|host| !host.is_empty() && host.len() <= 253).collect()
}

/// As a node dials it.
pub(super) fn address_of(endpoint: &Endpoint) -> String {
    if endpoint.host.contains(':') {
        format!("[{}]:{}", endpoint.host, endpoint.port)
    } else {
        format!("{}:{}", endpoint.host, endpoint.port)
    }
}
