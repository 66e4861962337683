//! A node: everything bound, then everything run, then everything drained.

mod bind;
mod run;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use restpipe_config::{BindAddress, End, NameSettings, Settings};
use restpipe_identity::{Credentials, Usage};
use restpipe_pipe::Budget;
use tokio::net::TcpListener;
use tracing::info;

use crate::admin::AdminState;
use crate::creds::{Creds, CredsStore};
use crate::dispatch::Dispatcher;
use crate::gateway::{BoundGateway, Gateway};
use crate::handler::Registry;
use crate::link::{Dialer, LastFailure, Listener, PipeParts, instance_name};
use crate::names::Names;
use crate::presence::Presence;
use crate::router::Router;
use crate::telemetry::Recorder;

/// Reads the settings again, or says that there is nothing new; see [`Extras::reload`].
pub type Reload = Box<dyn FnMut() -> Option<Result<Settings, restpipe_config::ConfigError>> + Send>;

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
    names: Names,
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
        bind::check_paths(&settings)?;
        let recorder = Recorder::new(settings.telemetry.statsd.as_ref())?;
        let role = settings.role();
        let (router, presence) = (Router::default(), Presence::default());
        let store = bind::store(&settings, credentials, &presence, &recorder)?;
        let creds = store.creds();
        let gateways = bind::bind_gateways(&settings).await?;
        let instance = instance_name(settings.pipe.instance.as_deref(), gateways[0].address());
        let names = Names::new(router.clone(), names(&settings));
        let gateway = Arc::new(Gateway::new(
            role,
            &settings.gateway.hosts,
            bind::gateway_limits(&settings),
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
            server: match &settings.pipe.end {
                End::Dial { server, server_name } => {
                    Some((server.to_string(), server_name.to_string()))
                }
                End::Listen { .. } => None,
            },
        };
        let admin = bind::bind_admin(&settings)?;
        let admin_address = admin.as_ref().map(TcpListener::local_addr).transpose()?;
        let admin = admin.map(|listener| (listener, admin_state));
        let link = bind::link(&settings, parts, names.clone())?;
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
            names,
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

/// Who may connect; nobody connects to a client.
fn names(settings: &Settings) -> NameSettings {
    match &settings.pipe.end {
        End::Listen { names, .. } => names.clone(),
        End::Dial { .. } => NameSettings::default(),
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
