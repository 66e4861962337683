//! A node's name, as configured or as taken from its verified certificate.

use std::borrow::Borrow;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use rustls::pki_types::ServerName;

/// Bytes of a whole name (RFC 1035 section 2.3.4, without the root's dot).
const MAX_NAME: usize = 253;

/// Bytes of one label between dots (RFC 1035 section 2.3.4).
const MAX_LABEL: usize = 63;

/// A DNS-style hostname (RFC 1123 labels), lower-cased once so that all comparing is plain `==`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerName(Arc<str>);

/// Why a text is not a node's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// Nothing was given.
    #[error("the name is empty: give a hostname such as fileserver or fileserver.example.org")]
    Empty,
    /// More than 253 bytes.
    #[error("the name has {0} bytes, DNS allows {MAX_NAME}: shorten it")]
    TooLong(usize),
    /// A final dot.
    #[error("{0:?} ends in a dot: write it without")]
    TrailingDot(String),
    /// A `*` label.
    #[error("{0:?} is a wildcard: one name stands for one node, name it in full")]
    Wildcard(String),
    /// An IP address.
    #[error("{0:?} is an IP address: nodes have DNS-style names, addresses never decide")]
    Address(String),
    /// Two dots in a row, or one in front.
    #[error("{0:?} has an empty part between dots: remove the extra dot")]
    EmptyLabel(String),
    /// A part of more than 63 bytes.
    #[error("{name:?} has a part of {len} bytes, DNS allows {MAX_LABEL}: shorten it")]
    LongLabel {
        /// The whole name.
        name: String,
        /// Bytes of the part.
        len: usize,
    },
    /// A part begins or ends with a hyphen.
    #[error("{0:?} has a part that begins or ends with a hyphen: hyphens stand inside only")]
    EdgeHyphen(String),
    /// A letter outside ASCII: look-alikes would pass a human eye.
    #[error("{name:?} holds the non-ASCII character {}: use letters a-z, digits and hyphens", .found.escape_unicode())]
    NotAscii {
        /// The whole name.
        name: String,
        /// The first such character.
        found: char,
    },
    /// Any other character, such as an underscore or NUL.
    #[error("{name:?} holds {found:?}: use letters a-z, digits and hyphens, with dots between")]
    BadCharacter {
        /// The whole name.
        name: String,
        /// The first such character.
        found: char,
    },
    /// The name is not below the suffix that this server's clients share.
    #[error(
        "{name} is not below {suffix}: it belongs to another server's clients, or client_suffix is wrong"
    )]
    OutsideSuffix {
        /// The certificate's name.
        name: PeerName,
        /// The configured suffix.
        suffix: String,
    },
    /// A last label of digits only, which TLS takes for an address.
    #[error(
        "{0} ends in digits only, TLS cannot ask for such a server: add a word, as in {0}.restpipe"
    )]
    NotAServerName(PeerName),
}

impl PeerName {
    /// Checks `text` and lower-cases it.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        // Every call comes by here.
        if is_plain(text) { Ok(Self(text.into())) } else { Self::parse_any(text) }
    }

    fn parse_any(text: &str) -> Result<Self, NameError> {
        let name = || text.to_owned();
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > MAX_NAME {
            return Err(NameError::TooLong(text.len()));
        }
        if text.parse::<IpAddr>().is_ok() {
            return Err(NameError::Address(name()));
        }
        if text.contains('*') {
            return Err(NameError::Wildcard(name()));
        }
        for found in text.chars() {
            if !found.is_ascii() {
                return Err(NameError::NotAscii { name: name(), found });
            }
            if !found.is_ascii_alphanumeric() && found != '-' && found != '.' {
                return Err(NameError::BadCharacter { name: name(), found });
            }
        }
        if text.len() > 1 && text.ends_with('.') {
            return Err(NameError::TrailingDot(name()));
        }
        for label in text.split('.') {
            if label.is_empty() {
                return Err(NameError::EmptyLabel(name()));
            }
            if label.len() > MAX_LABEL {
                return Err(NameError::LongLabel { name: name(), len: label.len() });
            }
            if label.starts_with('-') || label.ends_with('-') {
                return Err(NameError::EdgeHyphen(name()));
            }
        }
        Ok(Self(text.to_ascii_lowercase().into()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The hostname that callers use: what stands before `client_suffix`.
    ///
    /// `fileserver.clients.hub.shop.restpipe` below `clients.hub.shop.restpipe` is `fileserver`.
    /// With an empty suffix (a plain host) the whole name is the hostname.
    pub fn strip_suffix(&self, client_suffix: &str) -> Result<Self, NameError> {
        if client_suffix.is_empty() {
            return Ok(self.clone());
        }
        self.0
            .strip_suffix(&client_suffix.to_ascii_lowercase())
            .and_then(|rest| rest.strip_suffix('.'))
            .filter(|rest| !rest.is_empty())
            .map(|rest| Self(rest.into()))
            .ok_or_else(|| NameError::OutsideSuffix {
                name: self.clone(),
                suffix: client_suffix.to_owned(),
            })
    }

    /// The form in which rustls asks a server for its certificate.
    ///
    /// Fails only for a name whose last label is all digits: such a client name is fine, but TLS
    /// libraries take it for an address when it is a server's.
    pub fn to_server_name(&self) -> Result<ServerName<'static>, NameError> {
        ServerName::try_from(self.0.to_string())
            .map_err(|_| NameError::NotAServerName(self.clone()))
    }
}

/// Whether a text is seen at one look to be a name in lower case, as most are. One that begins
/// with a letter and has no colon is no address, and one that is no longer than a label has no
/// label that is too long.
fn is_plain(text: &str) -> bool {
    let mut before = b'.';
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' => {}
            b'-' if before != b'.' => {}
            b'.' if !matches!(before, b'.' | b'-') => {}
            _ => return false,
        }
        before = byte;
    }
    text.starts_with(|first: char| first.is_ascii_lowercase())
        && text.len() <= MAX_LABEL
        && !matches!(before, b'.' | b'-')
}

impl FromStr for PeerName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::parse(text)
    }
}

impl fmt::Display for PeerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for PeerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl Borrow<str> for PeerName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl From<PeerName> for Arc<str> {
    fn from(name: PeerName) -> Self {
        name.0
    }
}

impl AsRef<str> for PeerName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests;
