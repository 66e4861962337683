//! Names: of nodes, of machines to dial, and of one instance.

use std::fmt::{self, Display};
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use crate::address::MayBeOff;
use crate::default;
use crate::text::{Invalid, invalid, via_text};

/// The longest DNS name, in bytes.
const MAX_NAME: usize = 253;
/// The longest part of a DNS name between two dots, in bytes.
const MAX_LABEL: usize = 63;
/// The longest instance name, in bytes: it is sent in every HELLO and shown in tables.
const MAX_INSTANCE: usize = 128;

fn is_dns_name(name: &str) -> bool {
    let of_name = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    let is_label = |label: &str| {
        (1..=MAX_LABEL).contains(&label.len())
            && label.bytes().all(of_name)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= MAX_NAME && name.split('.').all(is_label)
}

/// A DNS name as a certificate carries it and as peers call a node; kept in lower case. Never
/// an IP address and never a wildcard.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hostname(String);

impl Hostname {
    /// The name in lower case.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Hostname {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let name = text.to_ascii_lowercase();
        if !is_dns_name(&name) || name.parse::<IpAddr>().is_ok() {
            return invalid("give a DNS name, not an address, for example fileserver");
        }
        Ok(Self(name))
    }
}

impl Display for Hostname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is cut off the names in client certificates to get their hostnames; kept without the
/// leading dot. Empty: nothing is cut off.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NameSuffix(String);

impl NameSuffix {
    /// The suffix in lower case without its leading dot, or an empty text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for NameSuffix {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let name = text.strip_prefix('.').unwrap_or(text).to_ascii_lowercase();
        if !text.is_empty() && !is_dns_name(&name) {
            return invalid("give the end of a DNS name, for example clients.hub.shop.restpipe");
        }
        Ok(Self(name))
    }
}

impl Display for NameSuffix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What one running node calls itself among those that share its hostname.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceName(String);

impl FromStr for InstanceName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let fits = (1..=MAX_INSTANCE).contains(&text.len());
        if !fits || !text.bytes().all(|b| b.is_ascii_graphic()) {
            return invalid("give 1 to 128 visible ASCII characters, for example web-6f9-abc");
        }
        Ok(Self(text.to_owned()))
    }
}

impl Display for InstanceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A machine: a DNS name (in lower case, a last dot is kept for the resolver) or an IP address,
/// an IPv6 one printed in brackets.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// A name that the resolver looks up.
    Name(String),
    /// An address that needs no resolver.
    Ip(IpAddr),
}

impl FromStr for Host {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        if let Some(address) = bare {
            return match address.parse::<Ipv6Addr>() {
                Ok(address) => Ok(Self::Ip(address.into())),
                Err(_) => invalid("give an IPv6 address between the brackets, for example [::1]"),
            };
        }
        if let Ok(address) = text.parse() {
            return Ok(Self::Ip(address));
        }
        let name = text.to_ascii_lowercase();
        let dotless = name.strip_suffix('.').unwrap_or(&name);
        // A name that ends in a number is a mistyped address: 10.0.0.256
        let last = dotless.rsplit('.').next().unwrap_or_default();
        if !is_dns_name(dotless) || last.bytes().all(|b| b.is_ascii_digit()) {
            return invalid(
                "give a DNS name or an IP address, for example hub.example or 10.0.0.1",
            );
        }
        Ok(Self::Name(name))
    }
}

impl Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Ip(IpAddr::V4(address)) => address.fmt(f),
            Self::Ip(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

/// A host and the port to dial there, `HOST:PORT`; without a port it is `PORT`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostPort<const PORT: u16> {
    /// Where to dial.
    pub host: Host,
    /// 1 to 65535.
    pub port: u16,
}

/// Where a client dials its server.
pub type ServerAddress = HostPort<{ default::PIPE_PORT }>;
/// Where statsd listens.
pub type StatsdAddress = HostPort<{ default::STATSD_PORT }>;

impl<const PORT: u16> FromStr for HostPort<PORT> {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let wrong = || Invalid(format!("give HOST:PORT, for example hub.example:{PORT}"));
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, Some(port)),
            _ => (text, None),
        };
        if host.contains(':') && !host.starts_with('[') {
            return invalid(format!("put an IPv6 address in brackets: [2001:db8::1]:{PORT}"));
        }
        let host = host.parse().map_err(|_| wrong())?;
        let port = port.map_or(Ok(PORT), |port| dial_port(port).ok_or_else(wrong))?;
        Ok(Self { host, port })
    }
}

/// A port that can be dialled; Rust's own parser would take `+80`, and 0 is for listeners.
pub(crate) fn dial_port(text: &str) -> Option<u16> {
    let port = text.parse().ok().filter(|port| *port != 0);
    port.filter(|_| text.bytes().all(|b| b.is_ascii_digit()))
}

impl<const PORT: u16> Display for HostPort<PORT> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// The original switched statsd off by an empty host or port.
impl MayBeOff for StatsdAddress {
    const EMPTY_IS_OFF: bool = true;
}

via_text!(Hostname);
via_text!(NameSuffix);
via_text!(InstanceName);
via_text!(Host);
via_text!({const PORT: u16} HostPort<PORT>);
