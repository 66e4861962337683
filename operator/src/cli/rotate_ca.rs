//! `restpipe-operator rotate-ca`: a new CA for a server, step by step and without a failed call.

use anyhow::Context;
use kube::Api;
use kube::api::{Patch, PatchParams};
use restpipe_api::{RestPipeServer, names};
use serde_json::json;

use super::target::{Kind, Target, client, fresh_value, get};

/// Settings of `restpipe-operator rotate-ca`.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct Options {
    /// The server, as server/NAME.
    #[arg(value_name = "server/NAME")]
    target: Target,

    /// Its namespace; that of the kubeconfig's context unless given.
    #[arg(long, short, value_name = "NAMESPACE")]
    namespace: Option<String>,
}

/// Runs it.
pub(super) async fn run(options: Options) -> anyhow::Result<()> {
    let name = options.target.name(Kind::Server, "server/NAME")?;
    let client = client().await?;
    let namespace = options.namespace.unwrap_or_else(|| client.default_namespace().to_owned());
    let api: Api<RestPipeServer> = Api::namespaced(client, &namespace);
    let server = get(&api, name, &namespace).await?;
    if let Some(secret) = server.spec.identity.ca_secret_name {
        anyhow::bail!(
            "the CA of {namespace}/{name} is your own: put another one into the Secret {secret}, \
             and it is taken over step by step"
        );
    }
    let patch = json!({"metadata": {"annotations": {names::ROTATE_CA: fresh_value()}}});
    api.patch(name, &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .with_context(|| format!("cannot annotate the RestPipeServer {namespace}/{name}"))?;
    println!(
        "The CA of {namespace}/{name} is being replaced. Its state goes from Spreading over \
         Switching back to Stable; pipes stay up. To follow it:\n\n  \
         kubectl get restpipeserver {name} -n {namespace} -w \
         -o custom-columns=CA:.status.ca.phase,WAITING-FOR:.status.ca.waitingFor"
    );
    Ok(())
}
