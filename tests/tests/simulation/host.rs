//! A node without sockets: the shipped gateway, router, dispatcher and pipes.
//! Only what a kernel and TLS do is left out.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use restpipe::Registry;
use restpipe::dispatch::{Dispatcher, PeerService};
use restpipe::gateway::{Gateway, GatewayLimits, serve_stream};
use restpipe::presence::Presence;
use restpipe::router::{Peer, Refusals, Router, SERVER};
use restpipe::telemetry::Recorder;
use restpipe_config::{HandlerSettings, Role};
use restpipe_pipe::pb::Hello;
use restpipe_pipe::{Budget, PipeConfig, PipeHandle, Why};
use tokio::io::DuplexStream;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::cable::End;

/// Under what the client is called.
pub(crate) const CLIENT: &str = "fileserver";

/// Bytes that a caller's connection buffers.
const CALLER_BUFFER: usize = 64 * 1024;

const LIMITS: GatewayLimits = GatewayLimits {
    wait: Duration::from_secs(20),
    timeout: Duration::from_secs(60),
    max_timeout: Duration::from_secs(3600),
    requests: 1024,
    body: None,
};

/// One life of a node, until it is killed.
pub(crate) struct Host {
    role: Role,
    pub(crate) router: Router,
    pub(crate) budget: Budget,
    gateway: Arc<Gateway>,
    dispatcher: Arc<Dispatcher>,
    tasks: JoinSet<()>,
    /// It accepts and dials nothing more.
    pub(crate) stopping: CancellationToken,
    boot: u64,
}

/// Bytes of bodies that a host may hold.
pub(crate) const BUDGET: usize = 4 * 1024 * 1024;

impl Host {
    pub(crate) fn new(role: Role, boot: u64, registry: Registry) -> Self {
        let recorder = Recorder::new(None).expect("metrics");
        let router = Router::default();
        let handlers =
            HandlerSettings { app: None, directory: None, builtin: false, tracebacks: false };
        let gateway =
            Gateway::new(role, &[], LIMITS, router.clone(), Presence::default(), recorder.clone());
        Self {
            role,
            router,
            budget: Budget::new(BUDGET),
            gateway: Arc::new(gateway),
            dispatcher: Arc::new(Dispatcher::new(role, &handlers, registry, recorder)),
            tasks: JoinSet::new(),
            stopping: CancellationToken::new(),
            boot,
        }
    }

    /// A connection of a caller to this node's gateway.
    pub(crate) fn connect(&mut self) -> DuplexStream {
        let (near, far) = tokio::io::duplex(CALLER_BUFFER);
        let served = serve_stream(far, self.gateway.clone(), CancellationToken::new());
        while self.tasks.try_join_next().is_some() {}
        self.tasks.spawn(served);
        near
    }

    /// Opens a pipe over `end`; it is in the router once HELLO has come.
    pub(crate) fn open(&mut self, end: End, epoch: u64) -> (PipeHandle, JoinHandle<()>) {
        let hello = Hello {
            instance: "one".to_owned(),
            boot_id: self.boot.to_be_bytes().repeat(2).into(),
            epoch,
            // Those too that drain already, as the dialler of a node names them.
            live_epochs: self.router.peers().iter().map(|peer| peer.epoch).collect(),
            ..Hello::default()
        };
        let config = PipeConfig { hello, budget: self.budget.clone(), ..PipeConfig::default() };
        let (role, key, name) = match self.role {
            Role::Client => (restpipe_pipe::Role::Dialer, SERVER, "hub"),
            Role::Server => (restpipe_pipe::Role::Acceptor, CLIENT, CLIENT),
        };
        let service = PeerService::new(self.dispatcher.clone(), name.into(), Presence::default());
        let (pipe, driver) = restpipe_pipe::open(end, role, config, Arc::new(service));
        let (router, handle) = (self.router.clone(), pipe.clone());
        let kept = async move {
            let mut driver = driver;
            let opened = tokio::select! {
                biased;
                opened = handle.opened() => opened,
                _ = &mut driver => return,
            };
            let Ok(info) = opened else { return };
            let hello = info.hello;
            let peer = router.register(Peer {
                key: Some(key.into()),
                hostname: name.into(),
                pipe: handle,
                address: SocketAddr::from(([127, 0, 0, 1], 1)),
                chain: Vec::new(),
                not_after: SystemTime::now() + Duration::from_secs(86_400),
                serial: String::new(),
                root: None,
                since: SystemTime::now(),
                refusals: Refusals::default(),
                epoch: if role == restpipe_pipe::Role::Dialer { epoch } else { hello.epoch },
                hello,
            });
            let _: Why = driver.await;
            router.unregister(&peer);
        };
        (pipe, into_joinable(&mut self.tasks, kept))
    }

    /// As SIGTERM does: nothing new, and what runs is finished.
    pub(crate) fn drain(&self) {
        self.stopping.cancel();
        self.gateway.drain();
        self.router.drain("the node is stopping");
    }

    /// Whether nothing is under way any more.
    pub(crate) fn is_drained(&self) -> bool {
        self.gateway.in_flight() == 0 && self.router.is_empty()
    }

    /// As SIGKILL does.
    pub(crate) fn kill(&mut self) {
        self.stopping.cancel();
        self.tasks.abort_all();
    }
}

/// Spawns a task into the set and hands out when it has ended, however it did.
fn into_joinable(
    tasks: &mut JoinSet<()>,
    task: impl Future<Output = ()> + Send + 'static,
) -> JoinHandle<()> {
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    tasks.spawn(async move {
        let _end = end;
        task.await;
    });
    tokio::spawn(async move {
        let _ = ended.await;
    })
}
