//! `restpipe-operator export`: what a link's client needs outside this cluster.

mod issue;
mod write;

use std::time::Duration;

use anyhow::Context;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use restpipe_api::RestPipeLink;

use self::write::{Destination, Identity};
use super::target::{Kind, Target, client, get};

/// Settings of `restpipe-operator export`.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct Options {
    /// The link, as link/NAME.
    #[arg(value_name = "link/NAME")]
    target: Target,

    /// Its namespace; that of the kubeconfig's context unless given.
    #[arg(long, short, value_name = "NAMESPACE")]
    namespace: Option<String>,

    #[command(flatten)]
    destination: Destination,

    /// Where the client reaches the server; the first of the server's endpoints unless given here
    /// or in spec.export.
    #[arg(long, value_name = "HOST:PORT")]
    address: Option<String>,

    /// How long the certificate lives, such as 2160h, which is 90 days and the default.
    #[arg(long, value_name = "DURATION")]
    duration: Option<String>,

    /// How long to wait for the operator, which takes a second unless it is away.
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration, default_value = "60s")]
    timeout: Duration,
}

/// Runs it.
pub(super) async fn run(options: Options) -> anyhow::Result<()> {
    let Options { target, namespace, destination, address, duration, timeout } = options;
    let name = target.name(Kind::Link, "link/NAME")?;
    let client = client().await?;
    let namespace = namespace.unwrap_or_else(|| client.default_namespace().to_owned());
    destination.check()?;
    let links: Api<RestPipeLink> = Api::namespaced(client.clone(), &namespace);
    let link = get(&links, name, &namespace).await?;
    anyhow::ensure!(
        link.spec.server.external.is_none(),
        "{namespace}/{name} is itself an imported client: export it from the cluster of its server"
    );
    let wanted = issue::Wanted { address, duration, timeout };
    let status = issue::exported(&links, &link, &namespace, wanted).await?;
    let issued = status.identity.context("the link has no identity")?;
    let secrets: Api<Secret> = Api::namespaced(client, &namespace);
    let secret = get(&secrets, &issued.secret_name, &namespace).await?;
    let hostname = status.hostname.unwrap_or_else(|| name.to_owned());
    let identity = Identity::of(name, hostname, secret)?;
    destination.write(&identity)?;
    identity.say(&issued.not_after.0.to_string());
    destination.say(&identity);
    Ok(())
}
