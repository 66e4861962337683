//! `restpipe-operator check`: whether RestPipe can work in a cluster, and whether it does; each
//! look has a line, and what fails says the cure.

mod look;
mod report;

use std::process::ExitCode;

use clap::ValueEnum;

use look::Cluster;
use report::Report;

use super::{stdout, target};

/// Settings of `restpipe-operator check`.
#[derive(clap::Args, Clone, Debug)]
pub(super) struct Options {
    /// Look whether RestPipe can be installed, and at nothing else.
    #[arg(long)]
    pre: bool,

    /// Servers, links and pods of this namespace only.
    #[arg(long, short, value_name = "NAMESPACE")]
    namespace: Option<String>,

    /// Namespaces that RestPipe was installed for, with commas; none: all.
    #[arg(
        long,
        env = "RESTPIPE_OPERATOR_WATCH_NAMESPACES",
        value_name = "NAMESPACES",
        value_delimiter = ','
    )]
    watch_namespaces: Vec<String>,

    /// The namespace of the release.
    #[arg(
        long,
        env = "POD_NAMESPACE",
        value_name = "NAMESPACE",
        default_value = "restpipe-system"
    )]
    system_namespace: String,

    /// The controller's lease, which is also called as its Deployment.
    #[arg(
        long,
        env = "RESTPIPE_OPERATOR_LEASE_NAME",
        value_name = "NAME",
        default_value = "restpipe-controller"
    )]
    lease_name: String,

    /// The webhook's Service, which is also called as its Deployment.
    #[arg(
        long,
        env = "RESTPIPE_OPERATOR_WEBHOOK_SERVICE",
        value_name = "NAME",
        default_value = "restpipe-webhook"
    )]
    webhook_service: String,

    /// The MutatingWebhookConfiguration.
    #[arg(
        long,
        env = "RESTPIPE_OPERATOR_WEBHOOK_CONFIGURATION",
        value_name = "NAME",
        default_value = "restpipe-webhook"
    )]
    webhook_configuration: String,

    /// How to print what was found.
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

/// How to print.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Output {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object.
    Json,
}

/// Looks at everything; status 0 if nothing failed, 1 if something did.
pub(super) async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let mut report = Report::default();
    match target::client().await {
        Ok(client) => {
            let cluster = Cluster { client, options: options.clone() };
            let reached = cluster.api(&mut report).await;
            if !reached {
                // The rest would say the same, once for each look.
            } else if options.pre {
                cluster.may_be_installed(&mut report).await;
            } else {
                let has_kinds = cluster.kinds(&mut report).await;
                cluster.control_plane(&mut report).await;
                cluster.webhook(&mut report).await;
                cluster.pods(&mut report).await;
                if has_kinds {
                    cluster.servers(&mut report).await;
                    cluster.links(&mut report).await;
                }
            }
        }
        Err(error) => report.failed(
            "kubernetes-api",
            "can be reached",
            &error.to_string(),
            "check the current context: `kubectl config current-context`, `kubectl version`",
        ),
    }
    let text = match options.output {
        Output::Text => report.text(),
        Output::Json => serde_json::to_string_pretty(&report.json())? + "\n",
    };
    stdout::write(&text)?;
    Ok(if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
