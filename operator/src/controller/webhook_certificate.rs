//! The certificate that the webhook serves with: made here, so that the webhook needs no right to
//! write anything, and rotated so that the API server trusts the webhook at every moment.

mod decide;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use restpipe_api::names::{FIELD_MANAGER, MANAGED_BY, PART_OF, RENEW};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use self::decide::{Data, Facts, RENEWED, Step, next};
use super::context::Context;
use super::metrics::Leaf;
use crate::seen::Key;

/// The one webhook of the configuration.
const WEBHOOK: &str = "inject.restpipe.io";

/// Types of the two Secrets. The CA's is no TLS Secret: nothing should serve with it.
const CA_TYPE: &str = "restpipe.io/ca";
const TLS_TYPE: &str = "kubernetes.io/tls";

/// Steps in a row without a look at the clock: three are needed, more mean that somebody undoes
/// what is done.
const MAX_STEPS: usize = 6;

/// After a failure.
const PAUSE: Duration = Duration::from_secs(5);

/// Where everything is, and how long it lasts.
#[derive(Clone, Debug)]
pub(super) struct Places {
    /// The Service of the webhook.
    pub(super) service: String,
    /// The MutatingWebhookConfiguration.
    pub(super) configuration: String,
    /// The Secret that the webhook mounts.
    pub(super) tls_secret: String,
    /// The Secret of the CA.
    pub(super) ca_secret: String,
    /// How long a former CA stays in the bundle after the leaf of the new one was written.
    pub(super) ca_overlap: Duration,
}

/// Keeps it good, for ever.
pub(super) async fn run(context: Arc<Context>, places: Places) {
    let mut failures = 0_u32;
    loop {
        match settle(&context, &places).await {
            Ok(wait) => {
                failures = 0;
                let _ = timeout(wait, context.own_secrets.notified()).await;
            }
            Err(error) => {
                failures += 1;
                let error = format!("{error:#}");
                if failures == 1 {
                    tracing::warn!(error, "the webhook's certificate cannot be seen to; trying on");
                } else {
                    tracing::debug!(error, failures, "the webhook's certificate cannot be seen to");
                }
                sleep(PAUSE).await;
            }
        }
    }
}

async fn settle(context: &Context, places: &Places) -> anyhow::Result<Duration> {
    for _ in 0..MAX_STEPS {
        let (facts, ca) = look(context, places).await?;
        let step = next(&facts, places.ca_overlap, SystemTime::now())?;
        if let Step::Wait { again_in, not_after } = step {
            let key = Key { namespace: context.namespace.clone(), name: places.tls_secret.clone() };
            context.metrics.leaf(Leaf::Webhook, &key, Some(not_after));
            return Ok(again_in);
        }
        context.gate.check()?;
        take(context, places, step, ca.as_ref()).await?;
    }
    anyhow::bail!(
        "caBundle of {} or the Secrets {} and {} are changed by somebody else all the time: find \
         out who does, by their managedFields",
        places.configuration,
        places.ca_secret,
        places.tls_secret
    )
}

fn secrets(context: &Context) -> Api<Secret> {
    Api::namespaced(context.clients.working.clone(), &context.namespace)
}

fn configurations(context: &Context) -> Api<MutatingWebhookConfiguration> {
    Api::all(context.clients.working.clone())
}

async fn look(context: &Context, places: &Places) -> anyhow::Result<(Facts, Option<Secret>)> {
    let (secrets, configurations) = (secrets(context), configurations(context));
    let (ca, tls, configuration) = tokio::try_join!(
        secrets.get_opt(&places.ca_secret),
        secrets.get_opt(&places.tls_secret),
        configurations.get_opt(&places.configuration),
    )
    .context("cannot read the Secrets and the MutatingWebhookConfiguration")?;
    let webhooks = configuration.and_then(|configuration| configuration.webhooks);
    let webhook = webhooks.into_iter().flatten().find(|webhook| webhook.name == WEBHOOK);
    let annotation = |key: &str| ca.as_ref().and_then(|ca| ca.annotations().get(key).cloned());
    let facts = Facts {
        name: format!("{}.{}.svc", places.service, context.namespace),
        ca: ca.as_ref().map(data),
        renew: annotation(RENEW),
        renewed: annotation(RENEWED),
        tls: tls.as_ref().map(data),
        bundle: webhook.map(|webhook| {
            webhook.client_config.ca_bundle.map(|bundle| bundle.0).unwrap_or_default()
        }),
    };
    Ok((facts, ca))
}

