//! Issuing a node's leaf.

use std::fmt;
use std::time::{Duration, SystemTime};

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, SerialNumber,
};

use crate::ca::{CertificateAuthority, MAX_COMMON_NAME, validity};
use crate::clock::{apart, from_unix_seconds, rfc3339};
use crate::inspect::Unreadable;
use crate::leaf::Usage;
use crate::name::{NameError, PeerName};
use crate::pem::PemError;
use crate::provider::random;

/// How long the operator's leafs live: a day. Renewal at two thirds leaves 8 hours of operator
/// outage, and a stolen key is worth a day at most.
pub const LEAF_LIFETIME: Duration = Duration::from_secs(86_400);

/// How long leafs live on hosts that the operator does not reach: 90 days, since a person may
/// have to bring the next one.
pub const LONG_LEAF_LIFETIME: Duration = Duration::from_secs(90 * 86_400);

/// How far before its issue a certificate begins: machines whose clock is a little behind must
/// take it at once. 5 minutes is Kerberos' customary tolerance (RFC 4120 section 1.3).
pub const BACKDATE: Duration = Duration::from_secs(5 * 60);

/// Why nothing was issued.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IssueError {
    /// The CA's time is over.
    #[error("the CA {ca} ended at {}, {} ago: make a new one with `restpipe identity ca`, or check the clock of this machine ({})", rfc3339(*.not_after), apart(*.not_after, *.now), rfc3339(*.now))]
    CaExpired {
        /// Its subject.
        ca: String,
        /// Its last second.
        not_after: SystemTime,
        /// This machine's clock.
        now: SystemTime,
    },
    /// The CA's time has not begun.
    #[error("the CA {ca} begins at {}, in {}: check the clock of this machine ({})", rfc3339(*.not_before), apart(*.not_before, *.now), rfc3339(*.now))]
    CaNotYetValid {
        /// Its subject.
        ca: String,
        /// Its first second.
        not_before: SystemTime,
        /// This machine's clock.
        now: SystemTime,
    },
    /// Nothing between begin and end, or an end after the year 9999.
    #[error(
        "the lifetime is less than a second or beyond the year 9999: give one such as 24h or 90d"
    )]
    Lifetime,
    /// Empty, too long, or with control characters.
    #[error("{0:?} is no name for a CA: give 1 to {MAX_COMMON_NAME} printable characters")]
    CaName(String),
    /// The certificate may not sign others.
    #[error("{0} is not a CA: give the files that `restpipe identity ca` wrote")]
    NotCa(String),
    /// Certificate and key of the CA are from different CAs.
    #[error("the key does not belong to the CA {0}: give both files of the same CA")]
    CaKeyMismatch(String),
    /// No server can have this name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A file of the CA is not PEM as it should be.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// The CA's certificate is not X.509.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// The system gives no randomness.
    #[error("the system gives no random bytes: nothing is issued without them")]
    NoRandom,
    /// The certificate library refuses.
    #[error(
        "the certificate library refuses ({0}): is the CA's key of a common kind, such as P-256?"
    )]
    Library(#[from] rcgen::Error),
}

/// A private key in PEM, which `{:?}` does not show.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyPem(String);

impl KeyPem {
    pub(crate) fn new(pem: String) -> Self {
        Self(pem)
    }

    /// The key itself: for writing it to its place, never to a log.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for KeyPem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyPem(..)")
    }
}

/// What to issue.
#[derive(Debug, Clone)]
pub struct LeafRequest {
    /// The node's name: the only name in the leaf.
    pub name: PeerName,
    /// Its only role.
    pub usage: Usage,
    /// How long it should live.
    pub lifetime: Duration,
    /// The clock.
    pub now: SystemTime,
}

/// A leaf and its key.
#[derive(Debug, Clone)]
pub struct IssuedLeaf {
    /// For `tls.crt`.
    pub cert_pem: String,
    /// For `tls.key`.
    pub key_pem: KeyPem,
    /// Its last second.
    pub not_after: SystemTime,
    /// Whether the CA's end cut its lifetime short.
    pub capped: bool,
}

impl CertificateAuthority {
    /// Issues a leaf with a new P-256 key. It never outlives the CA; [`IssuedLeaf::capped`] says
    /// when that made it shorter than asked.
    pub fn issue(&self, request: LeafRequest) -> Result<IssuedLeaf, IssueError> {
        let LeafRequest { name, usage, lifetime, now } = request;
        self.must_be_valid_at(now)?;
        if usage == Usage::Server {
            // A server that no client could ask for by name is of no use.
            name.to_server_name()?;
        }
        let ca = self.info();
        let wanted = now.checked_add(lifetime);
        let end = wanted.map_or(ca.not_after, |wanted| wanted.min(ca.not_after));
        let mut params = params(&name, usage)?;
        (params.not_before, params.not_after) = validity(now, end)?;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let leaf = params.signed_by(&key, &self.issuer)?;
        Ok(IssuedLeaf {
            cert_pem: leaf.pem(),
            key_pem: KeyPem::new(key.serialize_pem()),
            not_after: from_unix_seconds(params.not_after.unix_timestamp()),
            capped: wanted.is_none_or(|wanted| wanted > ca.not_after),
        })
    }

    fn must_be_valid_at(&self, now: SystemTime) -> Result<(), IssueError> {
        let ca = self.info();
        if ca.is_valid_at(now) {
            return Ok(());
        }
        let subject = ca.subject.clone();
        Err(if now < ca.not_before {
            IssueError::CaNotYetValid { ca: subject, not_before: ca.not_before, now }
        } else {
            IssueError::CaExpired { ca: subject, not_after: ca.not_after, now }
        })
    }
}

fn params(name: &PeerName, usage: Usage) -> Result<CertificateParams, IssueError> {
    let mut params = CertificateParams::default();
    // Only for people who look at the certificate, and left out where it does not fit.
    params.distinguished_name = DistinguishedName::new();
    if name.as_str().len() <= MAX_COMMON_NAME {
        params.distinguished_name.push(DnType::CommonName, name.as_str());
    }
    // Not `CertificateParams::new`, which would make an IP address of a name that looks like one.
    params.subject_alt_names = vec![SanType::DnsName(name.as_str().try_into()?)];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![match usage {
        Usage::Client => ExtendedKeyUsagePurpose::ClientAuth,
        Usage::Server => ExtendedKeyUsagePurpose::ServerAuth,
    }];
    params.use_authority_key_identifier_extension = true;
    params.serial_number = Some(fresh_serial()?);
    Ok(params)
}

/// 16 random bytes, positive and of full length (RFC 5280 section 4.1.2.2 allows 20).
///
/// rcgen's own choice is a hash of the key: the same key again would be the same serial again,
/// and be revoked with it.
pub(crate) fn fresh_serial() -> Result<SerialNumber, IssueError> {
    let mut bytes: [u8; 16] = random().map_err(|_| IssueError::NoRandom)?;
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}
