//! The kind RestPipeServer.

// KubeSchema repeats each struct inside of a function, where `pub` reaches nobody.
#![allow(unreachable_pub)]

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::shared::IdentityStatus;

/// A server that clients keep pipes to. Pods annotated with restpipe.io/server: NAME become it.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "restpipe.io",
    version = "v1alpha1",
    kind = "RestPipeServer",
    namespaced,
    status = "RestPipeServerStatus",
    derive = "Default",
    derive = "PartialEq",
    shortname = "rps",
    category = "restpipe",
    doc = "A server that clients keep pipes to. Pods annotated with restpipe.io/server: NAME become it.",
    validation = Rule::new("self.metadata.name.size() <= 40 && !self.metadata.name.contains('.')").message("the name of a RestPipeServer is part of certificate and Service names: at most 40 characters, without dots"),
    validation = Rule::new("self.metadata.name.matches('^[a-z]')").message("Services are named after a RestPipeServer, and the name of a Service begins with a letter: begin this one with a letter"),
    validation = Rule::new("self.metadata.name != 'disabled'").message("a pod annotated with restpipe.io/server: disabled is left alone, so no RestPipeServer can have that name: take another"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason"),
    printcolumn(name = "Connected", type_ = "integer", json_path = ".status.clients.connected", description = "Links that have at least one pipe"),
    printcolumn(name = "Links", type_ = "integer", json_path = ".status.clients.accepted", description = "Links that may connect"),
    // Not `date`, which is for the past: of a time to come it says <invalid>.
    printcolumn(name = "CA-Expires", type_ = "string", json_path = ".status.ca.notAfter"),
    printcolumn(name = "Cert-Expires", type_ = "string", json_path = ".status.identity.notAfter", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
)]
#[serde(rename_all = "camelCase")]
pub struct RestPipeServerSpec {
    /// How clients reach the server.
    #[serde(default)]
    pub service: Service,
    /// Further names by which clients outside this cluster dial the server, such as
    /// pipe.shop.example; exported identities use the first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        inner(
            length(min = 1, max = 253),
            regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
        )
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub hostnames: Vec<String>,
    /// Which links may name this server.
    #[serde(default)]
    pub clients: Clients,
    /// Where certificates come from.
    #[serde(default)]
    pub identity: Identity,
}

/// How clients reach a server.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("!has(self.nodePort) || self.type != 'ClusterIP'").message("nodePort needs type NodePort or LoadBalancer"))]
#[serde(rename_all = "camelCase")]
pub struct Service {
    /// ClusterIP for clients of this cluster; NodePort or LoadBalancer for others too.
    #[serde(rename = "type", default)]
    pub type_: ServiceType,
    /// The Service's port.
    #[serde(default = "default_port")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
    /// The port on every node; chosen by Kubernetes unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub node_port: Option<i32>,
    /// Annotations for the Service, such as those of a cloud's load balancer.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub annotations: BTreeMap<String, String>,
}

impl Default for Service {
    fn default() -> Self {
        Self {
            type_: ServiceType::default(),
            port: default_port(),
            node_port: None,
            annotations: BTreeMap::new(),
        }
    }
}

fn default_port() -> i32 {
    crate::names::PIPE_PORT
}

/// The type of a Service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ServiceType {
    /// Within the cluster.
    #[default]
    ClusterIP,
    /// On a port of every node.
    NodePort,
    /// By a load balancer of the cloud.
    LoadBalancer,
}

/// Which links may name a server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Clients {
    /// In which namespaces such links may be.
    #[serde(default)]
    pub namespaces: Namespaces,
}

/// Namespaces whose links are accepted, as in Gateway API.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("(self.from == 'Selector') == has(self.selector)").message("selector goes with from: Selector, and only with it"))]
#[serde(rename_all = "camelCase")]
pub struct Namespaces {
    /// Same: the server's own namespace. All: every namespace. Selector: those that match.
    #[serde(default)]
    pub from: From,
    /// Labels of the namespaces that are meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
}

/// Where links may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum From {
    /// In the server's namespace.
    #[default]
    Same,
    /// Anywhere.
    All,
    /// In namespaces that match the selector.
    Selector,
}

/// Where certificates of a server and its clients come from.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    /// A Secret in this namespace with tls.crt and tls.key of a CA of your own. Without it the
    /// operator makes a CA for this server alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub ca_secret_name: Option<String>,
    /// How long certificates live, 10m to 2160h; renewed at two thirds. Default 24h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), regex(pattern = r"^([0-9]+h)?([0-9]+m)?([0-9]+s)?$"))]
    #[x_kube(validation = Rule::new("self != '' && duration(self) >= duration('10m') && duration(self) <= duration('2160h')").message("duration must be 10m to 2160h, such as 24h"))]
    pub duration: Option<String>,
}

/// What the operator knows of a server.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RestPipeServerStatus {
    /// The generation that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Accepted, IdentityIssued, Injected, SingleReplica, Ready.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    #[schemars(length(max = 16))]
    pub conditions: Vec<Condition>,
    /// Where clients reach the server, the best for clients of other clusters first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub endpoints: Vec<Endpoint>,
    /// How many links there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clients: Option<ClientCounts>,
    /// The server's certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<IdentityStatus>,
    /// The CA of this server and its clients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<CaStatus>,
    /// Pods that are this server, by name; at most 20.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20), inner(length(max = 253)))]
    pub pods: Vec<String>,
    /// Pods that are annotated and have no sidecar, by name; at most 20.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20), inner(length(max = 253)))]
    pub pods_without_sidecar: Vec<String>,
}

/// One way to reach a server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// A host name or an address.
    #[schemars(length(max = 253))]
    pub host: String,
    /// The port.
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
}

/// How many links a server has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClientCounts {
    /// Links that name this server.
    pub declared: i32,
    /// Links that may connect; suspended ones are among them.
    pub accepted: i32,
    /// Links that are suspended.
    pub suspended: i32,
    /// Links that have at least one pipe.
    pub connected: i32,
}

/// The CA of a server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CaStatus {
    /// Stable: one root. Spreading: a new root is sent to all nodes. Switching: certificates are
    /// issued by the new root, the old one is still trusted.
    pub phase: CaPhase,
    /// SHA-256 fingerprint of the root that signs.
    #[schemars(length(max = 64))]
    pub fingerprint: String,
    /// When the root that signs ends.
    pub not_after: Time,
    /// Whom a rotation waits for, by hostname; at most 20.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20), inner(length(max = 253)))]
    pub waiting_for: Vec<String>,
}

/// How far the rotation of a CA is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CaPhase {
    /// There is one root.
    #[default]
    Stable,
    /// A new root is sent to all nodes, and nothing is signed by it yet.
    Spreading,
    /// The new root signs, and the old one is trusted until nothing of it lives.
    Switching,
}
