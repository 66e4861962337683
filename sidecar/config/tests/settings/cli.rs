//! A command line as the binary has it, and an environment that is not the real one.

use clap::{CommandFactory, Parser, Subcommand};
use restpipe_config::{ConfigError, ConfigFile, NodeArgs, NodeFlags, Role, Settings, only_for};
use std::path::Path;

/// The pipe.
#[derive(Parser, Debug)]
#[command(name = "restpipe")]
struct Cli {
    #[command(subcommand)]
    command: Node,
}

#[derive(Subcommand, Debug)]
enum Node {
    /// Waits for pipes.
    #[command(mut_args = only_for(Role::Server))]
    Server(Box<NodeFlags>),
    /// Dials a server.
    #[command(mut_args = only_for(Role::Client))]
    Client(Box<NodeFlags>),
}

/// Parses `restpipe ROLE FLAGS`.
pub(crate) fn parse<S: AsRef<str>>(role: &str, flags: &[S]) -> Result<NodeFlags, clap::Error> {
    let words = ["restpipe", role].into_iter().chain(flags.iter().map(AsRef::as_ref));
    Cli::try_parse_from(words).map(|cli| match cli.command {
        Node::Server(flags) | Node::Client(flags) => *flags,
    })
}

/// Parses `restpipe` without anything after it.
pub(crate) fn nothing() -> Result<(), clap::Error> {
    Cli::try_parse_from(["restpipe"]).map(|_| ())
}

/// The text of `restpipe ROLE --help`.
pub(crate) fn help(role: &str) -> String {
    parse(role, &["--help"]).map_or_else(|error| error.to_string(), |_| String::new())
}

/// clap's own check of the command, which panics with what is wrong.
pub(crate) fn check() {
    Cli::command().debug_assert();
}

/// The settings given by these flags.
pub(crate) fn given(flags: &[&str]) -> NodeArgs {
    parse("server", flags).expect("good flags").args
}

/// An environment with these variables.
pub(crate) fn env<'a>(pairs: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<String> + 'a {
    move |name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
}

/// Resolves all layers; an empty file is none.
pub(crate) fn resolve(
    role: Role,
    flags: &[&str],
    variables: &[(&str, &str)],
    file: &str,
) -> Result<Settings, ConfigError> {
    let file = match file {
        "" => None,
        text => Some(ConfigFile::parse(Path::new("/etc/restpipe/node.toml"), text)?),
    };
    Settings::resolve(role, &given(flags), file.as_ref(), &env(variables))
}

/// Why the layers are refused.
pub(crate) fn refusal(
    role: Role,
    flags: &[&str],
    variables: &[(&str, &str)],
    file: &str,
) -> String {
    match resolve(role, flags, variables, file) {
        Ok(settings) => format!("taken: {settings:?}"),
        Err(error) => error.to_string(),
    }
}
