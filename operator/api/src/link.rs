//! The kind RestPipeLink.

// KubeSchema repeats each struct inside of a function, where `pub` reaches nobody.
#![allow(unreachable_pub)]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::shared::IdentityStatus;

/// A client of a server. Pods annotated with restpipe.io/link: NAME become it.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "restpipe.io",
    version = "v1alpha1",
    kind = "RestPipeLink",
    namespaced,
    status = "RestPipeLinkStatus",
    derive = "Default",
    derive = "PartialEq",
    shortname = "rpl",
    category = "restpipe",
    doc = "A client of a server. Pods annotated with restpipe.io/link: NAME become it.",
    selectable = ".spec.server.name",
    validation = Rule::new("self.metadata.name.size() <= 63").message("the name of a RestPipeLink is a label of its Secret and its pods, and the hostname unless spec.hostname is given: at most 63 characters"),
    validation = Rule::new("self.metadata.name != 'disabled'").message("a pod annotated with restpipe.io/link: disabled is left alone, so no RestPipeLink can have that name: take another"),
    printcolumn(name = "Hostname", type_ = "string", json_path = ".status.hostname"),
    printcolumn(name = "Server", type_ = "string", json_path = ".status.server"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason"),
    printcolumn(name = "Connected", type_ = "string", json_path = ".status.conditions[?(@.type=='Connected')].status"),
    // Not `date`, which is for the past: of a time to come it says <invalid>.
    printcolumn(name = "Cert-Expires", type_ = "string", json_path = ".status.identity.notAfter"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
)]
#[x_kube(validation = Rule::new("has(self.hostname) == has(oldSelf.hostname)").message("hostname can't be added or removed, the certificate is for it: make another link"))]
#[x_kube(validation = Rule::new("!self.suspend || !has(self.server.external)").message("a link to an external server can't be suspended here, that server would not know of it: suspend it where the server is"))]
#[serde(rename_all = "camelCase")]
pub struct RestPipeLinkSpec {
    /// The server that is dialled.
    pub server: ServerRef,
    /// Under which the server's side calls this client: /client/HOSTNAME/…; unique per server, the
    /// oldest claim wins. Default: the object's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
    )]
    #[x_kube(validation = Rule::new("self == oldSelf").message("hostname can't be changed, the certificate is for it: make another link"))]
    pub hostname: Option<String>,
    /// true cuts this client off at once and keeps it out. A link to an external server is
    /// suspended where that server is.
    #[serde(default)]
    pub suspend: bool,
    /// For a client outside this cluster: a long-lived identity that
    /// `restpipe-operator export` writes out, with the address to dial from there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub export: Option<Export>,
}

/// The server of a link: a RestPipeServer of this cluster, or one elsewhere.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("has(self.name) != has(self.external)").message("give either name, of a RestPipeServer of this cluster, or external"))]
// `namespace` is a reserved word of CEL, and so escaped.
#[x_kube(validation = Rule::new("!has(self.__namespace__) || has(self.name)").message("namespace goes with name"))]
#[x_kube(validation = Rule::new("has(self.external) == has(oldSelf.external) && has(self.__namespace__) == has(oldSelf.__namespace__)").message("server can't be changed, the certificate is of its CA: make another link"))]
#[serde(rename_all = "camelCase")]
pub struct ServerRef {
    /// The RestPipeServer's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 40), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("server can't be changed, the certificate is of its CA: make another link"))]
    pub name: Option<String>,
    /// The RestPipeServer's namespace, if it is not the link's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("server can't be changed, the certificate is of its CA: make another link"))]
    pub namespace: Option<String>,
    /// A server of another cluster or on a plain host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external: Option<ExternalServer>,
}

/// A server that this cluster's operator does not know.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExternalServer {
    /// Where it is: HOST:PORT.
    #[schemars(
        length(min = 1, max = 261),
        regex(
            pattern = r"^([a-zA-Z0-9]([-a-zA-Z0-9.]*[a-zA-Z0-9])?|\[[0-9a-fA-F:.]+\]):[0-9]{1,5}$"
        )
    )]
    #[x_kube(validation = Rule::new("int(self.substring(self.lastIndexOf(':') + 1)) >= 1 && int(self.substring(self.lastIndexOf(':') + 1)) <= 65535").message("the port must be 1 to 65535"))]
    pub address: String,
    /// The one DNS name that its certificate carries.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
    )]
    pub server_name: String,
    /// The Secret in this namespace with tls.crt, tls.key and ca.crt, as
    /// `restpipe-operator export` wrote it. It is only read.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub secret_name: String,
}

/// An identity for a client outside this cluster.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Export {
    /// Where the client reaches the server: HOST:PORT. Default: the first of the server's endpoints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 261),
        regex(
            pattern = r"^([a-zA-Z0-9]([-a-zA-Z0-9.]*[a-zA-Z0-9])?|\[[0-9a-fA-F:.]+\]):[0-9]{1,5}$"
        )
    )]
    #[x_kube(validation = Rule::new("int(self.substring(self.lastIndexOf(':') + 1)) >= 1 && int(self.substring(self.lastIndexOf(':') + 1)) <= 65535").message("the port must be 1 to 65535"))]
    pub address: Option<String>,
    /// How long the certificate lives, 1h to 8760h. Default 2160h, which is 90 days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), regex(pattern = r"^([0-9]+h)?([0-9]+m)?([0-9]+s)?$"))]
    #[x_kube(validation = Rule::new("self != '' && duration(self) >= duration('1h') && duration(self) <= duration('8760h')").message("duration must be 1h to 8760h, such as 2160h"))]
    pub duration: Option<String>,
}

/// What the operator knows of a link.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RestPipeLinkStatus {
    /// The generation that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Accepted, IdentityIssued, Injected, Connected, Ready.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    #[schemars(length(max = 16))]
    pub conditions: Vec<Condition>,
    /// The hostname under which the client is called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub hostname: Option<String>,
    /// NAMESPACE/NAME of the server, or the address of an external one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 261))]
    pub server: Option<String>,
    /// The client's certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<LinkIdentity>,
    /// The routing record: pipes of this client that are up; at most 20.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub connections: Vec<Connection>,
    /// Pods that are annotated and have no sidecar, by name; at most 20.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20), inner(length(max = 253)))]
    pub pods_without_sidecar: Vec<String>,
}

/// The client's certificate.
pub type LinkIdentity = IdentityStatus;

/// One pipe that is up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Connection {
    /// The client's pod, if it is one of this cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub pod: Option<String>,
    /// What the client calls itself.
    #[schemars(length(max = 253))]
    pub instance: String,
    /// The server's pod that holds the pipe.
    #[schemars(length(max = 253))]
    pub server: String,
    /// Where the client is, as the server sees it.
    #[schemars(length(max = 64))]
    pub address: String,
    /// Since when.
    pub since: Time,
}
