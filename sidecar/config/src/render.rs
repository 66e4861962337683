//! Writing settings down in the three forms in which they are read.

use toml::{Table, Value};

use crate::args::NodeArgs;

/// What every environment variable of ours starts with.
pub(crate) const ENV_PREFIX: &str = "RESTPIPE_";

/// The environment variable for a key: `max-body` is `RESTPIPE_MAX_BODY`.
pub(crate) fn variable(key: &str) -> String {
    ENV_PREFIX.to_owned() + &key.replace('-', "_").to_ascii_uppercase()
}

impl NodeArgs {
    /// The given settings as TOML. It cannot fail, because nothing from outside takes part: the
    /// types of all fields are strings, numbers, booleans and arrays of strings.
    pub(crate) fn to_table(&self) -> Table {
        Table::try_from(self).expect("every setting has a TOML form")
    }

    /// The text of a node.toml with the given settings.
    #[must_use]
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("every setting has a TOML form")
    }

    /// The given settings as flags, `--wait=20s`.
    #[must_use]
    pub fn to_flags(&self) -> Vec<String> {
        let flag = |(key, value)| format!("--{key}={}", in_words(value));
        self.to_table().into_iter().map(flag).collect()
    }

    /// The given settings as environment variables, `("RESTPIPE_WAIT", "20s")`.
    #[must_use]
    pub fn to_env(&self) -> Vec<(String, String)> {
        let pair = |(key, value): (String, _)| (variable(&key), in_words(value));
        self.to_table().into_iter().map(pair).collect()
    }
}

fn in_words(value: Value) -> String {
    match value {
        Value::String(text) => text,
        Value::Array(items) => items.into_iter().map(in_words).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}
