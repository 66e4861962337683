//! The process that reconciles.
//!
//! [`watches`] mirrors what is of interest, [`world`] indexes it, and what changes asks ([`changes`]), by
//! [`triggers`], for the reconciles of those whom it concerns. A reconcile ([`server`], [`link`])
//! gathers what is there, has [`plan`](crate::plan) decide, and writes what differs ([`apply`],
//! [`status`]).
//! Everything is done by one replica, the one that holds the lease ([`lease`]).

mod apply;
mod backoff;
mod changes;
mod clients;
mod context;
mod controllers;
mod error;
mod events;
mod follow;
mod lease;
mod leftovers;
mod link;
mod look;
mod metrics;
mod mirror;
mod pods;
mod prime;
mod progress;
mod run;
mod scope;
mod server;
mod status;
mod triggers;
mod views;
mod watches;
mod webhook_certificate;
mod world;
mod written;

use std::time::{Duration, SystemTime};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::process;

/// Longest time without a look at an object: whatever an event or a clock should have told, and
/// did not, is seen to then.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// Settings of `restpipe-operator controller`.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// The namespace that this runs in: of the lease, of the CAs, and of the webhook.
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAMESPACE")]
    namespace: String,

    /// The name of this pod, by which replicas know each other.
    #[arg(long, env = "POD_NAME", value_name = "NAME")]
    pod_name: String,

    /// Namespaces to look after, separated by commas; all unless given.
    #[arg(
        long,
        env = "RESTPIPE_OPERATOR_WATCH_NAMESPACES",
        value_name = "NAMESPACES",
        value_delimiter = ','
    )]
    watch_namespaces: Vec<String>,

    /// The Lease by which one replica leads.
    #[arg(
        long,
        env = "RESTPIPE_OPERATOR_LEASE_NAME",
        value_name = "NAME",
        default_value = "restpipe-controller"
    )]
    lease_name: String,

    /// The Service of the webhook.
    #[arg(
        long,
        env = "RESTPIPE_OPERATOR_WEBHOOK_SERVICE",
        value_name = "NAME",
        default_value = "restpipe-webhook"
    )]
    webhook_service: String,

    /// The MutatingWebhookConfiguration whose caBundle is kept.
    #[arg(
        long,
        env = "RESTPIPE_OPERATOR_WEBHOOK_CONFIGURATION",
        value_name = "NAME",
        default_value = "restpipe-webhook"
    )]
    webhook_configuration: String,

    /// The Secret that the webhook serves with.
    #[arg(
        long,
        env = "RESTPIPE_OPERATOR_WEBHOOK_TLS_SECRET",
        value_name = "NAME",
        default_value = "restpipe-webhook-tls"
    )]
    webhook_tls_secret: String,

    /// The Secret of the webhook's CA.
    #[arg(
        long,
        env = "RESTPIPE_OPERATOR_WEBHOOK_CA_SECRET",
        value_name = "NAME",
        default_value = "restpipe-webhook-ca"
    )]
    webhook_ca_secret: String,

    /// How long each phase of a CA's rotation lasts at least, for pods that tell nothing yet because
    /// they are just starting: not less than kubelet takes to bring a changed Secret to a pod, which
    /// is its sync period (1m) and the lifetime of its cache.
    #[arg(
        long,
        env = "RESTPIPE_OPERATOR_CA_SPREAD_TIME",
        value_name = "DURATION",
        value_parser = humantime::parse_duration,
        default_value = "2m"
    )]
    ca_spread_time: Duration,

    /// How long a former CA of the webhook's certificate stays trusted, for webhooks that serve with
    /// the former certificate still: a node that is overloaded takes several times what kubelet needs
    /// to bring a changed Secret to a pod.
    #[arg(
        long,
        env = "RESTPIPE_OPERATOR_WEBHOOK_CA_OVERLAP",
        value_name = "DURATION",
        value_parser = humantime::parse_duration,
        default_value = "10m"
    )]
    webhook_ca_overlap: Duration,

    #[command(flatten)]
    process: process::Options,
}

/// Runs until SIGTERM.
///
/// # Errors
/// If it cannot start, or has lost the lease.
pub async fn run(options: Options) -> anyhow::Result<()> {
    run::run(options).await
}

/// When to look again: what the plan says, but not for ever.
fn capped(again_in: Option<Duration>) -> Duration {
    again_in.unwrap_or(LONGEST_WAIT).min(LONGEST_WAIT)
}

fn system_time(time: &Time) -> SystemTime {
    time.0.into()
}

#[cfg(test)]
mod tests;
