//! The environment names of RestPipe 0.2: below `RESTPIPE_*`, above node.toml.

use std::collections::BTreeMap;
use std::str::FromStr;

use crate::address::{OrOff, TcpAddress};
use crate::args::NodeArgs;
use crate::default;
use crate::error::ConfigError;
use crate::host::{Host, HostPort, StatsdAddress, dial_port};
use crate::role::{Role, Who};

/// One of the original's names, for docs/configuration.md.
#[derive(Clone, Copy, Debug)]
pub struct LegacyName {
    /// The environment variable.
    pub name: &'static str,
    /// The nodes that look at it.
    pub who: Who,
    /// The setting that it takes part in.
    pub key: &'static str,
    /// What it means.
    pub meaning: &'static str,
}

/// All of the original's names that still work.
pub const LEGACY_NAMES: [LegacyName; 9] = {
    const CLIENT: Who = Who::Only(Role::Client);
    const SERVER: Who = Who::Only(Role::Server);
    const fn row(
        name: &'static str,
        who: Who,
        key: &'static str,
        meaning: &'static str,
    ) -> LegacyName {
        LegacyName { name, who, key, meaning }
    }
    [
        row("RP_CLIENT_TARGET_HOSTNAME", CLIENT, "server", "The host of the server."),
        row(
            "RP_CLIENT_TARGET_PORT",
            CLIENT,
            "server",
            "The port of the server, 7072 if it is not given.",
        ),
        row("BIND_IP", SERVER, "listen", "The address for pipes, 0.0.0.0 if it is not given."),
        row("BIND_PORT", SERVER, "listen", "The port for pipes, 7072 if it is not given."),
        row("RP_SERVER_BIND_INTERFACE", SERVER, "listen", "As `BIND_IP`, which wins."),
        row("RP_SERVER_BIND_PORT", SERVER, "listen", "As `BIND_PORT`, which wins."),
        row(
            "RP_STATSD_HOST",
            Who::Both,
            "statsd",
            "The host of statsd, localhost if it is not given; empty: off.",
        ),
        row(
            "RP_STATSD_PORT",
            Who::Both,
            "statsd",
            "The port of statsd, 8125 if it is not given; empty: off.",
        ),
        row("DEBUG", Who::Both, "log", "`1` logs at level debug; any other value means nothing."),
    ]
};

/// The settings that the original's names give, and by which name each.
#[derive(Debug, Default)]
pub(crate) struct Legacy {
    pub(crate) args: NodeArgs,
    pub(crate) names: BTreeMap<&'static str, &'static str>,
}

/// A variable that is there and not empty.
struct Given {
    name: &'static str,
    value: String,
}

impl Given {
    fn error(&self, message: impl ToString) -> ConfigError {
        let (name, value, message) = (self.name, self.value.clone(), message.to_string());
        ConfigError::Variable { name, value, message }
    }

    fn parse<T: FromStr>(&self, accepted: &str) -> Result<T, ConfigError> {
        self.value.parse().map_err(|_| self.error(accepted))
    }
}

type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Reads the original's names. What is `given` already by a flag or by `RESTPIPE_*` is not
/// looked at, so that names as common as `BIND_PORT` do no harm to those who do not use them.
pub(crate) fn read(
    role: Role,
    lookup: Lookup<'_>,
    given: &NodeArgs,
) -> Result<Legacy, ConfigError> {
    // Kubernetes sets BIND_PORT=tcp://10.0.0.1:53 where there is a Service named bind.
    let is_service =
        |value: &str| ["tcp://", "udp://", "sctp://"].iter().any(|p| value.starts_with(p));
    let lookup = &|name: &str| lookup(name).filter(|value| !is_service(value));
    let mut found = Legacy::default();
    if role == Role::Client && given.server.is_none() {
        target(lookup, &mut found)?;
    }
    if role == Role::Server && given.listen.is_none() {
        bind(lookup, &mut found)?;
    }
    if given.statsd.is_none() {
        statsd(lookup, &mut found)?;
    }
    if given.log.is_none() && lookup("DEBUG").is_some_and(|value| value == "1") {
        found.args.log = Some("debug".into());
        found.names.insert("log", "DEBUG");
    }
    Ok(found)
}

/// The first of the names that is set and not empty.
fn first(lookup: Lookup<'_>, names: &[&'static str]) -> Option<Given> {
    let given = |name: &&'static str| {
        let value = lookup(name).filter(|value| !value.is_empty())?;
        Some(Given { name, value })
    };
    names.iter().find_map(given)
}

fn port_of(given: &Given) -> Result<u16, ConfigError> {
    dial_port(&given.value).ok_or_else(|| given.error("give a port from 1 to 65535"))
}

fn target(lookup: Lookup<'_>, found: &mut Legacy) -> Result<(), ConfigError> {
    let host = first(lookup, &["RP_CLIENT_TARGET_HOSTNAME"]);
    let port = first(lookup, &["RP_CLIENT_TARGET_PORT"]);
    let Some(name) = host else {
        let without = |port: Given| Err(port.error("set RP_CLIENT_TARGET_HOSTNAME as well"));
        return port.map_or(Ok(()), without);
    };
    let host: Host = name.value.parse().map_err(|error| name.error(error))?;
    let port = port.as_ref().map_or(Ok(default::PIPE_PORT), port_of)?;
    found.args.server = Some(HostPort { host, port });
    found.names.insert("server", name.name);
    Ok(())
}

fn bind(lookup: Lookup<'_>, found: &mut Legacy) -> Result<(), ConfigError> {
    let ip = first(lookup, &["BIND_IP", "RP_SERVER_BIND_INTERFACE"]);
    let port = first(lookup, &["BIND_PORT", "RP_SERVER_BIND_PORT"]);
    let Some(name) = ip.as_ref().or(port.as_ref()).map(|given| given.name) else {
        return Ok(());
    };
    let mut listen = default::LISTEN;
    if let Some(ip) = ip {
        listen.set_ip(ip.parse("give an IP address, for example 0.0.0.0")?);
    }
    if let Some(port) = port {
        listen.set_port(port.parse("give a port from 0 to 65535")?);
    }
    found.args.listen = Some(TcpAddress(listen));
    found.names.insert("listen", name);
    Ok(())
}

fn statsd(lookup: Lookup<'_>, found: &mut Legacy) -> Result<(), ConfigError> {
    let names = ["RP_STATSD_HOST", "RP_STATSD_PORT"];
    let Some(name) = names.into_iter().find(|name| lookup(name).is_some()) else {
        return Ok(());
    };
    let off = names.iter().any(|name| lookup(name).is_some_and(|value| value.is_empty()));
    let host = first(lookup, &names[..1]);
    let port = first(lookup, &names[1..]);
    let host = match host {
        Some(given) => given.value.parse().map_err(|error| given.error(error))?,
        None => Host::Name(default::STATSD_HOST.into()),
    };
    let port = port.as_ref().map_or(Ok(default::STATSD_PORT), port_of)?;
    let address: StatsdAddress = HostPort { host, port };
    found.args.statsd = Some(if off { OrOff::Off } else { OrOff::On(address) });
    found.names.insert("statsd", name);
    Ok(())
}
