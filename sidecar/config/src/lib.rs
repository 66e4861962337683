//! The settings of one node: flag over environment over `node.toml` over default.
//!
//! [`NodeArgs`] is what somebody wrote, in any of these places: clap and serde both come from
//! this one struct, so what the operator renders ([`NodeArgs::to_toml`], [`NodeArgs::to_env`])
//! is what the node parses. [`Settings`] is what it means for a server or a client, with every
//! default filled in and every contradiction refused.
//!
//! The way of a value: `args` (or `legacy`, or `file`) -> `layers` -> `resolve` -> `settings`.
//!
//! A relative path counts from the directory the node is started in, wherever it was written.

mod address;
mod app;
mod args;
pub mod default;
mod duration;
mod error;
mod file;
mod host;
mod layers;
mod legacy;
mod list;
mod load;
mod log_filter;
mod markdown;
mod number;
mod one_line;
mod render;
mod resolve;
mod role;
mod settings;
mod text;

pub use address::{BindAddress, OrOff, TcpAddress};
pub use app::AppAddress;
pub use args::{NodeArgs, NodeFlags};
pub use duration::HumanDuration;
pub use error::ConfigError;
pub use file::{ConfigFile, MAX_FILE};
pub use host::{Host, HostPort, Hostname, InstanceName, NameSuffix, ServerAddress, StatsdAddress};
pub use legacy::{LEGACY_NAMES, LegacyName};
pub use list::List;
pub use load::load;
pub use log_filter::is_log_filter;
pub use markdown::settings_table;
pub use number::{ByteSize, Count, Version};
pub use one_line::{one_line, one_line_with};
pub use role::{Role, Who, only_for};
pub use settings::{
    End, GatewaySettings, HandlerSettings, HookSettings, IdentitySettings, Limits, LogFormat,
    NameSettings, PipeSettings, Settings, TelemetrySettings,
};
pub use text::{FilePath, Invalid};
