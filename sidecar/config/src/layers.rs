//! The layers on top of each other, and from which one a setting came.

use serde::Deserialize;
use toml::Table;

use crate::args::NodeArgs;
use crate::error::ConfigError;
use crate::file::ConfigFile;
use crate::legacy::Legacy;

/// The three places where settings are written, the upper ones first.
pub(crate) struct Layers<'a> {
    /// Flags, and `RESTPIPE_*` where there is no flag.
    pub(crate) flags: &'a NodeArgs,
    /// The original's environment names.
    pub(crate) legacy: &'a Legacy,
    /// node.toml.
    pub(crate) file: Option<&'a ConfigFile>,
}

impl Layers<'_> {
    /// All that is given, by key. Merged as TOML, so that a new setting needs no code here.
    pub(crate) fn table(&self) -> Table {
        let mut table = self.file.map(|file| file.args.to_table()).unwrap_or_default();
        table.extend(self.legacy.args.to_table());
        table.extend(self.flags.to_table());
        table
    }

    /// All that is given. It fails only for values that no text gives, such as a relative
    /// `BindAddress::Unix` that a program has made.
    pub(crate) fn merged(&self) -> Result<NodeArgs, ConfigError> {
        let invalid = |error: toml::de::Error| ConfigError::Invalid(error.message().to_owned());
        NodeArgs::deserialize(self.table()).map_err(invalid)
    }

    /// Where a setting was written, for errors.
    pub(crate) fn place(&self, key: &str) -> String {
        if self.flags.to_table().contains_key(key) {
            return format!("--{key}");
        }
        if let Some(name) = self.legacy.names.get(key) {
            return (*name).to_owned();
        }
        match self.file {
            Some(file) => format!("{key} in {}", file.path.display()),
            None => key.to_owned(),
        }
    }
}
