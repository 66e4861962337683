//! From what is given to what it means: defaults, and the contradictions between settings.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use crate::address::{BindAddress, OrOff, TcpAddress};
use crate::args::NodeArgs;
use crate::error::ConfigError;
use crate::file::ConfigFile;
use crate::host::{Host, HostPort, Hostname, ServerAddress};
use crate::layers::Layers;
use crate::list::List;
use crate::number::{ByteSize, Count, Version};
use crate::role::{Role, Who};
use crate::settings::{
    End, GatewaySettings, HandlerSettings, HookSettings, IdentitySettings, Limits, NameSettings,
    PipeSettings, Settings, TelemetrySettings,
};
use crate::text::FilePath;
use crate::{default, legacy};

impl Settings {
    /// Puts the layers together, flags (with `RESTPIPE_*`, as clap gives them) above the
    /// original's environment names above the file, and fills in the defaults.
    ///
    /// `lookup` reads an environment variable.
    ///
    /// # Errors
    /// A bad value of one of the original's names, or settings that contradict each other.
    pub fn resolve(
        role: Role,
        flags: &NodeArgs,
        file: Option<&ConfigFile>,
        lookup: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        let legacy = legacy::read(role, lookup, flags)?;
        let layers = Layers { flags, legacy: &legacy, file };
        let foreign = layers.table().into_iter().find(|(key, _)| !Who::of(key).includes(role));
        if let Some((key, _)) = foreign {
            return Err(ConfigError::WrongRole { setting: layers.place(&key), role });
        }
        fill(role, layers.merged()?, &layers)
    }
}

/// Longer than other functions, because it names each setting twice: taken apart whole, a
/// setting that is forgotten here does not compile.
fn fill(role: Role, given: NodeArgs, layers: &Layers<'_>) -> Result<Settings, ConfigError> {
    #[rustfmt::skip]
    let NodeArgs {
        listen, server, server_name, client_suffix, clients, suspended,
        listed_only, names_version, operator_name, instance, wait, timeout, max_timeout, drain, heartbeat,
        gateway, gateway_host, gateway_public, admin,
        dir, cert, key, ca,
        app, handlers, builtin, tracebacks,
        on_connect, on_connect_fail, on_disconnect, on_idle, idle_after,
        log, log_format, statsd,
        max_requests, max_streams, max_body, max_connections,
        max_pipes, max_handshakes, max_handshakes_per_source, memory_budget,
    } = given;

    let end = match role {
        Role::Server => {
            let client_suffix = client_suffix.unwrap_or_default().to_string();
            End::Listen {
                listen: listen.map_or(default::LISTEN, |TcpAddress(address)| address),
                operator_name: operator(operator_name, &client_suffix, layers)?,
                client_suffix,
                names: NameSettings {
                    version: names_version.map_or(0, Version::get),
                    listed_only: listed_only.unwrap_or(false),
                    clients: clients.unwrap_or_default().0,
                    suspended: suspended.unwrap_or_default().0,
                },
            }
        }
        Role::Client => dial(server, server_name, layers)?,
    };
    let max_timeout = max_timeout.map_or(default::MAX_TIMEOUT, |span| span.get());
    let timeout = match timeout.map(|span| span.get()) {
        // Whoever lowers the longest deadline need not lower the default as well.
        None => default::TIMEOUT.min(max_timeout),
        Some(timeout) if timeout <= max_timeout => timeout,
        Some(timeout) => {
            let setting = layers.place("timeout");
            return Err(ConfigError::TimeoutTooLong { setting, timeout, max: max_timeout });
        }
    };
    Ok(Settings {
        pipe: PipeSettings {
            end,
            instance: instance.map(|name| name.to_string()),
            wait: wait.map_or(default::WAIT, |span| span.get()),
            timeout,
            max_timeout,
            drain: drain.map_or(default::DRAIN, |span| span.get()),
            heartbeat: heartbeat.map_or(default::HEARTBEAT, |span| span.get()),
        },
        gateway: GatewaySettings {
            addresses: gateway_addresses(gateway, gateway_public == Some(true), layers)?,
            hosts: gateway_host.unwrap_or_default().0,
            admin: match admin.unwrap_or(OrOff::On(TcpAddress(default::ADMIN))) {
                OrOff::On(TcpAddress(address)) => Some(address),
                OrOff::Off => None,
            },
        },
        identity: identity(dir, [cert, key, ca], layers)?,
        handlers: HandlerSettings {
            builtin: builtin.unwrap_or(app.is_none() && handlers.is_none()),
            app,
            directory: handlers.map(Into::into),
            tracebacks: tracebacks.unwrap_or(false),
        },
        hooks: HookSettings {
            on_connect: on_connect.map(Into::into),
            on_connect_fail: on_connect_fail.map(Into::into),
            on_disconnect: on_disconnect.map(Into::into),
            on_idle: on_idle.map(Into::into),
            idle_after: idle_after.map_or(default::IDLE_AFTER, |span| span.get()),
        },
        telemetry: TelemetrySettings {
            log: log.unwrap_or_else(|| default::LOG.into()),
            log_format: log_format.unwrap_or_default(),
            statsd: statsd.map_or_else(|| Some(default_statsd()), OrOff::on),
        },
        limits: Limits {
            max_requests: max_requests.map_or(default::MAX_REQUESTS as usize, Count::size),
            max_streams: max_streams.map_or(default::MAX_STREAMS, Count::get),
            max_body: max_body.and_then(OrOff::on).map(ByteSize::get),
            max_connections: max_connections.map_or(default::MAX_CONNECTIONS as usize, Count::size),
            max_pipes: max_pipes.map_or(default::MAX_PIPES as usize, Count::size),
            max_handshakes: max_handshakes.map_or(default::MAX_HANDSHAKES as usize, Count::size),
            max_handshakes_per_source: max_handshakes_per_source
                .map_or(default::MAX_HANDSHAKES_PER_SOURCE as usize, Count::size),
            memory_budget: memory_budget.map_or(default::MEMORY_BUDGET, ByteSize::get),
        },
    })
}

