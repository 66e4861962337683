//! Handshake errors in words that name the cure, and as fixed words for metrics.

use std::fmt;
use std::time::SystemTime;

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, PeerIncompatible};

use crate::check::{expired, not_yet_valid};
use crate::clock::{from_unix, rfc3339};
use crate::credentials::ALPN;
use crate::inspect::one_line;
use crate::path::PathFault;

/// A failed handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// A fixed word, for a metric's label. `refused_*`: the other side said no to us.
    pub reason: &'static str,
    /// One line with the cure.
    pub text: String,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What `error` means, with `now` this machine's clock.
#[must_use]
pub fn explain(error: &Error, now: SystemTime) -> Explanation {
    let clock = rfc3339(now);
    let (reason, text) = match error {
        Error::InvalidCertificate(error) => certificate(error, now),
        Error::AlertReceived(alert) => refused(*alert, &clock),
        Error::NoCertificatesPresented => (
            "cert_required",
            "the other side sent no certificate: give it one with `restpipe identity install`"
                .into(),
        ),
        Error::NoApplicationProtocol => (
            "alpn",
            format!(
                "the other side does not speak {}: it is another service, or another version",
                alpn()
            ),
        ),
        Error::PeerIncompatible(
            PeerIncompatible::Tls13RequiredForQuic
            | PeerIncompatible::SupportedVersionsExtensionRequired
            | PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
            | PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled,
        ) => (
            "version",
            "the other side does not offer TLS 1.3: is a proxy ending TLS in between?".into(),
        ),
        // Only a peer that speaks TLS gets as far as to be too long-winded in it.
        Error::InvalidMessage(
            InvalidMessage::HandshakePayloadTooLarge | InvalidMessage::CertificatePayloadTooLarge,
        ) => (
            "bad_cert",
            "the other side's certificates take more than 64 KiB: it should send its own, and those up to its CA, only".into(),
        ),
        Error::InvalidMessage(_) | Error::InappropriateMessage { .. } => (
            "not_tls",
            "the other side does not speak TLS: is it plain HTTP, or the wrong port?".into(),
        ),
        error => ("tls", format!("the TLS handshake failed: {}", one_line(&error.to_string()))),
    };
    Explanation { reason, text }
}

fn certificate(error: &CertificateError, now: SystemTime) -> (&'static str, String) {
    use CertificateError as E;
    const PEER: &str = "the other side's certificate";
    match error {
        E::ExpiredContext { not_after, .. } => {
            ("expired", expired(PEER, from_unix(*not_after), now))
        }
        E::NotValidYetContext { not_before, .. } => {
            ("not_yet_valid", not_yet_valid(PEER, from_unix(*not_before), now))
        }
        E::UnknownIssuer | E::BadSignature => (
            "unknown_ca",
            format!(
                "{PEER} is from a CA that is not in our ca.crt: add that CA, or issue it with ours"
            ),
        ),
        E::InvalidPurpose | E::InvalidPurposeContext { .. } => (
            "bad_eku",
            format!(
                "{PEER} is for the other role: clients need `restpipe identity client NAME`, servers `restpipe identity server NAME`"
            ),
        ),
        E::NotValidForNameContext { presented, .. } if presented.is_empty() => (
            "wrong_name",
            format!(
                "{PEER} has no subject alternative name (a common name is never used): issue it with `restpipe identity server NAME`"
            ),
        ),
        E::NotValidForNameContext { expected, presented } => (
            "wrong_name",
            format!(
                "{PEER} is for {}, we asked for {}: correct the server's name in our settings, or its certificate",
                one_line(&presented.iter().map(|name| bare(name)).collect::<Vec<_>>().join(", ")),
                expected.to_str(),
            ),
        ),
        error => match PathFault::of(error) {
            Some(fault) => ("bad_cert", format!("{PEER} is refused: {fault}")),
            None => (
                "bad_cert",
                format!("{PEER} is refused ({}): issue it anew", one_line(&error.to_string())),
            ),
        },
    }
}

/// rustls presents a name as `DnsName("hub")`.
fn bare(name: &str) -> &str {
    name.split('"').nth(1).unwrap_or(name)
}

fn refused(alert: AlertDescription, clock: &str) -> (&'static str, String) {
    use AlertDescription as A;
    match alert {
        // TLS has one alert for "ended" and "not begun" (rustls sends it for both).
        A::CertificateExpired => (
            "refused_expired",
            format!("the other side says that our certificate has ended or not begun (our clock: {clock}): renew it, and check both machines' clocks"),
        ),
        A::UnknownCA | A::DecryptError => (
            "refused_unknown_ca",
            "the other side does not trust our certificate's CA: add it to the other side's ca.crt".into(),
        ),
        A::CertificateRequired => (
            "refused_no_cert",
            "the other side asks for a certificate and we sent none: give this node one with `restpipe identity install`".into(),
        ),
        A::UnsupportedCertificate | A::BadCertificate | A::CertificateUnknown | A::CertificateRevoked | A::AccessDenied => (
            "refused_cert",
            format!("the other side refuses our certificate ({alert:?}): its log says why; is it for our role?"),
        ),
        A::NoApplicationProtocol => (
            "refused_alpn",
            format!("the other side does not speak {}: it is another service, or another version", alpn()),
        ),
        A::ProtocolVersion => (
            "refused_version",
            "the other side does not offer TLS 1.3: is a proxy ending TLS in between?".into(),
        ),
        A::UnrecognisedName => (
            "refused_name",
            "the other side does not know the server name we asked for: correct it in our settings".into(),
        ),
        alert => ("refused_tls", format!("the other side ended the TLS handshake ({alert:?}): its log says why")),
    }
}

fn alpn() -> String {
    String::from_utf8_lossy(ALPN).into_owned()
}
