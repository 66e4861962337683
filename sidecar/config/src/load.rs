//! Finding and reading node.toml.

use std::io::{Error, ErrorKind};
use std::path::{Path, PathBuf};

use crate::args::NodeFlags;
use crate::default;
use crate::error::ConfigError;
use crate::file::ConfigFile;
use crate::role::Role;
use crate::settings::Settings;
use crate::text::FilePath;

impl NodeFlags {
    /// The file that settings are read from: `--config`, else node.toml in the node directory,
    /// which need not exist.
    #[must_use]
    pub fn config_file(&self) -> PathBuf {
        let dir = self.args.dir.as_ref().map_or(Path::new(default::DIR), FilePath::as_path);
        self.config.clone().unwrap_or_else(|| dir.join(default::CONFIG_FILE))
    }
}

/// The settings of a node from its command line, its environment and its file. May be called
/// again when the file has changed.
///
/// `lookup` reads an environment variable, usually `|name| std::env::var(name).ok()`.
///
/// # Errors
/// The file is named but missing, cannot be read or has bad settings; or the settings together
/// make no sense.
pub fn load(
    role: Role,
    flags: &NodeFlags,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<Settings, ConfigError> {
    let path = flags.config_file();
    let file = ConfigFile::read(&path)?;
    if file.is_none() && flags.config.is_some() {
        let source =
            Error::new(ErrorKind::NotFound, "--config names it, but there is no such file");
        return Err(ConfigError::Unreadable { path, source });
    }
    Settings::resolve(role, &flags.args, file.as_ref(), lookup)
}