fn default_statsd<const PORT: u16>() -> HostPort<PORT> {
    HostPort { host: Host::Name(default::STATSD_HOST.into()), port: default::STATSD_PORT }
}

/// A name below the clients' suffix would be an operator and a client at once.
fn operator(
    name: Option<Hostname>,
    client_suffix: &str,
    layers: &Layers<'_>,
) -> Result<Option<Hostname>, ConfigError> {
    let below = |name: &&Hostname| {
        let rest = name.as_str().strip_suffix(client_suffix);
        !client_suffix.is_empty() && rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    match name.as_ref().filter(below) {
        None => Ok(name),
        Some(name) => Err(ConfigError::OperatorAmongClients {
            setting: layers.place("operator-name"),
            name: name.to_string(),
            suffix: client_suffix.to_owned(),
        }),
    }
}

fn dial(
    server: Option<ServerAddress>,
    server_name: Option<Hostname>,
    layers: &Layers<'_>,
) -> Result<End, ConfigError> {
    let server = server.ok_or(ConfigError::NoServer)?;
    let of_host = match &server.host {
        Host::Name(name) => name.trim_end_matches('.').parse().ok(),
        Host::Ip(_) => None,
    };
    let server_name = server_name.or(of_host).ok_or_else(|| ConfigError::NoServerName {
        setting: layers.place("server"),
        address: server.host.to_string(),
    })?;
    Ok(End::Dial { server, server_name })
}

fn gateway_addresses(
    given: Option<List<BindAddress>>,
    public: bool,
    layers: &Layers<'_>,
) -> Result<Vec<BindAddress>, ConfigError> {
    let Some(List(addresses)) = given else {
        return Ok(default::GATEWAY.map(BindAddress::Tcp).into());
    };
    if addresses.is_empty() {
        return Err(ConfigError::NoGateway { setting: layers.place("gateway") });
    }
    // ::ffff:127.0.0.1 is loopback as well.
    let is_loopback = |ip: IpAddr| ip.to_canonical().is_loopback();
    for address in &addresses {
        if let BindAddress::Tcp(address) = *address
            && !public
            && !is_loopback(address.ip())
        {
            return Err(ConfigError::PublicGateway { setting: layers.place("gateway"), address });
        }
    }
    Ok(addresses)
}

fn identity(
    dir: Option<FilePath>,
    files: [Option<FilePath>; 3],
    layers: &Layers<'_>,
) -> Result<IdentitySettings, ConfigError> {
    let dir = dir.map_or_else(|| default::DIR.into(), PathBuf::from);
    match files {
        [Some(cert), Some(key), Some(ca)] => {
            Ok(IdentitySettings { dir, cert: cert.into(), key: key.into(), ca: ca.into() })
        }
        [None, None, None] => Ok(in_dir(dir)),
        [cert, key, ca] => {
            let all = [("cert", "--cert", cert), ("key", "--key", key), ("ca", "--ca", ca)];
            let (given, missing): (Vec<_>, Vec<_>) =
                all.into_iter().partition(|(.., file)| file.is_some());
            let given = given.first().map(|(key, ..)| layers.place(key)).unwrap_or_default();
            let missing = missing.first().map(|(_, flag, _)| *flag).unwrap_or_default();
            Err(ConfigError::PartOfIdentity { given, missing })
        }
    }
}

fn in_dir(dir: PathBuf) -> IdentitySettings {
    let file = |name: &str| Path::new(&dir).join(name);
    let (cert, key, ca) =
        (file(default::CERT_FILE), file(default::KEY_FILE), file(default::CA_FILE));
    IdentitySettings { dir, cert, key, ca }
}
