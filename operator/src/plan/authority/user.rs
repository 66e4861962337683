//! A CA of the user's own, checked before it is relied on.

use std::time::{Duration, SystemTime};

use restpipe_api::condition::reason;
use restpipe_identity::{
    CertificateAuthority, Credentials, IssueError, LeafRequest, PeerName, Usage, rfc3339,
};

use super::{Root, Source};
use crate::seen::{SecretSeen, Trouble};

/// How long the leaf lives by which a CA is tried.
const TRIAL: Duration = Duration::from_secs(60);

/// Takes the CA of the Secret `name` (`shown`: with its namespace).
///
/// `known` are the roots in use: what was tried before need not be tried again. `names` are such as
/// it is to sign, of a client and of a server.
pub(in crate::plan) fn read_user_ca(
    shown: &str,
    secret: Option<&SecretSeen>,
    known: &[&Root],
    names: [&str; 2],
    now: SystemTime,
) -> Result<Root, Trouble> {
    let invalid = |why: String| Trouble {
        reason: reason::SECRET_INVALID,
        detail: format!("the Secret {shown} holds no CA that can be used: {why}"),
    };
    let Some(secret) = secret else {
        return Err(Trouble {
            reason: reason::SECRET_NOT_FOUND,
            detail: format!(
                "spec.identity.caSecretName names the Secret {shown}, which is not there: make it with tls.crt and tls.key of a CA (kubectl create secret tls), or remove the setting"
            ),
        });
    };
    let part = |key: &str| {
        let bytes = secret.data.get(key).filter(|bytes| !bytes.is_empty());
        bytes.ok_or_else(|| {
            invalid(format!("it has no {key}: give it the CA's tls.crt and tls.key"))
        })
    };
    let (cert, key) = (part("tls.crt")?, part("tls.key")?);
    let root = Root::read(cert, key, Source::Secret)
        .map_err(|error| invalid(format!("{error}{}", hint(&error, key))))?;
    let info = root.info();
    if !info.is_valid_at(now) {
        let (from, to) = (rfc3339(info.not_before), rfc3339(info.not_after));
        let clock = day_of(now);
        return Err(invalid(format!(
            "it is valid from {from} to {to}, and the operator's clock says {clock}: put another one there, or set the clock"
        )));
    }
    if !known.iter().any(|known| known.is(&root)) {
        try_out(&root.ca, names, now).map_err(invalid)?;
    }
    Ok(root)
}

/// To the day only: a message that changes at every look would be written at every look.
fn day_of(now: SystemTime) -> String {
    rfc3339(now).split('T').next().unwrap_or_default().to_owned()
}

/// What certificate libraries say of keys helps nobody.
fn hint(error: &IssueError, key: &[u8]) -> &'static str {
    let has = |text: &[u8]| key.windows(text.len()).any(|window| window == text);
    match error {
        IssueError::Library(_) if has(b"BEGIN RSA PRIVATE KEY") || has(b"BEGIN EC PRIVATE KEY") => {
            "; the key is in the PKCS#1 or SEC1 form, PKCS#8 is understood best: openssl pkcs8 -topk8 -nocrypt -in OLD -out tls.key (cert-manager: spec.privateKey.encoding: PKCS8)"
        }
        _ => "",
    }
}

/// Whether nodes would take what it signs: it may be kept from signing such names, or have a key
/// of a kind that TLS does not take.
fn try_out(ca: &CertificateAuthority, names: [&str; 2], now: SystemTime) -> Result<(), String> {
    if ca.limits_uris() {
        return Err("its name constraints are about URIs, which nodes do not weigh, and have none of: put a CA there that is limited in DNS names, or not at all".to_owned());
    }
    for (usage, name) in [Usage::Client, Usage::Server].into_iter().zip(names) {
        let name = PeerName::parse(name).map_err(|error| error.to_string())?;
        let request = LeafRequest { name, usage, lifetime: TRIAL, now };
        let leaf = ca.issue(request).map_err(|error| error.to_string())?;
        let key = leaf.key_pem.expose().as_bytes();
        Credentials::from_pem(leaf.cert_pem.as_bytes(), key, ca.cert_pem().as_bytes(), usage, now)
            .map_err(|error| format!("nodes would refuse what it signs: {error}"))?;
    }
    Ok(())
}
