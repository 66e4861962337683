//! The node.toml of a Secret, as the nodes read it.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::str::FromStr;

use restpipe_api::condition::reason;
use restpipe_api::names;
use restpipe_config::{Hostname, List, NodeArgs, Version};

use crate::seen::{Key, Names, Trouble};

/// The file of settings in a node directory.
pub const NODE_TOML: &str = "node.toml";

/// The node.toml of a server's pods.
///
/// # Errors
/// If a name is none: those of accepted links all are.
pub fn server_toml(server: &Key, names: &Names) -> Result<String, Trouble> {
    let suffix = names::client_suffix(&server.name, &server.namespace);
    let version = Version::try_from(names.version).map_err(|error| unusable("version", error))?;
    let args = NodeArgs {
        client_suffix: Some(read(&suffix)?),
        clients: Some(hostnames(&names.clients)?),
        suspended: Some(hostnames(&names.suspended)?),
        listed_only: Some(true),
        names_version: Some(version),
        operator_name: Some(read(names::OPERATOR_NAME)?),
        ..NodeArgs::default()
    };
    Ok(args.to_toml())
}

/// The node.toml of a client's pods.
///
/// # Errors
/// If the address or the name is none that a node takes.
pub fn client_toml(address: &str, server_name: &str) -> Result<String, Trouble> {
    let args = NodeArgs {
        server: Some(read(address)?),
        server_name: Some(read(server_name)?),
        ..NodeArgs::default()
    };
    Ok(args.to_toml())
}

/// The lists of names in a server's node.toml, if it can be read.
#[must_use]
pub fn names_in(node_toml: &[u8]) -> Option<Names> {
    let args: NodeArgs = toml::from_str(std::str::from_utf8(node_toml).ok()?).ok()?;
    let texts = |list: Option<List<Hostname>>| {
        list.unwrap_or_default().0.iter().map(|name| name.as_str().to_owned()).collect()
    };
    Some(Names {
        version: args.names_version?.get(),
        clients: texts(args.clients),
        suspended: texts(args.suspended),
    })
}

fn hostnames(names: &BTreeSet<String>) -> Result<List<Hostname>, Trouble> {
    names.iter().map(|name| read(name)).collect::<Result<_, _>>().map(List)
}

fn read<T: FromStr<Err: Display>>(text: &str) -> Result<T, Trouble> {
    text.parse().map_err(|error| unusable(text, error))
}

fn unusable(text: &str, error: impl Display) -> Trouble {
    Trouble {
        reason: reason::ADDRESS_INVALID,
        detail: format!("{text:?} cannot stand in a node's settings: {error}"),
    }
}
