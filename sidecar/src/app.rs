//! A node: everything bound, then everything run, then everything drained.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail};
use restpipe_config::{BindAddress, End, Role, Settings};
use restpipe_identity::{Credentials, Usage};
use restpipe_pipe::Budget;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::admin::{self, AdminState};
use crate::creds::{Creds, CredsStore};
use crate::dispatch::Dispatcher;
use crate::gateway::{self, BoundGateway, Gateway, GatewayLimits};
use crate::handler::Registry;
use crate::hooks;
use crate::link::{Dialer, LastFailure, ListenLimits, Listener, PipeParts, instance_name};
use crate::presence::Presence;
use crate::router::{Allowed, Router};
use crate::telemetry::{Recorder, Statsd};

/// How often node.toml is looked at for names that were added or cut off.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What is left to do after the drain gets this long.
const LAST_MOMENT: Duration = Duration::from_millis(500);

/// Reads the settings again; see [`Extras::reload`].
pub type Reload = Box<dyn Fn() -> Result<Settings, restpipe_config::ConfigError> + Send + Sync>;

/// What a node may have beside its settings.
#[derive(Default)]
pub struct Extras {
    /// Handlers in Rust; they come before any other.
    pub registry: Registry,
    /// An identity from memory in place of the one in files.
    pub credentials: Option<Credentials>,
    /// Reads the settings again, for the lists of names in them.
    pub reload: Option<Reload>,
}

impl std::fmt::Debug for Extras {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Extras").field("registry", &self.registry).finish_non_exhaustive()
    }
}

enum Link {
    Dial(Dialer),
    Listen(Listener),
}

/// A node whose sockets are bound and that does nothing yet.
pub struct Node {
    settings: Settings,
    gateway: Arc<Gateway>,
    gateways: Vec<BoundGateway>,
    admin: Option<(TcpListener, AdminState)>,
    admin_address: Option<SocketAddr>,
    store: CredsStore,
    creds: Creds,
    link: Link,
    router: Router,
    presence: Presence,
    recorder: Recorder,
    reload: Option<Reload>,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node").field("gateways", &self.gateways).finish_non_exhaustive()
    }
}

impl Node {
    /// Loads the identity and binds every socket.
    ///
    /// # Errors
    /// What cannot be had, and how to get it.
    pub async fn bind(settings: Settings, extras: Extras) -> anyhow::Result<Self> {
        let Extras { registry, credentials, reload } = extras;
        check_paths(&settings)?;
        let recorder = Recorder::new(settings.telemetry.statsd.as_ref())?;
        let role = settings.role();
        let store = store(&settings, credentials, &recorder)?;
        let creds = store.creds();
        let gateways = bind_gateways(&settings).await?;
        let instance = instance_name(settings.pipe.instance.as_deref(), gateways[0].address());
        let (router, presence) = (Router::default(), Presence::default());
        router.allow(allowed(&settings));
        let gateway = Arc::new(Gateway::new(
            role,
            &settings.gateway.hosts,
            gateway_limits(&settings),
            router.clone(),
            presence.clone(),
            recorder.clone(),
        ));
        let parts = PipeParts {
            creds: creds.clone(),
            router: router.clone(),
            dispatcher: Arc::new(Dispatcher::new(
                role,
                &settings.handlers,
                registry,
                recorder.clone(),
            )),
            presence: presence.clone(),
            recorder: recorder.clone(),
            instance: instance.clone(),
            boot_id: rand::random(),
            max_streams: settings.limits.max_streams,
            heartbeat: settings.pipe.heartbeat,
            budget: Budget::new(
                usize::try_from(settings.limits.memory_budget).unwrap_or(usize::MAX),
            ),
            idle_after: settings.hooks.idle_after,
            last_failure: LastFailure::default(),
        };
        let admin_state = AdminState {
            gateway: gateway.clone(),
            creds: creds.clone(),
            recorder: recorder.clone(),
            role: role.to_string(),
            instance,
            last_failure: parts.last_failure.clone(),
        };
        let admin = bind_admin(&settings).await?;
        let admin_address = admin.as_ref().map(TcpListener::local_addr).transpose()?;
        let admin = admin.map(|listener| (listener, admin_state));
        let link = link(&settings, parts)?;
        Ok(Self {
            settings,
            gateway,
            gateways,
            admin,
            admin_address,
            store,
            creds,
            link,
            router,
            presence,
            recorder,
            reload,
        })
    }

    /// Where the gateway listens.
    pub fn gateways(&self) -> impl Iterator<Item = &BindAddress> {
        self.gateways.iter().map(BoundGateway::address)
    }

    /// Where the admin endpoints are.
    pub fn admin(&self) -> Option<SocketAddr> {
        self.admin_address
    }

    /// Where a server waits for pipes.
    pub fn pipe_listener(&self) -> Option<SocketAddr> {
        match &self.link {
            Link::Listen(listener) => Some(listener.address()),
            Link::Dial(_) => None,
        }
    }

