//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context, ensure};
use clap::{Args, Parser, Subcommand};

use crate::bench::Ask;
use crate::case::Case;
use crate::role::Role;

/// Measures a node beside roofs taken in the same run, on loopback only.
#[derive(Debug, Parser)]
#[command(name = "restpipe-bench", args_conflicts_with_subcommands = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

/// What this binary is when it is not the bench itself.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// One role of a measurement; the bench starts these.
    #[command(hide = true, subcommand)]
    Role(Role),
}

/// Flags of a run.
#[derive(Args, Clone, Debug)]
pub(crate) struct RunArgs {
    /// Only this measurement; may be repeated.
    #[arg(long, value_name = "NAME", value_enum)]
    pub(crate) only: Vec<Case>,
    /// Two minutes instead of five: fewer rounds and shorter windows.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Rounds of each timed measurement; 5, or 3 with --quick.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) rounds: Option<u32>,
    /// Writes all figures there, with facts about the machine.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Prints the table as Markdown, as docs/performance.md has it.
    #[arg(long)]
    pub(crate) markdown: bool,
    /// The node; `restpipe` beside this binary if not given.
    #[arg(long, value_name = "FILE")]
    pub(crate) node: Option<PathBuf>,
    /// A second node, measured in turns with the first: A B A B.
    #[arg(long, value_name = "FILE")]
    pub(crate) vs: Option<PathBuf>,
    /// Nodes reach their app by a Unix socket instead of TCP.
    #[arg(long)]
    pub(crate) app_unix: bool,
    /// Another implementation: a URL at which the app (--app) is reached through it.
    #[arg(long, value_name = "NAME=URL")]
    pub(crate) target: Vec<Target>,
    /// Where the app listens, for --target; port 0 lets the system choose.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:0")]
    pub(crate) app: SocketAddr,
}

/// Another implementation, reached at a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) name: String,
    pub(crate) url: String,
}

impl Target {
    /// A lone call through it to `path` of the app.
    pub(crate) fn ask(&self, path: &str) -> anyhow::Result<Ask> {
        let rest = self.url.trim_start_matches("http://");
        let (host, prefix) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        Ok(Ask::one(host.parse()?, format!("{prefix}{path}")))
    }
}

impl FromStr for Target {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let (name, url) = text.split_once('=').context("write NAME=URL")?;
        ensure!(!name.is_empty(), "write NAME=URL: the name is missing");
        let rest = url.strip_prefix("http://").context("the URL must begin with http://")?;
        let host = rest.split('/').next().unwrap_or_default();
        let address: SocketAddr =
            host.parse().context("the URL's host must be IP:PORT, for example 127.0.0.1:9001")?;
        ensure!(address.ip().is_loopback(), "loads go to loopback only, not to {}", address.ip());
        Ok(Self { name: name.to_owned(), url: url.trim_end_matches('/').to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn a_target_is_a_name_and_a_url_on_loopback() {
        let target: Target = "nats=http://127.0.0.1:9001/x/".parse().unwrap();
        assert_eq!(target.name, "nats");
        assert_eq!(target.url, "http://127.0.0.1:9001/x");
        for bad in ["nats", "=http://127.0.0.1:1", "a=https://127.0.0.1:1", "a=http://192.0.2.1:1"]
        {
            assert!(bad.parse::<Target>().is_err(), "{bad}");
        }
    }
}
