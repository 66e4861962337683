//! clap's usage errors, which take five lines, in one.

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Args, Command};

use crate::args::NodeArgs;
use crate::render::variable;

/// A usage error in one line that ends with where help is. For errors only: `--help` and
/// `--version` come from clap as errors too and stay as they are
/// ([`clap::Error::use_stderr`] tells them apart).
#[must_use]
pub fn one_line(error: &clap::Error) -> String {
    let words: Vec<String> =
        std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    one_line_with(error, &words, &|name| std::env::var(name).ok())
}

/// As [`one_line`], with the command line (the program first) and the environment given.
#[must_use]
pub fn one_line_with(
    error: &clap::Error,
    words: &[String],
    lookup: &dyn Fn(&str) -> Option<String>,
) -> String {
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        // clap prints the whole help here, without a word of what is wrong.
        return format!("something is missing after `{0}`; see `{0} --help`", leading(words));
    }
    let rendered = error.render().to_string();
    let text = rendered.strip_prefix("error: ").unwrap_or(&rendered);
    // What comes after is the usage and the advice to try --help.
    let ends = ["\n\nUsage: ", "\nUsage: ", "\n\nFor more information"];
    let end = ends.iter().filter_map(|end| text.find(end)).min().unwrap_or(text.len());
    let paragraphs = text[..end].split("\n\n").map(|paragraph| {
        let words: Vec<&str> = paragraph.split_whitespace().collect();
        words.join(" ")
    });
    let said: Vec<String> = paragraphs.filter(|paragraph| !paragraph.is_empty()).collect();
    let mut line = said.join("; ").replace("; tip: ", "; ");
    if error.kind() == ErrorKind::ArgumentConflict && is_list(error) {
        line += "; give it once, with commas between the values";
    }
    if let Some(name) = source(error, lookup) {
        line += &format!(" (from the environment variable {name})");
    }
    let command = usage(&rendered).unwrap_or_else(|| leading(words));
    format!("{line}; see `{command} --help`")
}

/// The variable that the bad value came from. clap does not say; but it looks at the variable
/// only if there is no flag, and then this is the value that it found.
fn source(error: &clap::Error, lookup: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    let name = variable(key(error)?);
    let value = context(error, ContextKind::InvalidValue)?;
    (lookup(&name)? == value).then_some(name)
}

/// The flag that the error is about, without its dashes and its value.
fn key(error: &clap::Error) -> Option<&str> {
    let flag = context(error, ContextKind::InvalidArg)?.strip_prefix("--")?;
    flag.split([' ', '=', '[']).next()
}

fn context(error: &clap::Error, kind: ContextKind) -> Option<&str> {
    match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text),
        _ => None,
    }
}

/// Whether the error is about a flag whose help says that it takes a list.
fn is_list(error: &clap::Error) -> bool {
    let command = NodeArgs::augment_args(Command::new("restpipe"));
    let is_it = |arg: &&Arg| arg.get_long() == key(error);
    let help = command.get_arguments().find(is_it).and_then(Arg::get_help);
    help.is_some_and(|help| help.to_string().contains("separated by commas"))
}

/// The command in clap's usage line, up to its first argument: `restpipe server`.
fn usage(rendered: &str) -> Option<String> {
    let (_, usage) = rendered.split_once("Usage: ")?;
    let is_command = |word: &&str| !word.starts_with(['<', '[', '-']);
    let words: Vec<&str> =
        usage.lines().next()?.split_whitespace().take_while(is_command).collect();
    (!words.is_empty()).then(|| words.join(" "))
}

/// The program and its subcommands, for errors that come without a usage line.
fn leading(words: &[String]) -> String {
    let program = words.first().and_then(|path| path.rsplit('/').next()).unwrap_or("restpipe");
    let is_command = |word: &&String| word.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
    // No command has more than two levels: `restpipe identity ca`.
    let rest = words.iter().skip(1).take(2);
    let commands = rest.take_while(|word| !word.starts_with('-')).take_while(is_command);
    std::iter::once(program).chain(commands.map(String::as_str)).collect::<Vec<_>>().join(" ")
}
