//! Where the app listens that answers incoming events.

use std::fmt::{self, Display};
use std::path::PathBuf;
use std::str::FromStr;

use crate::address::socket_path;
use crate::host::{Host, HostPort};
use crate::text::{Invalid, invalid, via_text};

/// The port that an `http` URL means when it names none.
const HTTP_PORT: u16 = 80;

/// The app: `http://127.0.0.1:8080` or `unix:/run/app.sock`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppAddress {
    /// Plain HTTP over TCP.
    Http {
        /// Any host; a name is looked up for each connection.
        host: Host,
        /// 1 to 65535.
        port: u16,
    },
    /// Plain HTTP over the Unix socket with this absolute path.
    Unix(PathBuf),
}

impl FromStr for AppAddress {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if let Some(path) = text.strip_prefix("unix:") {
            return socket_path(path).map(Self::Unix);
        }
        if text.starts_with("https:") {
            return invalid("the app is called in plain HTTP: give http://127.0.0.1:8080");
        }
        let Some(rest) = text.strip_prefix("http://") else {
            return invalid(
                "give http://HOST:PORT or unix:/path, for example http://127.0.0.1:8080",
            );
        };
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        // The path and the query of a call are those of its event.
        if !path.is_empty() && path != "/" {
            return invalid(format!("give no path or query: http://{authority}"));
        }
        if authority.contains('@') {
            return invalid("give no user or password: http://127.0.0.1:8080");
        }
        match authority.parse::<HostPort<HTTP_PORT>>() {
            Ok(HostPort { host, port }) => Ok(Self::Http { host, port }),
            Err(_) => invalid("give a host and a port, for example http://127.0.0.1:8080"),
        }
    }
}

impl Display for AppAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http { host, port } => write!(f, "http://{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

via_text!(AppAddress);
