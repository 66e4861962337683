//! Parts that both kinds have.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Names of pods and nodes that a status lists; more are counted only, so that
/// an object stays far below the 1.5 MiB that etcd takes.
pub const MAX_NAMES_LISTED: usize = 20;

/// The certificate in a Secret.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IdentityStatus {
    /// The Secret that holds the node directory: tls.crt, tls.key, ca.crt and node.toml.
    #[schemars(length(max = 253))]
    pub secret_name: String,
    /// The one DNS name in the certificate.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Serial number of the certificate, in hex.
    #[schemars(length(max = 64))]
    pub serial: String,
    /// When the certificate was issued.
    pub not_before: Time,
    /// When the certificate ends.
    pub not_after: Time,
    /// When it is renewed; not set for identities that were exported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renewal_time: Option<Time>,
}
