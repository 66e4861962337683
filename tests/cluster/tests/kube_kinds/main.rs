//! The kinds, as a real API server takes and refuses them. Nothing of the operator runs.

mod columns;
mod immutable;
mod refused;
mod schema;

use std::sync::OnceLock;

use restpipe_cluster_tests::{Cluster, Release, SYSTEM};

/// The chart's definitions, in the API of the run.
fn cluster() -> Cluster {
    static INSTALLED: OnceLock<()> = OnceLock::new();
    let cluster = Cluster::api_only();
    INSTALLED.get_or_init(|| drop(Release::install(&cluster, "restpipe", SYSTEM, &[])));
    cluster
}

/// An object of ours, as JSON.
fn object(kind: &str, name: &str, spec: &str) -> String {
    format!(
        r#"{{"apiVersion":"restpipe.io/v1alpha1","kind":"{kind}","metadata":{{"name":"{name}"}},"spec":{spec}}}"#
    )
}
