//! node.toml: its text, and errors that say where in it.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};

use clap::{Args, Command};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::args::NodeArgs;
use crate::error::ConfigError;

/// The largest node.toml, in bytes: as much as a Kubernetes Secret can hold, so that `clients` is
/// never longer than a restarted node can read, and no way to fill the memory with a wrong path.
pub const MAX_FILE: u64 = 1024 * 1024;

/// What one file says.
#[derive(Clone, Debug, PartialEq)]
pub struct ConfigFile {
    /// Where it was read.
    pub path: PathBuf,
    /// Its settings.
    pub args: NodeArgs,
}

impl ConfigFile {
    /// Reads a file; `None` if there is none.
    ///
    /// # Errors
    /// The file is no regular file, too large or unreadable, or its text is wrong.
    pub fn read(path: &Path) -> Result<Option<Self>, ConfigError> {
        let unreadable = |source| ConfigError::Unreadable { path: path.to_owned(), source };
        // Asked before opening, because opening a named pipe would wait for its writer.
        match fs::metadata(path) {
            Ok(found) if found.is_file() => {}
            Ok(_) => return Err(ConfigError::NotAFile(path.to_owned())),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unreadable(error)),
        }
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(unreadable)?;
        file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        if bytes.len() as u64 > MAX_FILE {
            return Err(ConfigError::TooLarge(path.to_owned()));
        }
        match String::from_utf8(bytes) {
            Ok(text) => Self::parse(path, &text).map(Some),
            Err(error) => {
                let valid = error.utf8_error().valid_up_to();
                let before = &error.as_bytes()[..valid];
                let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
                let message = "this is not UTF-8 text".to_owned();
                Err(ConfigError::Syntax { path: path.to_owned(), line, message })
            }
        }
    }

    /// Parses the text of a file; the path is for errors.
    ///
    /// # Errors
    /// The text is not TOML, or has an unknown key or a bad value.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let line = |at: usize| 1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count();
        let syntax = |span: Range<usize>, message: String| ConfigError::Syntax {
            path: path.to_owned(),
            line: line(span.start),
            message: message.replace('\n', ", "),
        };
        let span = |error: &toml::de::Error| error.span().unwrap_or_default();
        let table = DeTable::parse(text)
            .map_err(|error| syntax(span(&error), error.message().to_owned()))?
            .into_inner();
        if let Some((at, key, hint)) = unknown_key(&table) {
            return Err(ConfigError::UnknownKey {
                path: path.to_owned(),
                line: line(at),
                key,
                hint,
            });
        }
        let args = toml::from_str(text)
            .map_err(|error| syntax(span(&error), bad_value(&table, text, &error)))?;
        Ok(Self { path: path.to_owned(), args })
    }
}

/// The first unknown key of the file: where it stands, the key, and what was probably meant.
fn unknown_key(table: &DeTable<'_>) -> Option<(usize, String, String)> {
    let known = known_keys();
    let keys = table.keys().map(|key| (key.span().start, key.get_ref().to_string()));
    // The table is sorted by key, not as the file is.
    let (at, key) = keys.filter(|(_, key)| !known.contains(key)).min()?;
    let hint = hint(&key, &known);
    Some((at, key, hint))
}

/// Says which key has the bad value: toml tells only where the value stands.
fn bad_value(table: &DeTable<'_>, text: &str, error: &toml::de::Error) -> String {
    let span = error.span().unwrap_or_default();
    let holds = |value: &Spanned<DeValue<'_>>| {
        let outer = value.span();
        outer.start <= span.start && span.end <= outer.end
    };
    let key = table.iter().find(|(_, value)| holds(value)).map(|(key, _)| key.get_ref());
    match (key, text.get(span.clone())) {
        (Some(key), Some(value)) => format!("{key} = {value}: {}", error.message()),
        _ => error.message().to_owned(),
    }
}

/// The keys of node.toml are the flags.
fn known_keys() -> Vec<String> {
    let command = NodeArgs::augment_args(Command::new("restpipe"));
    let longs = command.get_arguments().filter_map(clap::Arg::get_long);
    longs.map(str::to_owned).collect()
}

/// Names the known key that is nearest, if it is near enough to be meant.
fn hint(key: &str, known: &[String]) -> String {
    let near = known.iter().map(|known| (distance(key, known), known)).min();
    match near {
        Some((steps, known)) if steps <= (key.len() / 3).max(2) => {
            format!("did you mean `{known}`?")
        }
        _ => {
            "the keys are the flags of `restpipe server --help` and `restpipe client --help`".into()
        }
    }
}

/// How many letters have to be put in, taken out or replaced to get from one to the other.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[to.len()]
}
