//! Two nodes as processes that a fault is done to while both are under load.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::app::App;
use crate::binary::{Node, Start, eventually};
use crate::history::History;
use crate::http::{At, get};
use crate::site::{CLIENT, Site};
use crate::traffic::{Load, Route, Traffic, noting_app};

/// Where a server listens for pipes, unless it is said otherwise.
const PIPE_PORT: u16 = 7072;

/// A server and a client with one app beside both. Their gateways and the app
/// are Unix sockets: they have the same address after a restart, and can be
/// reached whatever network a node is in.
#[derive(Debug)]
pub struct Stage {
    /// Their identities and sockets.
    pub site: Site,
    /// What was asked and run.
    pub history: History,
    /// The server, while it runs.
    pub server: Option<Node>,
    /// The client, while it runs.
    pub client: Option<Node>,
    /// The app of both.
    pub app: App,
    listen: String,
    flags: Vec<(&'static str, &'static str)>,
    /// Programs that start the server, the client, by their first words.
    within: [Vec<String>; 2],
}

impl Stage {
    /// Both nodes with these flags and the pipe up, on loopback.
    pub fn on_loopback(flags: &[(&'static str, &'static str)]) -> Self {
        let mut stage = Self::idle(flags);
        stage.start();
        stage
    }

    /// Nodes with these flags on loopback that are not started yet.
    pub fn idle(flags: &[(&'static str, &'static str)]) -> Self {
        Self::new(own_loopback(), flags, Default::default())
    }

    /// Nodes that are not started yet: a server that listens on `address`, each
    /// with the words of the program that starts it.
    pub fn new(
        address: Ipv4Addr,
        flags: &[(&'static str, &'static str)],
        within: [Vec<String>; 2],
    ) -> Self {
        let (site, history) = (Site::new(), History::default());
        let app = noting_app(&site.path("app.sock"), &history);
        let listen = format!("{address}:{PIPE_PORT}");
        let flags = flags.to_vec();
        Self { site, history, server: None, client: None, app, listen, flags, within }
    }

    /// Starts both and waits for the pipe.
    pub fn start(&mut self) {
        self.start_server();
        self.start_client();
        self.connected();
    }

    /// Starts the server, again.
    pub fn start_server(&mut self) {
        let start = self.site.server().flag("--listen", &self.listen);
        self.server = Some(self.node(start, 0, "server.sock"));
    }

    /// Starts the client, again.
    pub fn start_client(&mut self) {
        let start = self.site.client_of(CLIENT, &self.listen);
        self.client = Some(self.node(start, 1, "client.sock"));
    }

    fn node(&self, start: Start, which: usize, socket: &str) -> Node {
        let gateway = format!("unix:{}", self.site.path(socket).display());
        let start = start.flag("--gateway", gateway).flag("--app", self.app.url());
        let start = self.flags.iter().fold(start, |start, (name, value)| start.flag(name, value));
        start.within(&self.within[which]).start()
    }

    /// Where each of the two is asked, and how.
    pub fn routes(&self) -> [Route; 2] {
        let at = |socket: &str| At::Unix(self.site.path(socket));
        let route = |socket, prefix: String| Route { at: at(socket), prefix };
        [
            route("client.sock", "/server".to_owned()),
            route("server.sock", format!("/client/{CLIENT}")),
        ]
    }

    /// Load in both directions.
    pub fn traffic(&self, load: Load) -> Traffic {
        Traffic::start(&self.history, &self.routes(), load)
    }

    /// Waits until both have a pipe.
    pub fn connected(&self) {
        for route in self.routes() {
            eventually(&format!("a pipe is up, says {:?}", route.at), || {
                let peers = get(&route.at, "/-/peers").json();
                peers["peers"].as_array().is_some_and(|all| !all.is_empty())
            });
        }
    }

    /// The server.
    ///
    /// # Panics
    /// If it does not run.
    pub fn server(&self) -> &Node {
        self.server.as_ref().expect("the server runs")
    }

    /// The client.
    ///
    /// # Panics
    /// If it does not run.
    pub fn client(&self) -> &Node {
        self.client.as_ref().expect("the client runs")
    }
}

/// An address of loopback that no other test uses, in this process or another:
/// a port of it is free again after a restart.
pub fn own_loopback() -> Ipv4Addr {
    static NEXT: AtomicU8 = AtomicU8::new(0);
    let [third, fourth] = (std::process::id() as u16).to_be_bytes();
    // 127.0 is everybody's.
    let second = 64 + NEXT.fetch_add(1, Ordering::SeqCst) % 128;
    Ipv4Addr::new(127, second, third, fourth)
}
