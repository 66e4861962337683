//! Addresses that the node binds.

use std::fmt::{self, Display};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use crate::text::{Invalid, invalid, via_text};

/// What `sockaddr_un` holds on Linux without its closing zero, in bytes.
const MAX_SOCKET_PATH: usize = 107;

/// An address and a port to bind: `0.0.0.0:7072` or `[::]:7072`. Port 0 lets the system choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpAddress(pub SocketAddr);

impl FromStr for TcpAddress {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text.parse() {
            Ok(address) => Ok(Self(address)),
            Err(_) => invalid("give IP:PORT, for example 0.0.0.0:7072 or [::1]:7072"),
        }
    }
}

impl Display for TcpAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl MayBeOff for TcpAddress {}

/// Where the gateway listens: `127.0.0.1:7070` or `unix:/run/restpipe.sock`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BindAddress {
    /// A TCP socket; port 0 lets the system choose.
    Tcp(SocketAddr),
    /// The absolute path of a Unix socket.
    Unix(PathBuf),
}

impl FromStr for BindAddress {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if let Some(path) = text.strip_prefix("unix:") {
            return socket_path(path).map(Self::Unix);
        }
        match text.parse() {
            Ok(address) => Ok(Self::Tcp(address)),
            Err(_) => invalid("give IP:PORT or unix:/path, for example 127.0.0.1:7070"),
        }
    }
}

impl Display for BindAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// The path after `unix:`. A comma would end an item of a list, and space round an item is cut
/// off, so both are refused everywhere.
pub(crate) fn socket_path(path: &str) -> Result<PathBuf, Invalid> {
    // Both unix:/path and the URL form unix:///path.
    let path = match path.trim_start_matches('/') {
        rest if rest.len() < path.len() && !rest.is_empty() => format!("/{rest}"),
        _ => return invalid("give an absolute path, for example unix:/run/restpipe.sock"),
    };
    if path.len() > MAX_SOCKET_PATH || path.contains([',', '\0']) || path.trim_end() != path {
        return invalid(format!(
            "give the path of a Unix socket in at most {MAX_SOCKET_PATH} bytes, without commas or \
             a space at its end"
        ));
    }
    Ok(path.into())
}

/// A value for which `off` makes sense.
pub trait MayBeOff {
    /// Whether an empty text means off as well; else it is an error, because an empty
    /// environment variable is more often a mistake.
    const EMPTY_IS_OFF: bool = false;
}

/// A value or `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrOff<T> {
    /// Not wanted.
    Off,
    /// Wanted, so.
    On(T),
}

impl<T> OrOff<T> {
    /// The value, if it is not off.
    pub fn on(self) -> Option<T> {
        match self {
            Self::Off => None,
            Self::On(value) => Some(value),
        }
    }
}

impl<T: FromStr<Err = Invalid> + MayBeOff> FromStr for OrOff<T> {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if text == "off" || (text.is_empty() && T::EMPTY_IS_OFF) {
            return Ok(Self::Off);
        }
        let value = text.parse().map_err(|Invalid(why)| Invalid(format!("{why}, or off")))?;
        Ok(Self::On(value))
    }
}

impl<T: Display> Display for OrOff<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::On(value) => value.fmt(f),
        }
    }
}

via_text!(TcpAddress);
via_text!(BindAddress);

impl<T: Display> serde::Serialize for OrOff<T> {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de, T: FromStr<Err = Invalid> + MayBeOff> serde::Deserialize<'de> for OrOff<T> {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        crate::text::deserialize(from)
    }
}