fn data(secret: &Secret) -> Data {
    let fields = secret.data.iter().flatten();
    fields.map(|(key, value)| (key.clone(), value.0.clone())).collect()
}

async fn take(
    context: &Context,
    places: &Places,
    step: Step,
    ca: Option<&Secret>,
) -> anyhow::Result<()> {
    match step {
        Step::StoreCa { data, renewed, why } => {
            tracing::info!(why, "the CA of the webhook is written");
            store_ca(context, places, data, renewed, ca).await.context("cannot store the CA")?;
        }
        Step::Publish(bundle) => {
            tracing::info!("caBundle of the webhook's configuration is written");
            publish(context, places, bundle).await.context("cannot write caBundle")?;
        }
        Step::Serve(data) => {
            tracing::info!("a new certificate of the webhook is written");
            let mut secret = secret(context, &places.tls_secret, data);
            secret.type_ = Some(TLS_TYPE.to_owned());
            let params = PatchParams::apply(FIELD_MANAGER).force();
            let applied =
                secrets(context).patch(&places.tls_secret, &params, &Patch::Apply(&secret)).await;
            applied.context("cannot write the certificate")?;
        }
        Step::Wait { .. } => return Ok(()),
    }
    context.metrics.wrote("webhook");
    Ok(())
}

fn secret(context: &Context, name: &str, data: Data) -> Secret {
    let labels = [MANAGED_BY, PART_OF].map(|(key, value)| (key.to_owned(), value.to_owned()));
    Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(context.namespace.clone()),
            labels: Some(labels.into()),
            ..ObjectMeta::default()
        },
        data: Some(data.into_iter().map(|(key, value)| (key, ByteString(value))).collect()),
        ..Secret::default()
    }
}

/// Whoever comes second fails: the key of the bundle's CA must be the one that is stored.
async fn store_ca(
    context: &Context,
    places: &Places,
    data: Data,
    renewed: Option<String>,
    over: Option<&Secret>,
) -> anyhow::Result<()> {
    let mut wanted = secret(context, &places.ca_secret, data);
    let api = secrets(context);
    let Some(over) = over else {
        wanted.type_ = Some(CA_TYPE.to_owned());
        wanted.metadata.annotations = renewed.map(|value| [(RENEWED.to_owned(), value)].into());
        let params =
            PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..Default::default() };
        api.create(&params, &wanted).await?;
        return Ok(());
    };
    let mut patch = serde_json::to_value(&wanted)?;
    patch["metadata"]["resourceVersion"] = json!(over.resource_version());
    patch["metadata"]["annotations"] = json!({RENEWED: renewed});
    if let Some(fields) = patch["data"].as_object_mut() {
        for key in over.data.iter().flatten().map(|(key, _)| key) {
            fields.entry(key).or_insert(Value::Null);
        }
    }
    let params =
        PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..Default::default() };
    api.patch(&places.ca_secret, &params, &Patch::Merge(&patch)).await?;
    Ok(())
}

/// Only this field of the configuration is ours: Helm owns all others, and does not name this one.
async fn publish(context: &Context, places: &Places, bundle: Vec<u8>) -> kube::Result<()> {
    let patch = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "webhooks": [{"name": WEBHOOK, "clientConfig": {"caBundle": ByteString(bundle)}}],
    });
    let params = PatchParams::apply(FIELD_MANAGER).force();
    configurations(context).patch(&places.configuration, &params, &Patch::Apply(&patch)).await?;
    Ok(())
}
