//! Chains whose certificates are good and that lead nowhere all the same.

use rustls::{CertificateError, OtherError};
use webpki::Error as E;

/// Why no way leads from a leaf to a root. Each text is the end of a line, with the cure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathFault {
    /// Signed with the key of a leaf.
    #[error("it was signed by a certificate that is not a CA's: issue it with the CA itself")]
    NotCa,
    /// An intermediate below a CA that allows none.
    #[error(
        "a CA above it may have fewer CAs below it than there are (path length): issue it with a CA nearer to the root"
    )]
    PathLength,
    /// The CA is kept from signing such a name.
    #[error("a CA above it may not sign this name (name constraints): issue it with a CA that may")]
    NameForbidden,
    /// Longer than the TLS library follows, or with more turnings.
    #[error(
        "too many certificates lie between it and a trusted CA: send only those of the way, and issue it with a CA nearer to the root"
    )]
    TooLong,
}

impl PathFault {
    /// Whether `error` is one. rustls has no words for them, only those of the library below it.
    pub(crate) fn of(error: &CertificateError) -> Option<Self> {
        let CertificateError::Other(OtherError(inner)) = error else { return None };
        match inner.downcast_ref::<E>()? {
            E::EndEntityUsedAsCa => Some(Self::NotCa),
            E::PathLenConstraintViolated => Some(Self::PathLength),
            E::NameConstraintViolation => Some(Self::NameForbidden),
            E::MaximumPathDepthExceeded
            | E::MaximumPathBuildCallsExceeded
            | E::MaximumSignatureChecksExceeded
            | E::MaximumNameConstraintComparisonsExceeded => Some(Self::TooLong),
            _ => None,
        }
    }
}
