//! The tables for docs/configuration.md, and the names in them.

use clap::{Args, Command};
use restpipe_config::{LEGACY_NAMES, NodeArgs, NodeFlags, Who, settings_table};

#[test]
fn the_table_has_a_row_for_every_setting_and_every_old_name() {
    let table = settings_table();
    let rows = table.lines().filter(|line| line.starts_with("| `")).count();
    let flags = NodeFlags::augment_args(Command::new("restpipe")).get_arguments().count();
    assert_eq!(rows, flags + LEGACY_NAMES.len());
    for row in [
        "| `--config FILE` | `RESTPIPE_CONFIG` | - | both | node.toml in --dir, if there | File with settings; \
         each key is the name of a flag without its dashes |",
        "| `--listen IP:PORT` | `RESTPIPE_LISTEN` | `listen` | server | 0.0.0.0:7072 | Address to wait for pipes \
         on; port 0 lets the system choose |",
        "| `--gateway-public[=BOOL]` | `RESTPIPE_GATEWAY_PUBLIC` | `gateway-public` | both | false | Allow \
         --gateway on an address that is not loopback: whoever reaches it uses the pipe as this node |",
        "| `BIND_IP` | `--listen` | server | The address for pipes, 0.0.0.0 if it is not given. |",
    ] {
        assert!(table.lines().any(|line| line == row), "{row}\n\nis not in\n\n{table}");
    }
}

#[test]
fn flag_and_variable_have_one_name() {
    let command = NodeArgs::augment_args(Command::new("restpipe"));
    for arg in command.get_arguments() {
        let key = arg.get_long().unwrap_or_default();
        let variable = format!("RESTPIPE_{}", key.replace('-', "_").to_uppercase());
        assert_eq!(arg.get_env().and_then(|name| name.to_str()), Some(variable.as_str()));
        assert!(arg.get_help_heading().is_some(), "--{key} has no heading");
    }
}

#[test]
fn every_setting_of_one_role_is_a_setting() {
    let command = NodeArgs::augment_args(Command::new("restpipe"));
    let one_role = command
        .get_arguments()
        .filter_map(|arg| arg.get_long())
        .filter(|key| Who::of(key) != Who::Both);
    assert_eq!(one_role.count(), 12, "as many as `Who::of` names");
}
