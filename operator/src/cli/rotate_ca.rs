//! `restpipe-operator rotate-ca`: a new CA for a server, step by step and without a failed call.

use anyhow::Context;
use kube::Api;
use kube::api::{Patch, PatchParams};
use restpipe_api::{CaPhase, RestPipeServer, names};
use serde_json::json;

use super::stdout;
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

    /// Have the rotation that is under way go on without clients outside of the cluster. Those that
    /// it waits for (status.ca.waitingFor) are locked out until they are exported again.
    #[arg(long)]
    go_on: bool,
}

/// Runs it.
pub(super) async fn run(options: Options) -> anyhow::Result<()> {
    let name = options.target.name(Kind::Server, "server/NAME")?;
    let client = client().await?;
    let namespace = options.namespace.unwrap_or_else(|| client.default_namespace().to_owned());
    let api: Api<RestPipeServer> = Api::namespaced(client, &namespace);
    let server = get(&api, name, &namespace).await?;
    if options.go_on {
        return go_on(&api, &server, name, &namespace).await;
    }
    if let Some(secret) = server.spec.identity.ca_secret_name {
        anyhow::bail!(
            "the CA of {namespace}/{name} is your own: put another one into the Secret {secret}, \
             and it is taken over step by step"
        );
    }
    annotate(&api, name, &namespace, names::ROTATE_CA).await?;
    stdout::write(&format!(
        "The CA of {namespace}/{name} is being replaced. Its state goes from Spreading over \
         Switching back to Stable; pipes stay up. To follow it:\n\n  \
         kubectl get restpipeserver {name} -n {namespace} -w \
         -o custom-columns=CA:.status.ca.phase,WAITING-FOR:.status.ca.waitingFor\n"
    ))
}

/// Has a rotation go on that waits for clients outside of the cluster.
async fn go_on(
    api: &Api<RestPipeServer>,
    server: &RestPipeServer,
    name: &str,
    namespace: &str,
) -> anyhow::Result<()> {
    let ca = server.status.as_ref().and_then(|status| status.ca.as_ref());
    let Some(ca) = ca.filter(|ca| ca.phase != CaPhase::Stable) else {
        anyhow::bail!(
            "no rotation of the CA of {namespace}/{name} is under way: without --go-on this starts one"
        );
    };
    annotate(api, name, namespace, names::ROTATE_CA_GO_ON).await?;
    let mut text = format!(
        "The rotation of the CA of {namespace}/{name} goes on without clients outside of the cluster.\n"
    );
    if !ca.waiting_for.is_empty() {
        text += &format!(
            "It waited for: {}. Those outside are locked out until they are exported again \
             (restpipe-operator export link/NAME); pods are waited for as before.\n",
            ca.waiting_for.join(", ")
        );
    }
    stdout::write(&text)
}

async fn annotate(
    api: &Api<RestPipeServer>,
    name: &str,
    namespace: &str,
    annotation: &str,
) -> anyhow::Result<()> {
    let patch = json!({"metadata": {"annotations": {annotation: fresh_value()}}});
    api.patch(name, &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .with_context(|| format!("cannot annotate the RestPipeServer {namespace}/{name}"))?;
    Ok(())
}
