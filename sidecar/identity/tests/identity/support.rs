//! A fixed clock, authorities, and leafs that no authority of ours would issue.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType,
};
use restpipe_identity::{
    CA_LIFETIME, CertificateAuthority, Credentials, CredentialsError, IssuedLeaf, LEAF_LIFETIME,
    LeafRequest, PeerName, Usage,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use time::OffsetDateTime;

pub(crate) const MINUTE: Duration = Duration::from_secs(60);
pub(crate) const DAY: Duration = Duration::from_secs(86_400);

/// 2026-11-22T16:35:00Z: no test asks the machine for the time.
pub(crate) fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_795_365_300)
}

pub(crate) fn name(text: &str) -> PeerName {
    PeerName::parse(text).expect(text)
}

pub(crate) fn ca() -> CertificateAuthority {
    CertificateAuthority::create("restpipe test ca", CA_LIFETIME, now()).expect("a CA")
}

pub(crate) fn issue(ca: &CertificateAuthority, host: &str, usage: Usage) -> IssuedLeaf {
    issue_at(ca, host, usage, now())
}

pub(crate) fn issue_at(
    ca: &CertificateAuthority,
    host: &str,
    usage: Usage,
    now: SystemTime,
) -> IssuedLeaf {
    ca.issue(LeafRequest { name: name(host), usage, lifetime: LEAF_LIFETIME, now }).expect(host)
}

pub(crate) fn der(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate")
}

pub(crate) fn taken(
    leaf: &IssuedLeaf,
    bundle: &str,
    usage: Usage,
    now: SystemTime,
) -> Result<Credentials, CredentialsError> {
    let key = leaf.key_pem.expose().as_bytes();
    Credentials::from_pem(leaf.cert_pem.as_bytes(), key, bundle.as_bytes(), usage, now)
}

pub(crate) fn calendar(at: SystemTime) -> OffsetDateTime {
    OffsetDateTime::from(at)
}

/// Parameters of a good client leaf, to be spoilt.
pub(crate) fn leaf_params(dns: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "common.name");
    params.subject_alt_names = dns.iter().map(|name| dns_name(name)).collect();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.not_before = calendar(now() - 5 * MINUTE);
    params.not_after = calendar(now() + DAY);
    params
}

pub(crate) fn dns_name(text: &str) -> SanType {
    SanType::DnsName(text.try_into().expect("ASCII"))
}

/// Self-signed: enough for rules that look at the leaf alone.
pub(crate) fn lone_leaf(params: CertificateParams) -> CertificateDer<'static> {
    let key = KeyPair::generate().expect("a key");
    params.self_signed(&key).expect("a certificate").der().clone()
}

/// An authority of any make, for chains that ours does not build.
pub(crate) fn foreign_ca(subject: &str, limits: IsCa) -> CertifiedIssuer<'static, KeyPair> {
    let key = KeyPair::generate().expect("a key");
    CertifiedIssuer::self_signed(ca_params(subject, limits), key).expect("a CA")
}

pub(crate) fn ca_params(subject: &str, limits: IsCa) -> CertificateParams {
    let mut params = leaf_params(&[]);
    params.distinguished_name.push(DnType::CommonName, subject);
    params.extended_key_usages.clear();
    params.is_ca = limits;
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

/// PEM for bytes that rcgen does not write.
pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = format!("-----BEGIN {label}-----");
    for (index, three) in der.chunks(3).enumerate() {
        if index % 16 == 0 {
            text.push('\n');
        }
        let bits = three.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
        let bits = bits << (8 * (3 - three.len()));
        for place in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * place)) as usize & 63];
            text.push(if place <= three.len() { letter.into() } else { '=' });
        }
    }
    text + &format!("\n-----END {label}-----\n")
}
