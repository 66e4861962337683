//! What the settings mean for one node: typed, complete and free of contradictions.

use std::fmt::{self, Display};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::address::BindAddress;
use crate::app::AppAddress;
use crate::host::{Host, Hostname, ServerAddress, StatsdAddress};
use crate::role::Role;
use crate::text::{Invalid, invalid, via_text};

/// All settings of one node.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The pipe.
    pub pipe: PipeSettings,
    /// What listens on this machine.
    pub gateway: GatewaySettings,
    /// Who this node is.
    pub identity: IdentitySettings,
    /// Who answers incoming events.
    pub handlers: HandlerSettings,
    /// What runs when the pipe comes and goes.
    pub hooks: HookSettings,
    /// What is told about all that.
    pub telemetry: TelemetrySettings,
    /// How much of all that at once.
    pub limits: Limits,
}

impl Settings {
    /// What this node is.
    #[must_use]
    pub fn role(&self) -> Role {
        match self.pipe.end {
            End::Listen { .. } => Role::Server,
            End::Dial { .. } => Role::Client,
        }
    }
}

/// The pipe.
#[derive(Clone, Debug, PartialEq)]
pub struct PipeSettings {
    /// Which end of it this node is.
    pub end: End,
    /// What this node calls itself; the node makes a name up if there is none.
    pub instance: Option<String>,
    /// How long a request waits for an absent peer.
    pub wait: Duration,
    /// Deadline of a request that asks for none; at most `max_timeout`.
    pub timeout: Duration,
    /// The longest deadline that a request may ask for.
    pub max_timeout: Duration,
    /// How long running calls may go on after SIGTERM.
    pub drain: Duration,
    /// Silence before a ping; the peer is dead after twice that.
    pub heartbeat: Duration,
}

/// One end of the pipe.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    /// A server.
    Listen {
        /// Where it waits for pipes; port 0 lets the system choose.
        listen: SocketAddr,
        /// What is cut off names in client certificates, without its leading dot; may be empty.
        client_suffix: String,
        /// The whole name in an operator's certificate, never one below `client_suffix`.
        operator_name: Option<Hostname>,
        /// Who may connect.
        names: NameSettings,
    },
    /// A client.
    Dial {
        /// Where the server is.
        server: ServerAddress,
        /// The name that its certificate must carry.
        server_name: Hostname,
    },
}

/// Who may connect to a server; followed while it runs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NameSettings {
    /// Of these lists and an operator's, those with the higher version count.
    pub version: u64,
    /// Whoever is not among `clients` is refused, also when it is empty.
    pub listed_only: bool,
    /// Hostnames that may connect; empty and not `listed_only`: every verified client.
    pub clients: Vec<Hostname>,
    /// Hostnames that are refused and cut off, also if they are among `clients`.
    pub suspended: Vec<Hostname>,
}

/// What listens on this machine.
#[derive(Clone, Debug, PartialEq)]
pub struct GatewaySettings {
    /// Where the gateway listens; at least one.
    pub addresses: Vec<BindAddress>,
    /// Host names that requests may carry beside localhost, 127.0.0.1 and `[::1]`.
    pub hosts: Vec<Host>,
    /// Where the admin endpoints are served, if they are.
    pub admin: Option<SocketAddr>,
}

/// Who this node is.
#[derive(Clone, Debug, PartialEq)]
pub struct IdentitySettings {
    /// The node directory.
    pub dir: PathBuf,
    /// Certificate chain, PEM.
    pub cert: PathBuf,
    /// Private key, PEM.
    pub key: PathBuf,
    /// Certificates of the trusted authorities, PEM.
    pub ca: PathBuf,
}

/// Who answers incoming events, in this order.
#[derive(Clone, Debug, PartialEq)]
pub struct HandlerSettings {
    /// The app.
    pub app: Option<AppAddress>,
    /// A directory of executables.
    pub directory: Option<PathBuf>,
    /// The nouns `time` and `cat`.
    pub builtin: bool,
    /// Tracebacks and stderr of failed handlers cross the pipe.
    pub tracebacks: bool,
}

/// Executables that run when the pipe comes and goes.
#[derive(Clone, Debug, PartialEq)]
pub struct HookSettings {
    /// A pipe is up.
    pub on_connect: Option<PathBuf>,
    /// A pipe could not be made.
    pub on_connect_fail: Option<PathBuf>,
    /// A pipe has ended.
    pub on_disconnect: Option<PathBuf>,
    /// A pipe has carried no event for `idle_after`.
    pub on_idle: Option<PathBuf>,
    /// See `on_idle`.
    pub idle_after: Duration,
}

/// What is told about all that.
#[derive(Clone, Debug, PartialEq)]
pub struct TelemetrySettings {
    /// What is logged: to be checked by [`is_log_filter`](crate::is_log_filter).
    pub log: String,
    /// How it is logged.
    pub log_format: LogFormat,
    /// Where statsd packets go, if they do.
    pub statsd: Option<StatsdAddress>,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, else JSON.
    #[default]
    Auto,
    /// For people.
    Text,
    /// For programs.
    Json,
}

impl FromStr for LogFormat {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text {
            "auto" => Ok(Self::Auto),
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => invalid("give auto, text or json"),
        }
    }
}

impl Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}

via_text!(LogFormat);

/// How much at once.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Gateway requests in flight; more get 429.
    pub max_requests: usize,
    /// Events per pipe and direction, 1 to 4096.
    pub max_streams: u32,
    /// Bytes of the largest body, if there is a limit; larger ones get 413.
    pub max_body: Option<u64>,
    /// Connections to the gateway.
    pub max_connections: usize,
    /// Pipes of a server; of no meaning for a client.
    pub max_pipes: usize,
    /// TLS handshakes of a server; of no meaning for a client.
    pub max_handshakes: usize,
    /// TLS handshakes of a server from one address; of no meaning for a client.
    pub max_handshakes_per_source: usize,
    /// Bytes of bodies that the whole process may hold.
    pub memory_budget: u64,
}
