//! A node while it runs, and how it ends.

use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Link, Node, Reload};
use crate::admin;
use crate::gateway::Gateway;
use crate::hooks;
use crate::names::Names;
use crate::router::Router;
use crate::telemetry::Statsd;

/// How often node.toml is looked at for names that were added or cut off.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What is left to do after the drain gets this long.
const LAST_MOMENT: Duration = Duration::from_millis(500);

/// How often a draining node looks whether its last request has ended.
const DRAIN_LOOK: Duration = Duration::from_millis(20);

/// Tasks that the node cannot be without, by name.
#[derive(Default)]
struct Vital(JoinSet<&'static str>);

impl Vital {
    fn spawn(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.0.spawn(async move {
            task.await;
            name
        });
    }

    /// Waits until one has ended, which none does by itself.
    async fn ended(&mut self) -> String {
        match self.0.join_next().await {
            Some(Ok(name)) => name.to_owned(),
            Some(Err(error)) => error.to_string(),
            None => "everything".to_owned(),
        }
    }
}

impl Node {
    /// Runs until `stop`, then drains.
    ///
    /// # Errors
    /// If a part that the node cannot be without has ended.
    pub async fn run(self, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
        self.say_where();
        let Self {
            settings,
            gateway,
            gateways,
            admin,
            store,
            link,
            router,
            names,
            presence,
            recorder,
            reload,
            ..
        } = self;
        let (serving, linking, rest) =
            (CancellationToken::new(), CancellationToken::new(), CancellationToken::new());

        let mut vital = Vital::default();
        let connections = Arc::new(Semaphore::new(settings.limits.max_connections));
        for bound in gateways {
            vital
                .spawn("gateway", bound.run(gateway.clone(), connections.clone(), serving.clone()));
        }
        if let Some((listener, state)) = admin {
            vital.spawn("admin port", admin::run(listener, state, rest.clone()));
        }
        vital.spawn("identity watch", store.run(rest.clone()));
        vital.spawn("hooks", hooks::run(settings.hooks.clone(), presence, rest.clone()));
        if let Some(statsd) = recorder.statsd().cloned() {
            vital.spawn("statsd", flush_statsd(statsd, rest.clone()));
        }
        if let Some(reload) = reload {
            vital.spawn("settings watch", follow_names(reload, names, rest.clone()));
        }
        let mut linked = tokio::spawn(run_link(link, linking.clone()));

        tokio::select! {
            biased;
            name = vital.ended() => bail!("{name} ended by itself: this is a fault of restpipe"),
            ended = &mut linked => bail!("the pipes' task ended by itself ({ended:?}): this is a fault of restpipe"),
            () = stop => {}
        }

        linking.cancel();
        drain(settings.pipe.drain, &gateway, &router, linked).await;
        serving.cancel();
        rest.cancel();
        let ended = async { while vital.0.join_next().await.is_some() {} };
        // A caller that keeps its connection open cannot hold the node.
        let _ = tokio::time::timeout(LAST_MOMENT, ended).await;
        info!("stopped");
        Ok(())
    }
}

/// Finishes what runs, for as long as `grace`, and cuts the rest off.
async fn drain(grace: Duration, gateway: &Gateway, router: &Router, linked: JoinHandle<()>) {
    info!(?grace, in_flight = gateway.in_flight(), "stopping: running calls are finished first");
    gateway.drain();
    router.drain("the node is stopping");
    let drained = async {
        // Ends with the last pipe.
        let _ = linked.await;
        while gateway.in_flight() > 0 {
            tokio::time::sleep(DRAIN_LOOK).await;
        }
    };
    if tokio::time::timeout(grace, drained).await.is_err() {
        warn!(
            in_flight = gateway.in_flight(),
            "the drain time is over: what still runs is cut off"
        );
        router.close("the drain time is over");
    }
}

async fn run_link(link: Link, stop: CancellationToken) {
    match link {
        Link::Dial(dialer) => dialer.run(stop).await,
        Link::Listen(listener) => listener.run(stop).await,
    }
}

async fn flush_statsd(statsd: Arc<Statsd>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep(crate::telemetry::FLUSH_EVERY) => statsd.flush(),
        }
    }
    statsd.flush();
}

/// Follows the lists of names in the settings. Everything else in them counts
/// from the next start on.
async fn follow_names(mut reload: Reload, names: Names, stop: CancellationToken) {
    let mut said = None;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        match reload() {
            None => {}
            Some(Ok(settings)) => {
                names.follow(super::names(&settings));
                said = None;
            }
            Some(Err(error)) => {
                let error = Some(error.to_string());
                if said != error {
                    let error = error.as_deref();
                    warn!(error, "settings cannot be read again, the names of before stay");
                }
                said = error;
            }
        }
    }
}