    /// What this node counts and times.
    pub fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    /// Who connects and disconnects, from now on.
    pub fn presence(&self) -> &Presence {
        &self.presence
    }

    /// The pipes.
    pub fn router(&self) -> &Router {
        &self.router
    }

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
            creds,
            link,
            router,
            presence,
            recorder,
            reload,
            ..
        } = self;
        let (serving, linking, rest) =
            (CancellationToken::new(), CancellationToken::new(), CancellationToken::new());
        drop(creds);

        let mut vital: JoinSet<&'static str> = JoinSet::new();
        let connections = Arc::new(Semaphore::new(settings.limits.max_connections));
        for bound in gateways {
            let run = bound.run(gateway.clone(), connections.clone(), serving.clone());
            vital.spawn(async move {
                run.await;
                "gateway"
            });
        }
        if let Some((listener, state)) = admin {
            let stop = rest.clone();
            vital.spawn(async move {
                let served = axum::serve(listener, admin::router(state))
                    .with_graceful_shutdown(stop.cancelled_owned());
                if let Err(error) = served.await {
                    error!(%error, "admin port failed");
                }
                "admin port"
            });
        }
        let follow = store.run(rest.clone());
        vital.spawn(async move {
            follow.await;
            "identity watch"
        });
        let run_hooks = hooks::run(settings.hooks.clone(), presence, rest.clone());
        vital.spawn(async move {
            run_hooks.await;
            "hooks"
        });
        if let Some(statsd) = recorder.statsd().cloned() {
            let flush = flush_statsd(statsd, rest.clone());
            vital.spawn(async move {
                flush.await;
                "statsd"
            });
        }
        if let Some(reload) = reload {
            let follow = follow_names(reload, router.clone(), rest.clone());
            vital.spawn(async move {
                follow.await;
                "settings watch"
            });
        }
        let mut linked = tokio::spawn(run_link(link, linking.clone()));

        tokio::select! {
            biased;
            ended = vital.join_next() => bail!("{} ended by itself: this is a fault of restpipe", name_of(ended)),
            ended = &mut linked => bail!("the pipes' task ended by itself ({ended:?}): this is a fault of restpipe"),
            () = stop => {}
        }

        info!(grace = ?settings.pipe.drain, in_flight = gateway.in_flight(), "stopping: running calls are finished first");
        gateway.drain();
        linking.cancel();
        router.drain("the node is stopping");
        if tokio::time::timeout(settings.pipe.drain, drained(&gateway, &mut linked)).await.is_err()
        {
            warn!(
                in_flight = gateway.in_flight(),
                "the drain time is over: what still runs is cut off"
            );
            for peer in router.peers() {
                peer.pipe.close("the drain time is over");
            }
        }
        serving.cancel();
        rest.cancel();
        let ended = async { while vital.join_next().await.is_some() {} };
        // A caller that keeps its connection open cannot hold the node.
        let _ = tokio::time::timeout(LAST_MOMENT, ended).await;
        info!("stopped");
        Ok(())
    }

    fn say_where(&self) {
        let gateways: Vec<_> = self.gateways().map(ToString::to_string).collect();
        let role = self.settings.role();
        let admin = self.admin_address.map_or("off".to_owned(), |address| address.to_string());
        let pipe = match (&self.settings.pipe.end, self.pipe_listener()) {
            (End::Dial { server, server_name }, _) => format!("to {server} ({server_name})"),
            (End::Listen { .. }, Some(address)) => format!("at {address}"),
            (End::Listen { .. }, None) => String::new(),
        };
        let identity = self.creds.current();
        info!(%role, gateway = gateways.join(" "), admin, pipe, identity = %identity.name(),
            not_after = %restpipe_identity::rfc3339(identity.leaf().not_after), "restpipe {} is running", env!("CARGO_PKG_VERSION"));
    }
}

fn name_of(ended: Option<Result<&'static str, tokio::task::JoinError>>) -> String {
    match ended {
        Some(Ok(name)) => name.to_owned(),
        Some(Err(error)) => error.to_string(),
        None => "everything".to_owned(),
    }
}

/// Waits until nothing is open: neither a pipe nor a request.
async fn drained(gateway: &Gateway, linked: &mut tokio::task::JoinHandle<()>) {
    let _ = linked.await;
    while gateway.in_flight() > 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
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
async fn follow_names(reload: Reload, router: Router, stop: CancellationToken) {
    let mut before: Option<Result<Allowed, String>> = None;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        let now = reload().map(|settings| allowed(&settings)).map_err(|error| error.to_string());
        if before.as_ref() == Some(&now) {
            continue;
        }
        match &now {
            Ok(names) => router.allow(names.clone()),
            Err(error) => warn!(%error, "settings cannot be read again, the names of before stay"),
        }
        before = Some(now);
    }
}

fn allowed(settings: &Settings) -> Allowed {
    let End::Listen { clients, suspended, .. } = &settings.pipe.end else {
        return Allowed::default();
    };
    let names = |list: &[restpipe_config::Hostname]| {
        list.iter().map(|name| name.as_str().to_owned()).collect()
    };
    Allowed { known: names(clients), suspended: names(suspended) }
}

