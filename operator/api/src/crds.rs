//! The custom resource definitions as they are installed.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON,
};
use kube::CustomResourceExt;

use crate::{RestPipeLink, RestPipeServer};

/// Both definitions: servers, then links.
#[must_use]
pub fn crds() -> [CustomResourceDefinition; 2] {
    let mut server = RestPipeServer::crd();
    // Every field of a server has a default, so nobody should have to write `spec: {}`.
    for version in &mut server.spec.versions {
        let root = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut());
        let Some(root) = root else { continue };
        root.required = None;
        if let Some(spec) = root.properties.as_mut().and_then(|fields| fields.get_mut("spec")) {
            spec.default = Some(JSON(serde_json::json!({})));
        }
    }
    [server, RestPipeLink::crd()]
}
