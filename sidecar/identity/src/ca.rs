//! The certificate authority whose leafs name nodes.

use std::fmt;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PublicKeyData,
};
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;

use crate::clock::unix_seconds;
use crate::inspect::{CertificateInfo, Unreadable, inspect, one_line, parse};
use crate::issue::{BACKDATE, IssueError, KeyPem, fresh_serial};
use crate::pem::{self, Part};

/// How long a CA lives: one year. Rotation with overlap replaces it long before.
pub const CA_LIFETIME: Duration = Duration::from_secs(365 * 86_400);

/// Characters of a common name (RFC 5280 appendix A, ub-common-name).
pub(crate) const MAX_COMMON_NAME: usize = 64;

/// A root with its key: P-256, path length 0, since nothing but leafs comes below it.
pub struct CertificateAuthority {
    cert_pem: String,
    info: CertificateInfo,
    limits_uris: bool,
    pub(crate) issuer: Issuer<'static, KeyPair>,
}

impl CertificateAuthority {
    /// A new root called `name`, valid from 5 minutes before `now` until `lifetime` after it.
    ///
    /// Two roots may share a name: chains are matched by key.
    pub fn create(name: &str, lifetime: Duration, now: SystemTime) -> Result<Self, IssueError> {
        let name = name.trim();
        if name.is_empty()
            || name.chars().count() > MAX_COMMON_NAME
            || name.contains(char::is_control)
        {
            return Err(IssueError::CaName(crate::inspect::one_line(name)));
        }
        let end = now.checked_add(lifetime).unwrap_or(now);
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.serial_number = Some(fresh_serial()?);
        (params.not_before, params.not_after) = validity(now, end)?;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate = params.self_signed(&key)?;
        Ok(Self {
            info: inspect(certificate.der())?,
            cert_pem: certificate.pem(),
            limits_uris: false,
            issuer: Issuer::new(params, key),
        })
    }

    /// A root from its certificate and key, which must belong together. Its time is not looked at
    /// here, so that an expired one can still be shown.
    pub fn from_pem(cert: &[u8], key: &[u8]) -> Result<Self, IssueError> {
        let found = pem::certificates(cert, Part::Bundle, 1)?;
        let der = &found[0];
        let info = inspect(der)?;
        if !info.is_ca {
            return Err(IssueError::NotCa(info.subject));
        }
        let key = KeyPair::try_from(&pem::key(key)?)?;
        let parsed = parse(der)?;
        if parsed.public_key().raw != key.subject_public_key_info() {
            return Err(IssueError::CaKeyMismatch(info.subject));
        }
        let limits_uris = limits_uris(&parsed)?;
        let cert_pem = String::from_utf8_lossy(cert).replace('\r', "").trim().to_owned() + "\n";
        Ok(Self { cert_pem, info, limits_uris, issuer: Issuer::from_ca_cert_der(der, key)? })
    }

    /// What the root's certificate says.
    #[must_use]
    pub fn info(&self) -> &CertificateInfo {
        &self.info
    }

    /// Whether its name constraints are about URIs. No leaf here has one, so nothing that it signs
    /// fails by them; but such a CA is not meant for nodes, and the TLS library does not weigh
    /// URIs, it refuses all of them (RUSTSEC-2026-0098).
    #[must_use]
    pub fn limits_uris(&self) -> bool {
        self.limits_uris
    }

    /// The root's certificate: what goes into every `ca.crt`.
    #[must_use]
    pub fn cert_pem(&self) -> &str {
        &self.cert_pem
    }

    /// The root's key, for storing it only.
    #[must_use]
    pub fn key_pem(&self) -> KeyPem {
        KeyPem::new(self.issuer.key().serialize_pem())
    }
}

impl fmt::Debug for CertificateAuthority {
    /// Never shows the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertificateAuthority")
            .field("subject", &self.info.subject)
            .field("fingerprint", &self.info.fingerprint)
            .finish_non_exhaustive()
    }
}

fn limits_uris(ca: &X509Certificate<'_>) -> Result<bool, Unreadable> {
    let constraints = ca.name_constraints().map_err(|e| Unreadable(one_line(&e.to_string())))?;
    let Some(constraints) = constraints else { return Ok(false) };
    let (permitted, excluded) =
        (&constraints.value.permitted_subtrees, &constraints.value.excluded_subtrees);
    let mut subtrees = permitted.iter().chain(excluded).flatten();
    Ok(subtrees.any(|subtree| matches!(subtree.base, GeneralName::URI(_))))
}

/// From [`BACKDATE`] before `now` to `end`, in whole seconds as certificates have them.
pub(crate) fn validity(
    now: SystemTime,
    end: SystemTime,
) -> Result<(OffsetDateTime, OffsetDateTime), IssueError> {
    // Whoever asks for no time at all mistyped a unit.
    if unix_seconds(end) <= unix_seconds(now) {
        return Err(IssueError::Lifetime);
    }
    let begin = now.checked_sub(BACKDATE).unwrap_or(now);
    let calendar = |at| {
        OffsetDateTime::from_unix_timestamp(unix_seconds(at)).map_err(|_| IssueError::Lifetime)
    };
    Ok((calendar(begin)?, calendar(end)?))
}
