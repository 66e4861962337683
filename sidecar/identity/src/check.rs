//! Does a chain lead to a trusted root at a given time?

use std::time::SystemTime;

use rustls::CertificateError;
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::pki_types::CertificateDer;
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};

use crate::bundle::{Root, Roots};
use crate::clock::{apart, from_unix, rfc3339, to_unix};
use crate::inspect::{CertificateInfo, Unreadable, inspect, one_line};
use crate::leaf::Usage;
use crate::path::PathFault;
use crate::provider::provider;

/// Why a chain is not trusted. Each text is one line with the cure.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChainError {
    /// There is no certificate at all.
    #[error("no certificate was presented: give the node one with `restpipe identity install`")]
    Empty,
    /// The leaf is not X.509.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// Its time, or its CA's, is over.
    #[error("{}", expired(.of, *.not_after, *.now))]
    Expired {
        /// Subject of the certificate or root.
        of: String,
        /// Its last second.
        not_after: SystemTime,
        /// This machine's clock.
        now: SystemTime,
    },
    /// Its time, or its CA's, has not begun.
    #[error("{}", not_yet_valid(.of, *.not_before, *.now))]
    NotYetValid {
        /// Subject of the certificate or root.
        of: String,
        /// Its first second.
        not_before: SystemTime,
        /// This machine's clock.
        now: SystemTime,
    },
    /// Signed by a CA that is not in the bundle.
    #[error("{of} was issued by {issuer}, which is not in the CA bundle ({}): issue it with one of these CAs, or add that one's certificate to ca.crt", .roots.join("; "))]
    UnknownCa {
        /// The leaf's subject.
        of: String,
        /// Who signed it, with the key's mark when a root of that name is trusted.
        issuer: String,
        /// The bundle's roots: subject and the first half of the fingerprint.
        roots: Vec<String>,
    },
    /// Not for this side of a pipe.
    #[error("{of} is not for a {usage}: issue it with `restpipe identity {usage} NAME`")]
    WrongUsage {
        /// The leaf's subject.
        of: String,
        /// The wanted role.
        usage: Usage,
    },
    /// The way from the leaf to a root is one that no chain may take.
    #[error("{of} is refused: {fault}")]
    Path {
        /// The leaf's subject.
        of: String,
        /// What is wrong with it.
        fault: PathFault,
    },
    /// Any other fault.
    #[error("{of} is refused ({reason}): issue it anew with `restpipe identity {usage} NAME`")]
    Other {
        /// The leaf's subject.
        of: String,
        /// The wanted role.
        usage: Usage,
        /// The TLS library's words.
        reason: String,
    },
}

impl ChainError {
    /// A fixed word for metrics and status.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Empty => "cert_required",
            Self::Expired { .. } => "expired",
            Self::NotYetValid { .. } => "not_yet_valid",
            Self::UnknownCa { .. } => "unknown_ca",
            Self::WrongUsage { .. } => "bad_eku",
            Self::Unreadable(_) | Self::Path { .. } | Self::Other { .. } => "bad_cert",
        }
    }
}

/// Checks that `chain` (leaf first) leads to one of `roots` at `now` and is for `usage`.
///
/// This is what TLS checks, at any time one likes; whose leaf it is, [`peer_name`](crate::peer_name)
/// tells afterwards.
pub fn verify(
    chain: &[CertificateDer<'_>],
    roots: &Roots,
    usage: Usage,
    now: SystemTime,
) -> Result<(), ChainError> {
    let (leaf, intermediates) = chain.split_first().ok_or(ChainError::Empty)?;
    let info = inspect(leaf)?;
    let store = roots.valid_at(now);
    if store.is_empty() {
        return Err(no_valid_root(&info, chain, roots, now));
    }
    let checked = match usage {
        Usage::Client => WebPkiClientVerifier::builder_with_provider(store.into(), provider())
            .build()
            .map_err(|error| other(&info, usage, error.to_string()))?
            .verify_client_cert(leaf, intermediates, to_unix(now))
            .map(drop),
        Usage::Server => ParsedCertificate::try_from(leaf).and_then(|parsed| {
            let algorithms = provider().signature_verification_algorithms.all;
            let now = to_unix(now);
            verify_server_cert_signed_by_trust_anchor(
                &parsed,
                &store,
                intermediates,
                now,
                algorithms,
            )
        }),
    };
    checked.map_err(|error| match error {
        rustls::Error::InvalidCertificate(error) => named(error, &info, chain, roots, usage, now),
        error => other(&info, usage, error.to_string()),
    })
}

/// The root of `roots` that a verified chain leads to: what tells the operator which peers still
/// live on an old CA.
#[must_use]
pub fn root_of<'a>(
    chain: &[CertificateDer<'_>],
    roots: &'a Roots,
    usage: Usage,
    now: SystemTime,
) -> Option<&'a Root> {
    let mut valid = roots.iter().filter(|root| root.info().is_valid_at(now)).peekable();
    let first = valid.next()?;
    if valid.peek().is_none() {
        // Nearly always: the chain is verified, and this is all that it can lead to.
        return Some(first);
    }
    std::iter::once(first)
        .chain(valid)
        .find(|root| verify(chain, &Roots::only(root), usage, now).is_ok())
}

