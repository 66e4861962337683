//! The tables of docs/configuration.md, made from the command line itself.

use std::fmt::Write as _;

use clap::{Arg, Args, Command};

use crate::args::NodeFlags;
use crate::default;
use crate::legacy::LEGACY_NAMES;
use crate::role::Who;

/// Two Markdown tables: all settings, and the original's environment names.
#[must_use]
pub fn settings_table() -> String {
    let command = NodeFlags::augment_args(Command::new("restpipe"));
    let mut page = String::from(
        "| flag | environment | node.toml | who | default | meaning |\n|---|---|---|---|---|---|\n",
    );
    for arg in command.get_arguments() {
        page.extend(row(arg));
    }
    page += "\n| environment | stands for | who | meaning |\n|---|---|---|---|\n";
    for name in LEGACY_NAMES {
        // Writing to a String cannot fail.
        let _ = writeln!(
            page,
            "| `{}` | `--{}` | {} | {} |",
            name.name, name.key, name.who, name.meaning
        );
    }
    page
}

fn row(arg: &Arg) -> Option<String> {
    let key = arg.get_long()?;
    let value = arg.get_value_names()?.first()?;
    let variable = arg.get_env()?.to_string_lossy();
    let default = default::in_words(key).unwrap_or_else(|| "-".into());
    let help = arg.get_help()?.to_string();
    let meaning = help.split(" [default: ").next()?;
    // A switch is on without a value.
    let value = match arg.get_num_args().map(|count| count.min_values()) {
        Some(0) => format!("[={value}]"),
        _ => format!(" {value}"),
    };
    let in_file = if key == "config" { "-".into() } else { format!("`{key}`") };
    let who = Who::of(key);
    let cells = [
        format!("`--{key}{value}`"),
        format!("`{variable}`"),
        in_file,
        who.to_string(),
        default,
        meaning.into(),
    ];
    Some(format!("| {} |\n", cells.map(|cell| cell.replace('|', "\\|")).join(" | ")))
}
