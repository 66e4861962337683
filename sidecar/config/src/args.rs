//! Every setting of a node, as it is written by whoever runs it. The doc comment of a field is
//! its `--help`; the default is added from [`default`](crate::default).

use std::path::PathBuf;

use clap::{Arg, Args};
use serde::{Deserialize, Serialize};

use crate::address::{BindAddress, OrOff, TcpAddress};
use crate::app::AppAddress;
use crate::default;
use crate::duration::HumanDuration;
use crate::host::{Host, Hostname, InstanceName, NameSuffix, ServerAddress, StatsdAddress};
use crate::list::List;
use crate::number::{ByteSize, Count, Version};
use crate::settings::LogFormat;
use crate::text::{FilePath, switch};

/// The command line of `restpipe server` and `restpipe client`: the settings and where more of
/// them are.
#[derive(Args, Clone, Debug, Default, PartialEq)]
pub struct NodeFlags {
    /// File with settings; each key is the name of a flag without its dashes.
    #[arg(long, env = "RESTPIPE_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// The settings given as flags, or as `RESTPIPE_*` in the environment.
    #[command(flatten)]
    pub args: NodeArgs,
}

/// All settings; `None` is one that is not given here. The same struct is the command line, the
/// `RESTPIPE_*` environment and node.toml. It is not split, because serde keeps neither line
/// numbers nor `deny_unknown_fields` through `flatten`.
#[derive(Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[command(mut_args = show_default)]
pub struct NodeArgs {
    /// Address to wait for pipes on; port 0 lets the system choose.
    #[arg(long, env = "RESTPIPE_LISTEN", value_name = "IP:PORT", help_heading = "Pipe")]
    pub listen: Option<TcpAddress>,

    /// The server to dial, for example hub.example:7072; without a port it is 7072.
    #[arg(long, env = "RESTPIPE_SERVER", value_name = "HOST:PORT", help_heading = "Pipe")]
    pub server: Option<ServerAddress>,

    /// The DNS name that the server's certificate must carry; needed if --server is an IP address.
    #[arg(long, env = "RESTPIPE_SERVER_NAME", value_name = "NAME", help_heading = "Pipe")]
    pub server_name: Option<Hostname>,

    /// End of the names in client certificates; what stands before it is the client's hostname.
    #[arg(long, env = "RESTPIPE_CLIENT_SUFFIX", value_name = "SUFFIX", help_heading = "Pipe")]
    pub client_suffix: Option<NameSuffix>,

    /// Hostnames of the clients that may connect, separated by commas.
    #[arg(long, env = "RESTPIPE_CLIENTS", value_name = "NAMES", help_heading = "Pipe")]
    pub clients: Option<List<Hostname>>,

    /// Hostnames of clients that are refused and cut off, separated by commas.
    #[arg(long, env = "RESTPIPE_SUSPENDED", value_name = "NAMES", help_heading = "Pipe")]
    pub suspended: Option<List<Hostname>>,

