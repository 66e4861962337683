//! The process that answers the API server when a pod is created.
//!
//! Its answers depend on the pod alone; what it knows of servers and links makes warnings only. So
//! it needs neither the API server nor the controller once it has its certificate, and any number
//! of it run side by side.

mod certificate;
mod links;
mod metrics;
pub mod review;
mod server;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::inject::{InjectOptions, PullPolicy};
use crate::process::{self, Admin};

pub use certificate::{Certificate, CertificateError, CertificateStore};
pub use links::Watched;
pub use metrics::Metrics;
pub use server::{INJECT_PATH, MAX_BODY, Server};

/// How long an ending webhook goes on answering. API servers and kube-proxy hear only after a
/// while that it is going, and ask it until then (kubernetes#127335).
pub const LAME_DUCK: Duration = Duration::from_secs(15);

/// Settings of `restpipe-operator webhook`.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// Where the API server reaches the webhook, by HTTPS.
    #[arg(
        long,
        env = "RESTPIPE_OPERATOR_LISTEN",
        value_name = "ADDRESS:PORT",
        default_value = "[::]:9443"
    )]
    pub listen: SocketAddr,

    /// Directory with tls.crt, tls.key and ca.crt; read again when they change.
    #[arg(long, env = "RESTPIPE_OPERATOR_TLS_DIR", value_name = "DIR", default_value = "/tls")]
    pub tls_dir: PathBuf,

    /// Image of the sidecar.
    #[arg(long, env = "RESTPIPE_OPERATOR_SIDECAR_IMAGE", value_name = "IMAGE")]
    pub sidecar_image: String,

    /// When the image is pulled: Always, IfNotPresent or Never. Default: Kubernetes' own rule.
    #[arg(long, env = "RESTPIPE_OPERATOR_SIDECAR_PULL_POLICY", value_name = "POLICY")]
    pub sidecar_pull_policy: Option<PullPolicy>,

    /// CPU that a sidecar requests, unless its pod asks otherwise.
    #[arg(
        long,
        env = "RESTPIPE_OPERATOR_CPU_REQUEST",
        value_name = "QUANTITY",
        default_value = "10m"
    )]
    pub cpu_request: String,

    /// Memory that a sidecar requests, unless its pod asks otherwise.
    #[arg(
        long,
        env = "RESTPIPE_OPERATOR_MEMORY_REQUEST",
        value_name = "QUANTITY",
        default_value = "32Mi"
    )]
    pub memory_request: String,

    /// Memory that a sidecar may use, unless its pod asks otherwise.
    #[arg(
        long,
        env = "RESTPIPE_OPERATOR_MEMORY_LIMIT",
        value_name = "QUANTITY",
        default_value = "128Mi"
    )]
    pub memory_limit: String,

    /// Namespaces whose servers and links are known, separated by commas; none means all.
    #[arg(
        long,
        env = "RESTPIPE_OPERATOR_WATCH_NAMESPACES",
        value_name = "NAMESPACES",
        value_delimiter = ','
    )]
    pub watch_namespaces: Vec<String>,

    /// What both processes have.
    #[command(flatten)]
    pub process: process::Options,
}

impl Options {
    fn inject(&self) -> anyhow::Result<InjectOptions> {
        let quantities = [&*self.cpu_request, &*self.memory_request, &*self.memory_limit];
        Ok(InjectOptions::new(&self.sidecar_image, self.sidecar_pull_policy, quantities)?)
    }
}

/// Runs until SIGTERM.
///
/// # Errors
/// If it cannot start.
pub async fn run(options: Options) -> anyhow::Result<()> {
    process::init_logging(&options.process.log, options.process.log_format)?;
    let inject = options.inject()?;
    let registry = process::registry()?;
    let metrics = Arc::new(Metrics::new(&registry)?);
    let listener = process::bind("--listen", options.listen)?;
    let admin = process::bind("--admin", options.process.admin)?;
    let stop = process::stop_on_signals()?;
    let end = end_after(LAME_DUCK, stop.clone());

    let store = CertificateStore::new(options.tls_dir.clone(), metrics.clone());
    let certificate = store.certificate();
    let links = Arc::new(Watched::new(&options.watch_namespaces));
    tokio::spawn(store.run(end.clone()));
    match kube::Client::try_default().await {
        Ok(client) => links.watch(&client, &end),
        // It only warns less then.
        Err(error) => warn!(%error, "servers and links are not known: no access to the API server"),
    }

    let (ending, current) = (stop.clone(), certificate.clone());
    let ready = move || match ending.is_cancelled() {
        true => Err("the process is ending".to_owned()),
        false => current.check_ready(),
    };
    tokio::spawn(Admin::new(registry, ready).run(admin, end.clone()));

    info!(listen = %options.listen, version = env!("CARGO_PKG_VERSION"), "the webhook runs");
    Server::new(inject, links, metrics, certificate).run(listener, end).await;
    info!("the webhook has ended");
    Ok(())
}

/// A token that is cancelled some time after `stop` is.
fn end_after(time: Duration, stop: CancellationToken) -> CancellationToken {
    let end = CancellationToken::new();
    let token = end.clone();
    tokio::spawn(async move {
        stop.cancelled().await;
        tokio::time::sleep(time).await;
        token.cancel();
    });
    end
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        options: Options,
    }

    #[tokio::test]
    async fn the_end_comes_some_time_after_it_was_asked_for() {
        let stop = CancellationToken::new();
        let (soon, late) =
            (end_after(Duration::ZERO, stop.clone()), end_after(LAME_DUCK, stop.clone()));
        assert!(!soon.is_cancelled());
        stop.cancel();
        soon.cancelled().await;
        assert!(!late.is_cancelled());
    }

    #[test]
    fn settings_have_defaults_and_name_the_flag_that_is_wrong() {
        let parse = |more: &[&str]| {
            let args = ["x", "--sidecar-image", "i"].iter().chain(more);
            Cli::try_parse_from(args).map(|cli| cli.options)
        };
        let options = parse(&["--watch-namespaces", "a,b"]).expect("good");
        assert_eq!(options.watch_namespaces, ["a", "b"]);
        assert!(options.inject().is_ok());
        let options = parse(&["--memory-limit", "1"]).expect("a text");
        let error = options.inject().expect_err("too small").to_string();
        assert!(error.starts_with("--memory-limit is \"1\""), "{error}");
        let error = parse(&["--sidecar-pull-policy", "x"]).expect_err("none").to_string();
        assert!(error.contains("give Always, IfNotPresent or Never"), "{error}");
    }
}
