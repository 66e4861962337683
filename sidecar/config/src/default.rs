//! What a setting is while nobody gives it: the only place that says so, for the code, for
//! `--help` and for docs/configuration.md.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use crate::duration::in_words as span;
use crate::number::in_words as size;

/// Port of the gateway.
pub const GATEWAY_PORT: u16 = 7070;
/// Port of `/live`, `/ready`, `/metrics` and `/status`.
pub const ADMIN_PORT: u16 = 7071;
/// Port of the pipe listener.
pub const PIPE_PORT: u16 = 7072;
/// Port of statsd, as everywhere.
pub const STATSD_PORT: u16 = 8125;
/// Host of statsd, as in the original.
pub const STATSD_HOST: &str = "localhost";

/// Where a server waits for pipes: on every IPv4 address.
pub const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), PIPE_PORT);
/// Where the gateway listens: loopback of both families. A host may lack the second.
pub const GATEWAY: [SocketAddr; 2] = [
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), GATEWAY_PORT),
    SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), GATEWAY_PORT),
];
/// Where the admin endpoints listen: the kubelet and Prometheus come from outside.
pub const ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), ADMIN_PORT);
/// The node directory.
pub const DIR: &str = "/etc/restpipe";
/// The settings in the node directory.
pub const CONFIG_FILE: &str = "node.toml";
/// The certificate chain in the node directory.
pub const CERT_FILE: &str = "tls.crt";
/// The private key in the node directory.
pub const KEY_FILE: &str = "tls.key";
/// The roots in the node directory.
pub const CA_FILE: &str = "ca.crt";

/// How long a request waits for an absent peer: longer than the slowest redial.
pub const WAIT: Duration = Duration::from_secs(20);
/// Deadline of a request that asks for none.
pub const TIMEOUT: Duration = Duration::from_secs(60);
/// The longest deadline that a request may ask for.
pub const MAX_TIMEOUT: Duration = Duration::from_secs(3600);
/// Grace for running calls at SIGTERM: well inside the 30 s that Kubernetes gives a pod.
pub const DRAIN: Duration = Duration::from_secs(10);
/// Silence before a ping; a peer is dead after twice that.
pub const HEARTBEAT: Duration = Duration::from_secs(5);
/// Silence without events before the hook for idle runs.
pub const IDLE_AFTER: Duration = Duration::from_secs(60);

/// Log filter.
pub const LOG: &str = "info";
/// Gateway requests in flight at once.
pub const MAX_REQUESTS: u32 = 4096;
/// Events at once, per pipe and direction.
pub const MAX_STREAMS: u32 = 256;
/// Connections to the gateway.
pub const MAX_CONNECTIONS: u32 = 4096;
/// Pipes of a server.
pub const MAX_PIPES: u32 = 16_384;
/// TLS handshakes of a server at once: they are what costs processor time.
pub const MAX_HANDSHAKES: u32 = 64;
/// TLS handshakes of a server at once from one address.
pub const MAX_HANDSHAKES_PER_SOURCE: u32 = 8;
/// Bytes of bodies that the whole process may hold.
pub const MEMORY_BUDGET: u64 = 64 << 20;

/// The default of the setting with this key, as a person says it. None where not giving the
/// setting simply means that there is no such thing.
#[must_use]
pub fn in_words(key: &str) -> Option<String> {
    Some(match key {
        "config" => format!("{CONFIG_FILE} in --dir, if there"),
        "listen" => LISTEN.to_string(),
        "server-name" => "the host of --server".into(),
        "client-suffix" => "none, the whole name is the hostname".into(),
        "clients" => "every verified client".into(),
        "suspended" => "nobody".into(),
        "gateway-host" => "no further ones".into(),
        "instance" => "from the machine's name and the gateway's address".into(),
        "wait" => span(WAIT),
        "timeout" => span(TIMEOUT),
        "max-timeout" => span(MAX_TIMEOUT),
        "drain" => span(DRAIN),
        "heartbeat" => span(HEARTBEAT),
        "gateway" => GATEWAY.map(|address| address.to_string()).join(","),
        "gateway-public" | "listed-only" | "tracebacks" => "false".into(),
        "names-version" => "0".into(),
        "admin" => ADMIN.to_string(),
        "dir" => DIR.into(),
        "cert" => format!("{CERT_FILE} in --dir"),
        "key" => format!("{KEY_FILE} in --dir"),
        "ca" => format!("{CA_FILE} in --dir"),
        "builtin" => "true without --app and --handlers".into(),
        "idle-after" => span(IDLE_AFTER),
        "log" => LOG.into(),
        "log-format" => "auto".into(),
        "statsd" => format!("{STATSD_HOST}:{STATSD_PORT}"),
        "max-requests" => MAX_REQUESTS.to_string(),
        "max-streams" => MAX_STREAMS.to_string(),
        "max-body" => "off".into(),
        "max-connections" => MAX_CONNECTIONS.to_string(),
        "max-pipes" => MAX_PIPES.to_string(),
        "max-handshakes" => MAX_HANDSHAKES.to_string(),
        "max-handshakes-per-source" => MAX_HANDSHAKES_PER_SOURCE.to_string(),
        "memory-budget" => size(MEMORY_BUDGET),
        _ => return None,
    })
}