/// Puts the library's error into terms of this chain and these roots.
fn named(
    error: CertificateError,
    leaf: &CertificateInfo,
    chain: &[CertificateDer<'_>],
    roots: &Roots,
    usage: Usage,
    now: SystemTime,
) -> ChainError {
    match error {
        CertificateError::ExpiredContext { not_after, .. } => {
            let not_after = from_unix(not_after);
            let of = whose(chain, |info| info.not_after == not_after, leaf);
            ChainError::Expired { of, not_after, now }
        }
        CertificateError::NotValidYetContext { not_before, .. } => {
            let not_before = from_unix(not_before);
            let of = whose(chain, |info| info.not_before == not_before, leaf);
            ChainError::NotYetValid { of, not_before, now }
        }
        // A root of the same name but another key: the signature does not fit.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            stale_root(chain, roots, now).unwrap_or_else(|| unknown_ca(leaf, chain, roots))
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            ChainError::WrongUsage { of: titled(leaf), usage }
        }
        error => match PathFault::of(&error) {
            Some(fault) => ChainError::Path { of: titled(leaf), fault },
            None => other(leaf, usage, error.to_string()),
        },
    }
}

/// The certificate of the chain whose date it was.
fn whose(
    chain: &[CertificateDer<'_>],
    found: impl Fn(&CertificateInfo) -> bool,
    leaf: &CertificateInfo,
) -> String {
    chain
        .iter()
        .filter_map(|der| inspect(der).ok())
        .find(found)
        .map_or_else(|| titled(leaf), |info| titled(&info))
}

fn no_valid_root(
    leaf: &CertificateInfo,
    chain: &[CertificateDer<'_>],
    roots: &Roots,
    now: SystemTime,
) -> ChainError {
    stale_root(chain, roots, now)
        .or_else(|| roots.iter().find_map(|root| out_of_time(root.info(), now)))
        .unwrap_or_else(|| unknown_ca(leaf, chain, roots))
}

/// The chain's own root is in the bundle, but out of its time.
fn stale_root(chain: &[CertificateDer<'_>], roots: &Roots, now: SystemTime) -> Option<ChainError> {
    let issuer = chain.last().and_then(|last| inspect(last).ok())?.issuer;
    let mut of_that_name = roots.iter().filter(|root| root.info().subject == issuer).peekable();
    of_that_name.peek()?;
    // With a valid root of the same name beside it, the key is wrong and not the time.
    of_that_name.map(|root| out_of_time(root.info(), now)).collect::<Option<Vec<_>>>()?.pop()
}

fn out_of_time(root: &CertificateInfo, now: SystemTime) -> Option<ChainError> {
    if root.is_valid_at(now) {
        return None;
    }
    let of = format!("the CA {}", root.subject);
    Some(if now < root.not_before {
        ChainError::NotYetValid { of, not_before: root.not_before, now }
    } else {
        ChainError::Expired { of, not_after: root.not_after, now }
    })
}

fn unknown_ca(leaf: &CertificateInfo, chain: &[CertificateDer<'_>], roots: &Roots) -> ChainError {
    let issuer = chain
        .last()
        .and_then(|last| inspect(last).ok())
        .map_or_else(|| leaf.issuer.clone(), |info| info.issuer);
    let same_name = roots.iter().any(|root| root.info().subject == issuer);
    let shown = |root: &CertificateInfo| format!("{} {}", root.subject, &root.fingerprint[..16]);
    ChainError::UnknownCa {
        of: titled(leaf),
        issuer: if same_name { format!("another {issuer} of the same name") } else { issuer },
        roots: roots.iter().map(|root| shown(root.info())).collect(),
    }
}

fn other(leaf: &CertificateInfo, usage: Usage, reason: String) -> ChainError {
    ChainError::Other { of: titled(leaf), usage, reason: one_line(&reason) }
}

/// What a certificate is called in a message: its name, else its subject.
fn titled(info: &CertificateInfo) -> String {
    match info.names.first() {
        Some(name) => format!("the certificate of {name}"),
        None => format!("the certificate of {}", info.subject),
    }
}

/// One wording for own and peers' certificates.
pub(crate) fn expired(of: &str, not_after: SystemTime, now: SystemTime) -> String {
    format!(
        "{of} ended at {}, {} before this machine's clock ({}): renew it, or check the clock of this machine",
        rfc3339(not_after),
        apart(not_after, now),
        rfc3339(now),
    )
}

/// One wording for own and peers' certificates.
pub(crate) fn not_yet_valid(of: &str, not_before: SystemTime, now: SystemTime) -> String {
    format!(
        "{of} begins at {}, {} after this machine's clock ({}): check the clock of this machine and of the one that issued it",
        rfc3339(not_before),
        apart(not_before, now),
        rfc3339(now),
    )
}
