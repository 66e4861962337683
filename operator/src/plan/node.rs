//! The node.toml of a Secret, as the nodes read it.

use restpipe_api::condition::reason;
use restpipe_api::names;
use restpipe_config::{List, NodeArgs};

use crate::seen::{Key, Names, Trouble};

/// The file of settings in a node directory.
pub const NODE_TOML: &str = "node.toml";

/// The node.toml of a server's pods.
///
/// # Errors
/// If a name is none: the accepted ones all are.
pub fn server_toml(server: &Key, names: &Names) -> Result<String, Trouble> {
    let hostnames = |names: &std::collections::BTreeSet<String>| {
        names.iter().map(|name| read(name)).collect::<Result<_, _>>().map(List).map(Some)
    };
    let suffix = names::client_suffix(&server.name, &server.namespace);
    let args = NodeArgs {
        client_suffix: Some(read(&suffix)?),
        clients: hostnames(&names.clients)?,
        suspended: hostnames(&names.suspended)?,
        ..NodeArgs::default()
    };
    Ok(args.to_toml() + &operator_lines(names.version))
}

/// Settings that only operators write.
fn operator_lines(version: u64) -> String {
    format!(
        "listed-only = true\nnames-version = {version}\noperator-name = \"{}\"\n",
        names::OPERATOR_NAME
    )
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

fn read<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, Trouble> {
    text.parse().map_err(|error| Trouble {
        reason: reason::ADDRESS_INVALID,
        detail: format!("{text:?} cannot be used in a node's settings: {error}"),
    })
}

/// The lists of names in a server's node.toml, if it can be read.
#[must_use]
pub fn names_in(node_toml: &[u8]) -> Option<Names> {
    let table: toml::Table = std::str::from_utf8(node_toml).ok()?.parse().ok()?;
    let list = |key: &str| {
        let items = table.get(key).and_then(toml::Value::as_array).into_iter().flatten();
        items.filter_map(toml::Value::as_str).map(str::to_owned).collect()
    };
    let version = table.get("names-version")?.as_integer()?;
    Some(Names {
        version: version.try_into().ok()?,
        clients: list("clients"),
        suspended: list("suspended"),
    })
}
