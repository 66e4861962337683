//! The leaf Secrets of all links, before the first reconcile: a rotation that was under way when
//! this process began must not take them for missing.

use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::api::ListParams;
use restpipe_api::names::MANAGED_BY;
use restpipe_api::pods;
use tokio::time::sleep;

use super::apply::{seen, without_key};
use super::context::Context;
use super::scope::api;
use super::world::{beside, key_of};
use crate::readable::{Readable, readable};

/// Secrets per answer: a few MiB with their keys, which are dropped at once.
const PAGE: u32 = 250;

/// After a failure.
const PAUSE: Duration = Duration::from_secs(2);

/// Reads them, as soon as the API server answers.
pub(super) async fn run(context: &Context) {
    for part in context.scope.parts() {
        while let Err(error) = read(context, part.as_ref()).await {
            tracing::warn!(%error, "the Secrets of links cannot be listed; trying on");
            sleep(PAUSE).await;
        }
    }
}

async fn read(context: &Context, part: Option<&String>) -> kube::Result<()> {
    let api = readable(api::<Secret>(&context.clients.working, part));
    let ours = format!("{}={},{}", MANAGED_BY.0, MANAGED_BY.1, pods::LINK);
    let mut params = ListParams::default().labels(&ours).limit(PAGE);
    loop {
        let page = api.list(&params).await?;
        for Readable(secret) in page.items {
            let Some(link) = secret.labels().get(pods::LINK) else { continue };
            let key = beside(&key_of(&secret), link);
            let owner = context.world.link(&key).and_then(|link| link.uid());
            let secret = seen(secret);
            if owner.is_some() && secret.owner == owner {
                context.world.set_link_secret(&key, Some(without_key(secret).into()));
            }
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(()),
        }
    }
}