fn store(
    settings: &Settings,
    credentials: Option<Credentials>,
    recorder: &Recorder,
) -> anyhow::Result<CredsStore> {
    if let Some(credentials) = credentials {
        return Ok(CredsStore::fixed(credentials, recorder.clone()));
    }
    let usage = match settings.role() {
        Role::Server => Usage::Server,
        Role::Client => Usage::Client,
    };
    CredsStore::load(&settings.identity, usage, recorder.clone()).with_context(|| {
        format!(
            "this node has no identity it can use in {}: make one with `restpipe identity {usage}`, or name its directory by --dir",
            settings.identity.dir.display()
        )
    })
}

/// A handler or a hook that is not there would be noticed only by its event.
fn check_paths(settings: &Settings) -> anyhow::Result<()> {
    if let Some(dir) = settings.handlers.directory.as_ref().filter(|dir| !dir.is_dir()) {
        bail!("--handlers {} is no directory: make it, or name another", dir.display());
    }
    let hooks = &settings.hooks;
    for (flag, hook) in [
        ("--on-connect", &hooks.on_connect),
        ("--on-connect-fail", &hooks.on_connect_fail),
        ("--on-disconnect", &hooks.on_disconnect),
        ("--on-idle", &hooks.on_idle),
    ] {
        if let Some(path) = hook.as_ref().filter(|path| !path.is_file()) {
            bail!(
                "{flag} {} is no file: put the executable there, or name another",
                path.display()
            );
        }
    }
    Ok(())
}

async fn bind_gateways(settings: &Settings) -> anyhow::Result<Vec<BoundGateway>> {
    let mut bound = Vec::new();
    for address in &settings.gateway.addresses {
        match gateway::bind(address).await {
            Ok(gateway) => bound.push(gateway),
            // Many containers have no IPv6, and nobody asked for this address.
            Err(error) if settings.gateway.by_default && !bound.is_empty() && is_absent(&error) => {
                info!(%address, "the gateway goes without this address: {error}");
            }
            Err(error) => {
                bail!(
                    "the gateway cannot listen on {address}: {error}: free the address, or name another by --gateway"
                );
            }
        }
    }
    if bound.is_empty() {
        bail!("the gateway has no address: name one by --gateway");
    }
    Ok(bound)
}

fn is_absent(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{AddrNotAvailable, Unsupported};
    // EAFNOSUPPORT has no kind of its own.
    matches!(error.kind(), AddrNotAvailable | Unsupported) || error.raw_os_error() == Some(97)
}

async fn bind_admin(settings: &Settings) -> anyhow::Result<Option<TcpListener>> {
    let Some(address) = settings.gateway.admin else { return Ok(None) };
    let listener = TcpListener::bind(address).await.with_context(|| {
        format!("the admin port cannot listen on {address}: name another by --admin, or turn it off with --admin off")
    })?;
    Ok(Some(listener))
}

fn gateway_limits(settings: &Settings) -> GatewayLimits {
    let restpipe_config::PipeSettings { wait, timeout, max_timeout, .. } = settings.pipe;
    let (requests, body) = (settings.limits.max_requests, settings.limits.max_body);
    GatewayLimits { wait, timeout, max_timeout, requests, body }
}

fn link(settings: &Settings, parts: PipeParts) -> anyhow::Result<Link> {
    match &settings.pipe.end {
        End::Dial { server, server_name } => {
            Ok(Link::Dial(Dialer::new(server.clone(), server_name, parts)?))
        }
        End::Listen { listen, client_suffix, .. } => {
            let limits = ListenLimits {
                pipes: settings.limits.max_pipes,
                handshakes: settings.limits.max_handshakes,
                handshakes_per_source: settings.limits.max_handshakes_per_source,
            };
            let listener = Listener::bind(*listen, client_suffix.clone(), limits, parts).with_context(|| {
                format!("the pipe listener cannot listen on {listen}: free the address, or name another by --listen")
            })?;
            Ok(Link::Listen(listener))
        }
    }
}

/// Credentials made for this run alone, for `restpipe dev` and for tests.
///
/// # Errors
/// If they cannot be made.
pub fn throwaway_credentials(
    ca: &restpipe_identity::CertificateAuthority,
    name: &str,
    usage: Usage,
) -> anyhow::Result<Credentials> {
    let now = SystemTime::now();
    let name = restpipe_identity::PeerName::parse(name)?;
    let lifetime = restpipe_identity::LEAF_LIFETIME;
    let leaf = ca.issue(restpipe_identity::LeafRequest { name, usage, lifetime, now })?;
    let (cert, key, ca) =
        (leaf.cert_pem.as_bytes(), leaf.key_pem.expose().as_bytes(), ca.cert_pem().as_bytes());
    Ok(Credentials::from_pem(cert, key, ca, usage, now)?)
}
