//! Leader election: of several replicas one works, and it stops before another may begin.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client};
use kube_lease_manager::{LeaseManager, LeaseManagerBuilder};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::clients::LEASE_TIMEOUT;

/// How long a lease is valid: client-go's default, and as long as a stopped leader delays things.
const DURATION: Duration = Duration::from_secs(15);

/// How long before its end the lease is renewed: time for one more try after a timeout.
const GRACE: Duration = Duration::from_secs(5);

/// How often the leader looks at its lease: several times within [`GRACE`], so that the gate
/// never closes while renewal works.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// How often one that waits looks whether the lease was released: about the time by which a leader
/// that is stopped is followed. One small request, of each replica that waits.
const LOOK_FREE_EVERY: Duration = Duration::from_secs(1);

/// Pause after a failure.
const PAUSE: Duration = Duration::from_secs(1);

/// Whether this process may write. Open as long as the lease is known to be ours, by this
/// machine's monotonic clock: a leader that was frozen, or cut off from the API server for longer
/// than the lease is valid, finds it closed before it can disturb the next one.
#[derive(Debug)]
pub(super) struct Gate {
    origin: Instant,
    until_millis: AtomicU64,
    closed_logged: AtomicBool,
}

/// The lease is not known to be ours.
#[derive(Debug, thiserror::Error)]
#[error("the lease could not be renewed in time: nothing is written until it is ours again")]
pub(super) struct Closed;

impl Gate {
    /// Closed.
    pub(super) fn new() -> Self {
        Self {
            origin: Instant::now(),
            until_millis: AtomicU64::new(0),
            closed_logged: AtomicBool::new(false),
        }
    }

    /// Opens it until then.
    pub(super) fn open_until(&self, at: Instant) {
        let millis = at.saturating_duration_since(self.origin).as_millis();
        self.until_millis.store(u64::try_from(millis).unwrap_or(u64::MAX), Ordering::SeqCst);
        if self.closed_logged.swap(false, Ordering::Relaxed) {
            tracing::info!("the lease is ours again");
        }
    }

    /// Whether writing is allowed now.
    ///
    /// # Errors
    /// [`Closed`] if not.
    pub(super) fn check(&self) -> Result<(), Closed> {
        let now = u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX);
        if now < self.until_millis.load(Ordering::SeqCst) {
            return Ok(());
        }
        if !self.closed_logged.swap(true, Ordering::Relaxed) {
            tracing::warn!("{Closed}");
        }
        Err(Closed)
    }
}

/// Another replica leads.
#[derive(Debug)]
pub(super) struct Lost {
    holder: Option<String>,
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.holder {
            Some(holder) => write!(f, "the lease was lost to {holder}"),
            None => f.write_str("the lease was lost"),
        }?;
        f.write_str(": this replica ends and starts anew as a standby")
    }
}

impl std::error::Error for Lost {}

/// This replica's part in the election.
pub(super) struct Election {
    manager: LeaseManager,
    client: Client,
    namespace: String,
    name: String,
    identity: String,
    gate: Arc<Gate>,
}

impl Election {
    /// Takes part, as soon as the API server answers.
    pub(super) async fn new(client: Client, namespace: &str, name: &str, identity: &str) -> Self {
        Self {
            manager: manager(&client, namespace, name, identity).await,
            client,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            identity: identity.to_owned(),
            gate: Arc::new(Gate::new()),
        }
    }

    /// What every write has to ask.
    pub(super) fn gate(&self) -> Arc<Gate> {
        Arc::clone(&self.gate)
    }

    /// Returns once this replica leads.
    pub(super) async fn campaign(&mut self) {
        loop {
            let won = tokio::select! {
                leads = self.changed() => leads,
                () = self.is_released() => false,
            };
            if !won {
                // The manager would sleep until the lease that it knows had ended. A new one looks
                // first, and finds the lease free, or ours if it was taken a moment ago.
                let Self { client, namespace, name, identity, .. } = &*self;
                self.manager = manager(client, namespace, name, identity).await;
                continue;
            }
            // Between the two, another may have been faster.
            match self.look().await {
                Ok(None) => return,
                Ok(Some(_)) => {}
                Err(()) => sleep(PAUSE).await,
            }
        }
    }

    /// Returns once nobody has the lease, though its time may not be over.
    async fn is_released(&self) {
        loop {
            sleep(LOOK_FREE_EVERY).await;
            if let Ok(Some(Lost { holder: None })) = self.look().await {
                return;
            }
        }
    }

    /// Returns once another replica leads.
    pub(super) async fn hold(&self) -> Lost {
        let renewed = async {
            while self.changed().await {}
            // Only to name who has it.
            self.look().await.ok().flatten().unwrap_or(Lost { holder: None })
        };
        let looked = async {
            let mut ticks = interval(LOOK_EVERY);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                if let Ok(Some(lost)) = self.look().await {
                    return lost;
                }
            }
        };
        tokio::select! {
            lost = looked => lost,
            lost = renewed => lost,
        }
    }

    /// Lets another replica lead at once. A lease that cannot be released ends by itself.
    pub(super) async fn release(self) {
        match timeout(LEASE_TIMEOUT, self.manager.release()).await {
            Ok(Ok(())) => tracing::info!("the lease is released"),
            Ok(Err(error)) => {
                tracing::warn!(%error, "the lease is not released and ends by itself")
            }
            Err(_) => tracing::warn!("the lease is not released in time and ends by itself"),
        }
    }

    /// The next change of leadership; errors (an API server that is away) only delay it.
    async fn changed(&self) -> bool {
        loop {
            match self.manager.changed().await {
                Ok(leads) => return leads,
                Err(error) => tracing::debug!(%error, "the lease is not renewed"),
            }
            sleep(PAUSE).await;
        }
    }

    /// Looks at the lease itself and opens the gate for as long as it is ours.
    async fn look(&self) -> Result<Option<Lost>, ()> {
        let asked = Instant::now();
        let api: Api<Lease> = Api::namespaced(self.client.clone(), &self.namespace);
        let lease = match timeout(LEASE_TIMEOUT, api.get(&self.name)).await {
            Ok(Ok(lease)) => lease,
            Ok(Err(error)) => {
                tracing::debug!(%error, "the lease cannot be read");
                return Err(());
            }
            Err(_) => return Err(()),
        };
        let spec = lease.spec.ok_or(())?;
        match spec.holder_identity {
            Some(holder) if holder == self.identity => {}
            holder => return Ok(Some(Lost { holder })),
        }
        let renewed = spec.renew_time.map(|at| SystemTime::from(at.0)).ok_or(())?;
        // Both times are of this machine's clock: only the holder writes them.
        let age = SystemTime::now().duration_since(renewed).unwrap_or_default();
        self.gate.open_until(asked + DURATION.saturating_sub(age));
        Ok(None)
    }
}

/// What takes and renews the lease, as soon as the API server answers.
async fn manager(client: &Client, namespace: &str, name: &str, identity: &str) -> LeaseManager {
    let mut told = false;
    loop {
        let builder = LeaseManagerBuilder::new(client.clone(), name)
            .with_namespace(namespace)
            .with_identity(identity)
            .with_field_manager(restpipe_api::names::FIELD_MANAGER)
            .with_duration(DURATION.as_secs())
            .with_grace(GRACE.as_secs());
        match builder.build().await {
            Ok(manager) => return manager,
            Err(error) if !told => {
                told = true;
                tracing::warn!(%error, lease = name, namespace, "the lease cannot be read or made; trying on");
            }
            Err(error) => tracing::debug!(%error, "the lease cannot be read or made"),
        }
        sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests;
