//! Nodes in this process, with identities made for the test.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use restpipe::app::throwaway_credentials;
use restpipe::presence::Presence;
use restpipe::router::Router;
use restpipe::telemetry::Recorder;
use restpipe::{Extras, Node, Registry};
use restpipe_config::{BindAddress, List, NodeArgs, OrOff, Role, Settings, TcpAddress};
use restpipe_identity::{CA_LIFETIME, CertificateAuthority, Credentials, Usage};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The hostname of the client in a [`Pair`].
pub const CLIENT: &str = "fileserver";

/// The name in the server's certificate.
pub const SERVER: &str = "hub";

/// Longest wait for something that is to happen at once.
pub const SOON: Duration = Duration::from_secs(10);

/// A running node.
#[derive(Debug)]
pub struct Running {
    /// Its gateway.
    pub gateway: SocketAddr,
    /// Where it waits for pipes, if it is a server.
    pub pipe: Option<SocketAddr>,
    /// Its admin port, if it has one.
    pub admin: Option<SocketAddr>,
    /// Its pipes.
    pub router: Router,
    /// Its connects and disconnects.
    pub presence: Presence,
    /// What it counts.
    pub recorder: Recorder,
    stop: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Running {
    /// Binds and starts a node.
    pub async fn start(settings: Settings, extras: Extras) -> Self {
        let node = Node::bind(settings, extras).await.expect("binds");
        let gateway = node.gateways().find_map(|address| match address {
            BindAddress::Tcp(address) => Some(*address),
            BindAddress::Unix(_) => None,
        });
        let stop = CancellationToken::new();
        let running = |task| Self {
            gateway: gateway.expect("a TCP gateway"),
            pipe: node.pipe_listener(),
            admin: node.admin(),
            router: node.router().clone(),
            presence: node.presence().clone(),
            recorder: node.recorder().clone(),
            stop: stop.clone(),
            task,
        };
        let idle = running(tokio::spawn(std::future::ready(Ok(()))));
        let task = tokio::spawn(node.run(stop.clone().cancelled_owned()));
        Self { task, ..idle }
    }

    /// Tells it to stop, as SIGTERM does.
    pub fn tell_to_stop(&self) {
        self.stop.cancel();
    }

    /// Waits until it has drained.
    pub async fn stopped(self) {
        self.stop.cancel();
        self.task.await.expect("does not panic").expect("drains");
    }

    /// Cuts every pipe at once, as a broken link would.
    pub fn cut(&self) {
        for peer in self.router.peers() {
            peer.pipe.close("cut by the test");
        }
    }

    /// Waits until a pipe is up.
    pub async fn connected(&self) {
        let mut changes = self.router.changes();
        let up = async {
            while !self.router.peers().iter().any(|peer| peer.pipe.is_usable()) {
                changes.changed().await.expect("the router lives");
            }
        };
        tokio::time::timeout(SOON, up).await.expect("a pipe comes up");
    }

    /// Asks its gateway.
    pub async fn ask(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path).header("host", "localhost");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body.into())).expect("a request");
        let stream = TcpStream::connect(self.gateway).await.expect("the gateway listens");
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("HTTP");
        let connection = tokio::spawn(connection);
        let response = sender.send_request(request).await.expect("one answer");
        let (parts, body) = response.into_parts();
        let body = body.collect().await.expect("a whole body").to_bytes();
        connection.abort();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    /// GET.
    pub async fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, path, &[], Bytes::new()).await
    }
}

/// One answer of a gateway.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Answer {
    /// A header's value, or nothing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{self:?} is no JSON"))
    }

    /// Status, outcome, retriable and problem code: what the contract is about.
    pub fn contract(&self) -> (u16, &str, &str, String) {
        let code = serde_json::from_slice::<serde_json::Value>(&self.body).unwrap_or_default();
        let code = code["code"].as_str().unwrap_or("").to_owned();
        (
            self.status.as_u16(),
            self.header("x-event-outcome"),
            self.header("x-event-retriable"),
            code,
        )
    }
}

/// A CA for one test.
#[derive(Debug)]
pub struct Pki(CertificateAuthority);

