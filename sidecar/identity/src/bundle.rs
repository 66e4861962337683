//! The roots a node trusts: the certificates of `ca.crt`.

use std::time::SystemTime;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;

use crate::inspect::{CertificateInfo, Unreadable, inspect};
use crate::pem::{Part, PemError, certificates};

/// Roots in a bundle. Rotation needs two; each costs time in every handshake with a foreign peer.
pub const MAX_ROOTS: usize = 20;

/// Why a CA bundle is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// Not PEM, empty, too large, or too many.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// A certificate in it is not X.509.
    #[error("certificate {place} of the CA bundle (ca.crt) is damaged: {reason}")]
    Damaged {
        /// From 1.
        place: usize,
        /// What is wrong with it.
        reason: Unreadable,
    },
    /// A leaf as a root would let its holder sign any name.
    #[error(
        "{subject} in the CA bundle (ca.crt) is not a CA: keep only certificates of `restpipe identity ca` there"
    )]
    NotCa {
        /// Its subject.
        subject: String,
    },
    /// The TLS library does not take it as a root.
    #[error(
        "{subject} in the CA bundle (ca.crt) cannot be a root ({reason}): make a new one with `restpipe identity ca`"
    )]
    Unusable {
        /// Its subject.
        subject: String,
        /// The library's words.
        reason: String,
    },
}

/// One trusted root.
#[derive(Debug, Clone)]
pub struct Root {
    der: CertificateDer<'static>,
    info: CertificateInfo,
}

impl Root {
    /// What it says.
    #[must_use]
    pub fn info(&self) -> &CertificateInfo {
        &self.info
    }

    /// The certificate itself.
    #[must_use]
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }
}

/// All roots of one bundle, in its order, each once.
#[derive(Debug, Clone)]
pub struct Roots(Vec<Root>);

impl Roots {
    /// Reads a bundle. Roots out of their time are kept, but see [`Self::valid_at`].
    pub fn from_pem(pem: &[u8]) -> Result<Self, BundleError> {
        let mut roots: Vec<Root> = Vec::new();
        let mut trial = RootCertStore::empty();
        for (index, der) in certificates(pem, Part::Bundle, MAX_ROOTS)?.into_iter().enumerate() {
            let info = inspect(&der)
                .map_err(|reason| BundleError::Damaged { place: index + 1, reason })?;
            if !info.is_ca {
                return Err(BundleError::NotCa { subject: info.subject });
            }
            if let Err(error) = trial.add(der.clone()) {
                return Err(BundleError::Unusable {
                    subject: info.subject,
                    reason: error.to_string(),
                });
            }
            if !roots.iter().any(|root| root.der == der) {
                roots.push(Root { der, info });
            }
        }
        Ok(Self(roots))
    }

    /// A bundle of one.
    pub(crate) fn only(root: &Root) -> Self {
        Self(vec![root.clone()])
    }

    /// Each root.
    pub fn iter(&self) -> impl Iterator<Item = &Root> {
        self.0.iter()
    }

    /// SHA-256 of each root's DER in hex: what a node reports so that the operator knows when
    /// every node trusts a new root.
    #[must_use]
    pub fn fingerprints(&self) -> Vec<String> {
        self.iter().map(|root| root.info.fingerprint.clone()).collect()
    }

    /// The roots whose own validity holds at `now`.
    ///
    /// webpki never looks at a root's dates, so an expired one is left out here: it would be
    /// trusted for ever.
    #[must_use]
    pub fn valid_at(&self, now: SystemTime) -> RootCertStore {
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(
            self.iter().filter(|root| root.info.is_valid_at(now)).map(|root| root.der.clone()),
        );
        store
    }
}
