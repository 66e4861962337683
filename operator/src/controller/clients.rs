//! The clients of the API server.

use std::time::Duration;

use kube::{Client, Config};

/// How long the API server may take to be reached.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a request may be silent, for reading and writing each. A busy API server answers
/// within a second; beyond ten it is gone, and trying again is better than waiting.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// The same for the lease, which is valid for 15 seconds only: several tries have to fit in.
pub(super) const LEASE_TIMEOUT: Duration = Duration::from_secs(3);

/// One client for each kind of use. Nobody repeats requests by itself (kube would, for up to
/// 15 times and 1000 seconds): watches, reconciles and the lease have their own ways to go on.
#[derive(Clone)]
pub(super) struct Clients {
    /// For watches, which are silent for minutes when nothing happens.
    pub(super) watching: Client,
    /// For everything that is answered at once.
    pub(super) working: Client,
    /// For the lease only, so that nothing else delays its renewal.
    pub(super) lease: Client,
}

impl Clients {
    /// By the environment of a pod, or by the user's kubeconfig.
    ///
    /// # Errors
    /// If there is neither, or it cannot be used.
    pub(super) async fn new() -> anyhow::Result<Self> {
        let mut config = Config::infer().await.map_err(|error| {
            anyhow::anyhow!(
                "no way to the API server is known ({error}): run this in a pod with a service \
                 account, or give a kubeconfig in KUBECONFIG"
            )
        })?;
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        config.default_retry = false;
        let watching = Client::try_from(config.clone())?;
        config.reset_reader_on_write = true;
        config.read_timeout = Some(REQUEST_TIMEOUT);
        config.write_timeout = Some(REQUEST_TIMEOUT);
        let working = Client::try_from(config.clone())?;
        config.connect_timeout = Some(LEASE_TIMEOUT);
        config.read_timeout = Some(LEASE_TIMEOUT);
        config.write_timeout = Some(LEASE_TIMEOUT);
        let lease = Client::try_from(config)?;
        Ok(Self { watching, working, lease })
    }
}