    /// Only the names in --clients may connect, also when there are none.
    #[arg(long, env = "RESTPIPE_LISTED_ONLY", value_name = "BOOL", help_heading = "Pipe",
        num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch)]
    pub listed_only: Option<bool>,

    /// Version of --clients and --suspended; lists of a lower one, also from an operator, do not count.
    #[arg(long, env = "RESTPIPE_NAMES_VERSION", value_name = "NUMBER", help_heading = "Pipe")]
    pub names_version: Option<Version>,

    /// The whole name in an operator's certificate; its pipe watches and changes who may connect.
    #[arg(long, env = "RESTPIPE_OPERATOR_NAME", value_name = "NAME", help_heading = "Pipe")]
    pub operator_name: Option<Hostname>,

    /// What this node calls itself among those that share its hostname, for example a pod's name.
    #[arg(long, env = "RESTPIPE_INSTANCE", value_name = "NAME", help_heading = "Pipe")]
    pub instance: Option<InstanceName>,

    /// How long a request waits for an absent peer; 0s does not wait.
    #[arg(long, env = "RESTPIPE_WAIT", value_name = "DURATION", help_heading = "Pipe")]
    pub wait: Option<HumanDuration>,

    /// Deadline of a request that asks for none.
    #[arg(long, env = "RESTPIPE_TIMEOUT", value_name = "DURATION", help_heading = "Pipe")]
    pub timeout: Option<HumanDuration<1>>,

    /// The longest deadline that a request may ask for.
    #[arg(long, env = "RESTPIPE_MAX_TIMEOUT", value_name = "DURATION", help_heading = "Pipe")]
    pub max_timeout: Option<HumanDuration<1>>,

    /// How long running calls may go on after SIGTERM.
    #[arg(long, env = "RESTPIPE_DRAIN", value_name = "DURATION", help_heading = "Pipe")]
    pub drain: Option<HumanDuration>,

    /// Silence before a ping, 500ms to 60s; after twice that the peer counts as dead.
    #[arg(long, env = "RESTPIPE_HEARTBEAT", value_name = "DURATION", help_heading = "Pipe")]
    pub heartbeat: Option<HumanDuration<500, 60_000>>,

    /// Where the gateway listens, separated by commas: IP:PORT or unix:/path.
    #[arg(long, env = "RESTPIPE_GATEWAY", value_name = "ADDRESSES", help_heading = "Gateway")]
    pub gateway: Option<List<BindAddress>>,

    /// Host names that requests may carry beside localhost and the loopback addresses, separated by commas.
    #[arg(long, env = "RESTPIPE_GATEWAY_HOST", value_name = "HOSTS", help_heading = "Gateway")]
    pub gateway_host: Option<List<Host>>,

    /// Allow --gateway on an address that is not loopback: whoever reaches it uses the pipe as this node.
    #[arg(long, env = "RESTPIPE_GATEWAY_PUBLIC", value_name = "BOOL", help_heading = "Gateway",
        num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch)]
    pub gateway_public: Option<bool>,

    /// Where /live, /ready, /metrics and /status are served, or off.
    #[arg(long, env = "RESTPIPE_ADMIN", value_name = "IP:PORT", help_heading = "Gateway")]
    pub admin: Option<OrOff<TcpAddress>>,

    /// The node directory: tls.crt, tls.key, ca.crt and node.toml.
    #[arg(long, env = "RESTPIPE_DIR", value_name = "DIR", help_heading = "Identity")]
    pub dir: Option<FilePath>,

    /// Certificate chain of this node, PEM; with --key and --ca.
    #[arg(long, env = "RESTPIPE_CERT", value_name = "FILE", help_heading = "Identity")]
    pub cert: Option<FilePath>,

    /// Private key of this node, PEM; with --cert and --ca.
    #[arg(long, env = "RESTPIPE_KEY", value_name = "FILE", help_heading = "Identity")]
    pub key: Option<FilePath>,

    /// Certificates of the authorities that this node trusts, PEM; with --cert and --key.
    #[arg(long, env = "RESTPIPE_CA", value_name = "FILE", help_heading = "Identity")]
    pub ca: Option<FilePath>,

    /// The app that answers events: http://HOST:PORT or unix:/path, for example http://127.0.0.1:8080.
    #[arg(long, env = "RESTPIPE_APP", value_name = "ADDRESS", help_heading = "Handlers")]
    pub app: Option<AppAddress>,

    /// Directory of executables that answer events: get_time answers GET of the noun time.
    #[arg(long, env = "RESTPIPE_HANDLERS", value_name = "DIR", help_heading = "Handlers")]
    pub handlers: Option<FilePath>,

    /// Answer the nouns time and cat if nothing else does.
    #[arg(long, env = "RESTPIPE_BUILTIN", value_name = "BOOL", help_heading = "Handlers",
        num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch)]
    pub builtin: Option<bool>,

    /// Send tracebacks and stderr of failed handlers over the pipe.
    #[arg(long, env = "RESTPIPE_TRACEBACKS", value_name = "BOOL", help_heading = "Handlers",
        num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch)]
    pub tracebacks: Option<bool>,

    /// Executable to run when a pipe is up.
    #[arg(long, env = "RESTPIPE_ON_CONNECT", value_name = "FILE", help_heading = "Hooks")]
    pub on_connect: Option<FilePath>,

    /// Executable to run when a pipe could not be made.
    #[arg(long, env = "RESTPIPE_ON_CONNECT_FAIL", value_name = "FILE", help_heading = "Hooks")]
    pub on_connect_fail: Option<FilePath>,

    /// Executable to run when a pipe has ended.
    #[arg(long, env = "RESTPIPE_ON_DISCONNECT", value_name = "FILE", help_heading = "Hooks")]
    pub on_disconnect: Option<FilePath>,

    /// Executable to run when a pipe has carried no event for --idle-after.
    #[arg(long, env = "RESTPIPE_ON_IDLE", value_name = "FILE", help_heading = "Hooks")]
    pub on_idle: Option<FilePath>,

    /// How long a pipe carries no event before --on-idle runs.
    #[arg(long, env = "RESTPIPE_IDLE_AFTER", value_name = "DURATION", help_heading = "Hooks")]
    pub idle_after: Option<HumanDuration<1>>,

    /// What is logged: a level, or a filter such as info,restpipe=debug.
    #[arg(long, env = "RESTPIPE_LOG", value_name = "FILTER", help_heading = "Observability")]
    pub log: Option<String>,

    /// How it is logged: text, json, or auto, which is text on a terminal and else json.
    #[arg(
        long,
        env = "RESTPIPE_LOG_FORMAT",
        value_name = "FORMAT",
        help_heading = "Observability"
    )]
    pub log_format: Option<LogFormat>,

    /// Where statsd packets are sent, UDP; off or nothing at all switches them off.
    #[arg(long, env = "RESTPIPE_STATSD", value_name = "HOST:PORT", help_heading = "Observability")]
    pub statsd: Option<OrOff<StatsdAddress>>,

    /// Gateway requests in flight at once; more get 429.
    #[arg(long, env = "RESTPIPE_MAX_REQUESTS", value_name = "COUNT", help_heading = "Limits")]
    pub max_requests: Option<Count>,

    /// Events at once, per pipe and direction; 1 to 4096.
    #[arg(long, env = "RESTPIPE_MAX_STREAMS", value_name = "COUNT", help_heading = "Limits")]
    pub max_streams: Option<Count<4096>>,

    /// The largest body, for example 10MB, or off for no limit; larger ones get 413.
    #[arg(long, env = "RESTPIPE_MAX_BODY", value_name = "BYTES", help_heading = "Limits")]
    pub max_body: Option<OrOff<ByteSize>>,

    /// Connections to the gateway at once.
    #[arg(long, env = "RESTPIPE_MAX_CONNECTIONS", value_name = "COUNT", help_heading = "Limits")]
    pub max_connections: Option<Count>,

    /// Pipes at once.
    #[arg(long, env = "RESTPIPE_MAX_PIPES", value_name = "COUNT", help_heading = "Limits")]
    pub max_pipes: Option<Count>,

    /// TLS handshakes at once.
    #[arg(long, env = "RESTPIPE_MAX_HANDSHAKES", value_name = "COUNT", help_heading = "Limits")]
    pub max_handshakes: Option<Count>,

    /// TLS handshakes at once from one source address.
    #[arg(
        long,
        env = "RESTPIPE_MAX_HANDSHAKES_PER_SOURCE",
        value_name = "COUNT",
        help_heading = "Limits"
    )]
    pub max_handshakes_per_source: Option<Count>,

    /// Bytes of bodies that the whole process may hold, at least 1MiB, for example 64MiB.
    #[arg(long, env = "RESTPIPE_MEMORY_BUDGET", value_name = "BYTES", help_heading = "Limits")]
    pub memory_budget: Option<ByteSize<{ 1 << 20 }>>,
}

/// Adds the default to the help. It is no default value for clap, which would hide whether the
/// flag was given.
fn show_default(arg: Arg) -> Arg {
    let words = arg.get_long().and_then(default::in_words);
    match (words, arg.get_help()) {
        (Some(words), Some(help)) => {
            let help = format!("{help} [default: {words}]");
            arg.help(help)
        }
        _ => arg,
    }
}
