//! What a certificate says, for `show`, status and messages. Nothing here is a decision.

use std::net::IpAddr;
use std::time::SystemTime;

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{ExtendedKeyUsage, GeneralName};
use x509_parser::public_key::PublicKey;
use x509_parser::x509::{SubjectPublicKeyInfo, X509Name};

use crate::clock::{from_unix_seconds, unix_seconds};
use crate::provider::{fingerprint, hex};

/// Characters of a name in a message: certificates from elsewhere may hold whole novels.
const MAX_SHOWN: usize = 200;

/// One certificate, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateInfo {
    /// Subject alternative names: a DNS name as it stands, others as `IP:10.0.0.1`, `URI:x`.
    pub names: Vec<String>,
    /// The subject, as in `CN=restpipe ca`.
    pub subject: String,
    /// The subject's common name. Shown only: it never decides anything.
    pub common_name: Option<String>,
    /// Extended key usages: `clientAuth`, `serverAuth`, other words of RFC 5280, or an OID.
    pub usages: Vec<String>,
    /// The first second it is valid.
    pub not_before: SystemTime,
    /// The last second it is valid.
    pub not_after: SystemTime,
    /// Serial number in lower-case hex.
    pub serial: String,
    /// The issuer's subject.
    pub issuer: String,
    /// SHA-256 of the DER in lower-case hex.
    pub fingerprint: String,
    /// Whether it may sign others.
    pub is_ca: bool,
    /// `ECDSA P-256`, `RSA 2048`, or the algorithm's OID.
    pub key_algorithm: String,
}

impl CertificateInfo {
    /// Whether `now` lies within its validity, both ends included as in RFC 5280 section 4.1.2.5.
    #[must_use]
    pub fn is_valid_at(&self, now: SystemTime) -> bool {
        // In whole seconds, as webpki counts: the last second is valid to its end.
        (unix_seconds(self.not_before)..=unix_seconds(self.not_after)).contains(&unix_seconds(now))
    }
}

/// The bytes are not an X.509 certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a readable X.509 certificate ({0}): the file is damaged or of another kind, issue it anew"
)]
pub struct Unreadable(pub(crate) String);

/// Takes the certificate in `der` apart.
pub fn inspect(der: &[u8]) -> Result<CertificateInfo, Unreadable> {
    let certificate = parse(der)?;
    let time = |at: x509_parser::time::ASN1Time| from_unix_seconds(at.timestamp());
    let names = match certificate.subject_alternative_name() {
        Ok(found) => found
            .map_or_else(Vec::new, |san| san.value.general_names.iter().map(shown_name).collect()),
        Err(error) => return Err(Unreadable(one_line(&error.to_string()))),
    };
    let usages = match certificate.extended_key_usage() {
        Ok(found) => found.map_or_else(Vec::new, |usage| usage_words(usage.value)),
        Err(error) => return Err(Unreadable(one_line(&error.to_string()))),
    };
    Ok(CertificateInfo {
        names,
        subject: one_line(&certificate.subject().to_string()),
        common_name: common_name(certificate.subject()),
        usages,
        not_before: time(certificate.validity().not_before),
        not_after: time(certificate.validity().not_after),
        serial: hex(certificate.raw_serial()),
        issuer: one_line(&certificate.issuer().to_string()),
        fingerprint: fingerprint(der),
        is_ca: certificate.is_ca(),
        key_algorithm: key_algorithm(certificate.public_key()),
    })
}

/// Parses, with nothing allowed behind the certificate.
pub(crate) fn parse(der: &[u8]) -> Result<X509Certificate<'_>, Unreadable> {
    match x509_parser::parse_x509_certificate(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok((rest, _)) => Err(Unreadable(format!("{} bytes behind its end", rest.len()))),
        Err(error) => Err(Unreadable(one_line(&error.to_string()))),
    }
}

/// Text from a certificate, safe in a log line: controls escaped, length capped.
pub(crate) fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len().min(MAX_SHOWN));
    for (count, letter) in text.chars().enumerate() {
        if count == MAX_SHOWN {
            line.push_str("...");
            break;
        }
        if letter.is_control() {
            line.extend(letter.escape_default());
        } else {
            line.push(letter);
        }
    }
    line
}

/// The first common name, if any.
pub(crate) fn common_name(subject: &X509Name<'_>) -> Option<String> {
    subject.iter_common_name().next()?.as_str().ok().map(one_line)
}

/// A subject alternative name as one word.
pub(crate) fn shown_name(name: &GeneralName<'_>) -> String {
    match name {
        GeneralName::DNSName(name) => one_line(name),
        GeneralName::URI(uri) => format!("URI:{}", one_line(uri)),
        GeneralName::RFC822Name(mail) => format!("email:{}", one_line(mail)),
        GeneralName::IPAddress(bytes) => match **bytes {
            [a, b, c, d] => format!("IP:{}", IpAddr::from([a, b, c, d])),
            ref bytes => match <[u8; 16]>::try_from(bytes) {
                Ok(bytes) => format!("IP:{}", IpAddr::from(bytes)),
                Err(_) => format!("IP:{}", hex(bytes)),
            },
        },
        other => one_line(&other.to_string()),
    }
}

/// The usages by their names in RFC 5280 section 4.2.1.12.
pub(crate) fn usage_words(usage: &ExtendedKeyUsage<'_>) -> Vec<String> {
    let known = [
        (usage.client_auth, "clientAuth"),
        (usage.server_auth, "serverAuth"),
        (usage.any, "anyExtendedKeyUsage"),
        (usage.code_signing, "codeSigning"),
        (usage.email_protection, "emailProtection"),
        (usage.time_stamping, "timeStamping"),
        (usage.ocsp_signing, "OCSPSigning"),
    ];
    let words = known.iter().filter(|(set, _)| *set).map(|(_, word)| (*word).to_owned());
    words.chain(usage.other.iter().map(ToString::to_string)).collect()
}

fn key_algorithm(key: &SubjectPublicKeyInfo<'_>) -> String {
    match key.parsed() {
        Ok(PublicKey::RSA(key)) => format!("RSA {}", key.key_size()),
        Ok(PublicKey::EC(point)) => match point.key_size() {
            256 => "ECDSA P-256".to_owned(),
            384 => "ECDSA P-384".to_owned(),
            // 66 bytes hold the 521 bits.
            521 | 528 => "ECDSA P-521".to_owned(),
            bits => format!("ECDSA {bits} bits"),
        },
        _ if key.algorithm.algorithm.to_id_string() == "1.3.101.112" => "Ed25519".to_owned(),
        _ => key.algorithm.algorithm.to_id_string(),
    }
}
