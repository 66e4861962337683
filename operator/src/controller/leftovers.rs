//! CAs of servers that are gone. Everything else has an owner, and Kubernetes deletes it; these
//! are in another namespace than their owner would be.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, ListParams, Preconditions};
use kube::core::PartialObjectMeta;
use kube::{Api, ResourceExt};
use restpipe_api::names::{self, MANAGED_BY};
use restpipe_api::{RestPipeServer, pods};
use tokio::time::{sleep, timeout};

use super::context::Context;
use super::world::key_of;

/// How often they are looked for without anybody's asking.
const EVERY: Duration = Duration::from_secs(3600);

/// After a failure.
const PAUSE: Duration = Duration::from_secs(30);

/// Annotation of a CA Secret: namespace and name of its server.
const OF: &str = "restpipe.io/of";

/// Deletes them when a server goes, and every hour.
pub(super) async fn run(context: Arc<Context>) {
    loop {
        match sweep(&context).await {
            Ok(()) => {
                let _ = timeout(EVERY, context.leftovers.notified()).await;
            }
            Err(error) => {
                tracing::warn!(%error, "CAs of deleted servers are not deleted; trying again");
                sleep(PAUSE).await;
            }
        }
    }
}

async fn sweep(context: &Context) -> anyhow::Result<()> {
    let client = context.clients.working.clone();
    let api: Api<PartialObjectMeta<Secret>> = Api::namespaced(client, &context.namespace);
    let ours = format!("{}={},{}", MANAGED_BY.0, MANAGED_BY.1, pods::SERVER);
    for secret in api.list(&ListParams::default().labels(&ours)).await? {
        let name = secret.name_any();
        let Some(uid) = name.strip_prefix(&names::ca_secret("")) else { continue };
        if context.world.server_of_uid(uid).is_some() || !is_gone(context, &secret, uid).await? {
            continue;
        }
        context.gate.check()?;
        let preconditions =
            Preconditions { uid: secret.uid(), resource_version: secret.resource_version() };
        let params = DeleteParams { preconditions: Some(preconditions), ..Default::default() };
        let api: Api<Secret> = Api::namespaced(context.clients.working.clone(), &context.namespace);
        match api.delete(&name, &params).await {
            Ok(_) => tracing::info!(secret = name, "deleted the CA of a server that is gone"),
            // Somebody was faster.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
            Err(error) => return Err(error.into()),
        }
        context.secret_versions.forget(&key_of(&secret));
    }
    Ok(())
}

/// A lost CA is lost for ever: what the watch does not show is asked for once more, and CAs of
/// namespaces that are not watched (any more) are nobody's to delete.
async fn is_gone(
    context: &Context,
    secret: &PartialObjectMeta<Secret>,
    uid: &str,
) -> anyhow::Result<bool> {
    let Some((namespace, server)) = secret.annotations().get(OF).and_then(|of| of.split_once('/'))
    else {
        return Ok(false);
    };
    if !context.scope.covers(namespace) {
        return Ok(false);
    }
    let api: Api<RestPipeServer> = Api::namespaced(context.clients.working.clone(), namespace);
    let found = api.get_opt(server).await?;
    Ok(found.and_then(|found| found.uid()).as_deref() != Some(uid))
}
