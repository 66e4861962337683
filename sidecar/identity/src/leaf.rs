//! Who a verified certificate stands for: the rules that turn a leaf into a name.

use std::fmt;

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;

use crate::inspect::{Unreadable, common_name, one_line, parse, shown_name, usage_words};
use crate::name::{NameError, PeerName};

/// Which side of a pipe a leaf is for: the dialling client or the listening server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Usage {
    /// Dials: extended key usage `clientAuth`.
    Client,
    /// Listens: extended key usage `serverAuth`.
    Server,
}

impl Usage {
    /// The one extended key usage its leafs carry (RFC 5280 section 4.2.1.12).
    #[must_use]
    pub fn key_usage(self) -> &'static str {
        match self {
            Self::Client => "clientAuth",
            Self::Server => "serverAuth",
        }
    }

    /// The role that the leaf in `der` is for: its single extended key usage.
    pub fn of(der: &[u8]) -> Result<Self, LeafError> {
        let words = usages(&parse(der)?)?;
        match words.as_slice() {
            [word] if word == Self::Client.key_usage() => Ok(Self::Client),
            [word] if word == Self::Server.key_usage() => Ok(Self::Server),
            _ => Err(LeafError::NoRole { found: listed(&words) }),
        }
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Client => "client",
            Self::Server => "server",
        })
    }
}

/// Why a leaf is not taken for a node's identity. Each text is one line with the cure.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LeafError {
    /// Not X.509.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// A CA's certificate in the place of a node's.
    #[error(
        "the certificate of {subject} is a CA's, not a node's: issue one with `restpipe identity {usage} NAME`"
    )]
    IsCa {
        /// Its subject.
        subject: String,
        /// The wanted role.
        usage: Usage,
    },
    /// No subject alternative name; a common name does not help.
    #[error("the certificate has no subject alternative name{}: issue it with `restpipe identity {usage} NAME`", unused(.common_name.as_deref()))]
    NoName {
        /// The common name, which is never used.
        common_name: Option<String>,
        /// The wanted role.
        usage: Usage,
    },
    /// More than one DNS name.
    #[error("the certificate has {} names ({}), a node has exactly one: issue it with `restpipe identity {usage} NAME`", .names.len(), .names.join(", "))]
    SeveralNames {
        /// All of them.
        names: Vec<String>,
        /// The wanted role.
        usage: Usage,
    },
    /// An IP address, URI or other kind of name, alone or beside the DNS one.
    #[error(
        "the certificate names {found}, only one DNS name is allowed: issue it with `restpipe identity {usage} NAME`"
    )]
    OtherKind {
        /// The first such name.
        found: String,
        /// The wanted role.
        usage: Usage,
    },
    /// A wildcard.
    #[error(
        "the certificate is for the wildcard {name}, one name stands for one node: issue it with `restpipe identity {usage} NAME`"
    )]
    Wildcard {
        /// The wildcard.
        name: String,
        /// The wanted role.
        usage: Usage,
    },
    /// A capital letter: names are compared byte for byte, so there must be one spelling.
    #[error("the certificate's name {name} has capital letters: issue it in lower case with `restpipe identity {usage} {}`", .name.to_ascii_lowercase())]
    Capitals {
        /// As it stands in the certificate.
        name: String,
        /// The wanted role.
        usage: Usage,
    },
    /// A trailing dot, NUL, underscore, look-alike letter or the like.
    #[error(
        "the certificate's name is not a hostname: {reason}; issue it with `restpipe identity {usage} NAME`"
    )]
    BadName {
        /// What is wrong with it.
        reason: NameError,
        /// The wanted role.
        usage: Usage,
    },
    /// The wanted extended key usage is missing.
    #[error("the certificate of {name} lacks {} (it has {found}): issue it with `restpipe identity {usage} {name}`", .usage.key_usage())]
    UsageMissing {
        /// Its name.
        name: PeerName,
        /// The wanted role.
        usage: Usage,
        /// What it has.
        found: String,
    },
    /// More than the wanted extended key usage: a client's key could then pose as a server.
    #[error("the certificate of {name} is for {found}, a {usage}'s is for {} only: issue it with `restpipe identity {usage} {name}`", .usage.key_usage())]
    UsageTooWide {
        /// Its name.
        name: PeerName,
        /// The wanted role.
        usage: Usage,
        /// What it has.
        found: String,
    },
    /// No role can be told from the extended key usages.
    #[error(
        "the certificate is for {found}, not for exactly one of clientAuth and serverAuth: issue it with `restpipe identity client NAME` or `restpipe identity server NAME`"
    )]
    NoRole {
        /// What it has.
        found: String,
    },
}

/// The name of the node whose leaf is `der`, out of a chain that is already verified.
///
/// Exactly one DNS name decides. The common name, wildcards and other kinds of name never do, and
/// a leaf that could be read in two ways is refused rather than read in one.
pub fn peer_name(der: &[u8], usage: Usage) -> Result<PeerName, LeafError> {
    let leaf = parse(der)?;
    // Read strictly: `is_ca()` would take a broken or doubled extension for "no".
    let constraints = leaf.basic_constraints().map_err(unreadable)?;
    if constraints.is_some_and(|found| found.value.ca) {
        return Err(LeafError::IsCa { subject: one_line(&leaf.subject().to_string()), usage });
    }
    let name = only_name(&leaf, usage)?;
    let words = usages(&leaf)?;
    if !words.iter().any(|word| word == usage.key_usage()) {
        return Err(LeafError::UsageMissing { name, usage, found: listed(&words) });
    }
    if words.len() > 1 {
        return Err(LeafError::UsageTooWide { name, usage, found: listed(&words) });
    }
    Ok(name)
}

fn only_name(leaf: &X509Certificate<'_>, usage: Usage) -> Result<PeerName, LeafError> {
    let found = leaf.subject_alternative_name().map_err(unreadable)?;
    let names = found.as_ref().map_or(&[][..], |san| &san.value.general_names);
    if let Some(other) = names.iter().find(|name| !matches!(name, GeneralName::DNSName(_))) {
        return Err(LeafError::OtherKind { found: shown_name(other), usage });
    }
    let text = match names {
        [GeneralName::DNSName(text)] => *text,
        [] => return Err(LeafError::NoName { common_name: common_name(leaf.subject()), usage }),
        several => {
            return Err(LeafError::SeveralNames {
                names: several.iter().map(shown_name).collect(),
                usage,
            });
        }
    };
    let name = match PeerName::parse(text) {
        Ok(name) => name,
        Err(NameError::Wildcard(name)) => {
            return Err(LeafError::Wildcard { name: one_line(&name), usage });
        }
        Err(reason) => return Err(LeafError::BadName { reason, usage }),
    };
    if name.as_str() != text {
        return Err(LeafError::Capitals { name: text.to_owned(), usage });
    }
    Ok(name)
}

fn usages(leaf: &X509Certificate<'_>) -> Result<Vec<String>, LeafError> {
    let found = leaf.extended_key_usage().map_err(unreadable)?;
    Ok(found.map_or_else(Vec::new, |usage| usage_words(usage.value)))
}

fn unreadable(error: x509_parser::error::X509Error) -> LeafError {
    Unreadable(one_line(&error.to_string())).into()
}

fn listed(words: &[String]) -> String {
    if words.is_empty() { "no extended key usage".to_owned() } else { words.join(" and ") }
}

fn unused(common_name: Option<&str>) -> String {
    common_name.map(|name| format!(" (the common name {name:?} is never used)")).unwrap_or_default()
}