impl Default for Pki {
    fn default() -> Self {
        Self(CertificateAuthority::create("test", CA_LIFETIME, SystemTime::now()).expect("a CA"))
    }
}

impl Pki {
    /// Starts a server.
    pub async fn server(&self, args: NodeArgs, registry: Registry) -> Running {
        let listen = args.listen.or(Some(loopback()));
        self.start(Role::Server, SERVER, NodeArgs { listen, ..args }, registry).await
    }

    /// Starts a client called `name` that dials `pipe`.
    pub async fn client(
        &self,
        name: &str,
        pipe: SocketAddr,
        args: NodeArgs,
        registry: Registry,
    ) -> Running {
        let args = NodeArgs {
            server: Some(pipe.to_string().parse().expect("an address")),
            server_name: args.server_name.or_else(|| Some(SERVER.parse().expect("a name"))),
            ..args
        };
        self.start(Role::Client, name, args, registry).await
    }

    /// The CA itself.
    pub fn authority(&self) -> &CertificateAuthority {
        &self.0
    }

    /// An identity of this CA.
    ///
    /// # Panics
    /// If there can be none.
    pub fn identity(&self, name: &str, usage: Usage) -> Credentials {
        throwaway_credentials(&self.0, name, usage).expect("an identity")
    }

    async fn start(&self, role: Role, name: &str, args: NodeArgs, registry: Registry) -> Running {
        let usage = if role == Role::Server { Usage::Server } else { Usage::Client };
        let gateway = args.gateway.clone().unwrap_or(List(vec![BindAddress::Tcp(loopback().0)]));
        let args = NodeArgs {
            gateway: Some(gateway),
            admin: args.admin.or(Some(OrOff::Off)),
            statsd: args.statsd.clone().or(Some(OrOff::Off)),
            ..args
        };
        let settings = Settings::resolve(role, &args, None, &|_| None).expect("settings");
        let credentials = Some(self.identity(name, usage));
        Running::start(settings, Extras { registry, credentials, reload: None }).await
    }
}

/// A free port on loopback.
pub fn loopback() -> TcpAddress {
    TcpAddress(SocketAddr::from(([127, 0, 0, 1], 0)))
}

/// Which way a question goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The client asks the server.
    ToServer,
    /// The server asks the client.
    ToClient,
}

/// Both of them.
pub const BOTH_WAYS: [Way; 2] = [Way::ToServer, Way::ToClient];

/// A server and a client with a pipe between them.
#[derive(Debug)]
pub struct Pair {
    /// The server.
    pub server: Running,
    /// The client.
    pub client: Running,
}

impl Pair {
    /// Both with the same settings and handlers, and connected.
    pub async fn connected(args: NodeArgs, registry: Registry) -> Self {
        let pki = Pki::default();
        let server = pki.server(args.clone(), registry.clone()).await;
        let pipe = server.pipe.expect("a listener");
        let client = pki.client(CLIENT, pipe, args, registry).await;
        server.connected().await;
        client.connected().await;
        Self { server, client }
    }

    /// Who asks.
    pub fn near(&self, way: Way) -> &Running {
        match way {
            Way::ToServer => &self.client,
            Way::ToClient => &self.server,
        }
    }

    /// Who is asked.
    pub fn far(&self, way: Way) -> &Running {
        match way {
            Way::ToServer => &self.server,
            Way::ToClient => &self.client,
        }
    }

    /// The path of a noun.
    pub fn path(way: Way, noun: &str) -> String {
        match way {
            Way::ToServer => format!("/server/{noun}"),
            Way::ToClient => format!("/client/{CLIENT}/{noun}"),
        }
    }

    /// Asks for a noun.
    pub async fn ask(
        &self,
        way: Way,
        method: Method,
        noun: &str,
        headers: &[(&str, &str)],
    ) -> Answer {
        self.near(way).ask(method, &Self::path(way, noun), headers, Bytes::new()).await
    }

    /// Stops both.
    pub async fn stopped(self) {
        self.client.stopped().await;
        self.server.stopped().await;
    }
}
