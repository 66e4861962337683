//! What is to be done next for the webhook's certificate: a function of what is there.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use restpipe_identity::{
    BACKDATE, CA_CERT, CA_KEY, CA_LIFETIME, CertificateAuthority, CertificateInfo, Credentials,
    IssueError, LeafRequest, PeerName, Roots, TLS_CERT, TLS_KEY, Usage,
};

/// How long a leaf lives: renewal at two thirds leaves ten days in which the controller may be
/// away.
const LEAF_LIFETIME: Duration = Duration::from_secs(30 * 86_400);

/// Former CAs that are kept at most, so that the bundle does not grow without end; at less than
/// 1 KiB each. Each of them may be the one of the leaf that a webhook pod still serves with: who
/// asks for more rotations than that within one overlap waits.
const MAX_PREVIOUS: usize = 31;

/// Key of the CA Secret: former CAs, still in the bundle.
pub(super) const PREVIOUS: &str = "previous.crt";

/// Annotation of the CA Secret: the value of `restpipe.io/renew` that was seen to.
pub(super) const RENEWED: &str = "restpipe.io/renewed";

/// Longest wait: what others change is polled for.
pub(super) const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// The contents of a Secret.
pub(super) type Data = BTreeMap<String, Vec<u8>>;

/// What is there.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    /// The one DNS name that the API server calls.
    pub(super) name: String,
    /// The CA Secret.
    pub(super) ca: Option<Data>,
    /// Its annotation `restpipe.io/renew`.
    pub(super) renew: Option<String>,
    /// Its annotation [`RENEWED`].
    pub(super) renewed: Option<String>,
    /// The Secret that the webhook serves with.
    pub(super) tls: Option<Data>,
    /// `caBundle` as it is; none if there is no such configuration.
    pub(super) bundle: Option<Vec<u8>>,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Store this as the CA Secret, over the one that was seen.
    StoreCa {
        /// Its whole contents.
        data: Data,
        /// Its annotation [`RENEWED`].
        renewed: Option<String>,
        /// Why.
        why: &'static str,
    },
    /// Write this bundle into the configuration.
    Publish(Vec<u8>),
    /// Write this Secret for the webhook.
    Serve(Data),
    /// Nothing for now; the leaf ends then.
    Wait {
        /// When to look again.
        again_in: Duration,
        /// The leaf's last second.
        not_after: SystemTime,
    },
}

/// Decides the next step. After each, everything is read again: the leaf of a new CA is made only
/// when the bundle was read back with that CA in it. A former CA stays in the bundle for `overlap`
/// after the leaf of the new one was written: kubelet brings a changed Secret to a pod within its
/// sync period (60 s) and the lifetime of its cache (60 s), and the webhook looks for changed files
/// every few seconds.
///
/// # Errors
/// If nothing can be issued.
pub(super) fn next(facts: &Facts, overlap: Duration, now: SystemTime) -> Result<Step, IssueError> {
    let current = match current(facts, now) {
        Ok(current) => current,
        Err(why) => return new_ca(facts, why, now),
    };
    let previous = previous(facts, now);
    let bundle = [current.cert_pem(), &previous.concat()].concat().into_bytes();
    if facts.bundle.as_ref().is_some_and(|published| *published != bundle) {
        return Ok(Step::Publish(bundle));
    }
    let asked = facts.renew.is_some() && facts.renew != facts.renewed;
    if asked && previous.len() < MAX_PREVIOUS {
        return new_ca(facts, "a new one is asked for", now);
    }
    let Some(leaf) = leaf(facts, &current, now) else { return serve(facts, &current, now) };
    let issued = leaf.not_before + BACKDATE;
    if !previous.is_empty() {
        let leaves = issued + overlap;
        if now >= leaves {
            let mut data = facts.ca.clone().unwrap_or_default();
            data.remove(PREVIOUS);
            let renewed = facts.renewed.clone();
            return Ok(Step::StoreCa {
                data,
                renewed,
                why: "the former CA is not needed any more",
            });
        }
        let wait = leaves.duration_since(now).unwrap_or_default();
        return Ok(Step::Wait { again_in: wait.min(LOOK_AGAIN), not_after: leaf.not_after });
    }
    Ok(Step::Wait { again_in: LOOK_AGAIN, not_after: leaf.not_after })
}

/// The CA that signs, or why there has to be another.
fn current(facts: &Facts, now: SystemTime) -> Result<CertificateAuthority, &'static str> {
    let data = facts.ca.as_ref().ok_or("there is none")?;
    let (Some(cert), Some(key)) = (data.get(CA_CERT), data.get(CA_KEY)) else {
        return Err("its Secret is incomplete");
    };
    let ca = CertificateAuthority::from_pem(cert, key).map_err(|_| "its Secret is damaged")?;
    if is_old(ca.info(), now) { Err("two thirds of its time are over") } else { Ok(ca) }
}

/// Whether two thirds of its life are over, or its time has not begun.
fn is_old(certificate: &CertificateInfo, now: SystemTime) -> bool {
    let begin = certificate.not_before;
    let life = certificate.not_after.duration_since(begin).unwrap_or_default();
    !certificate.is_valid_at(now) || now >= begin + life * 2 / 3
}

fn new_ca(facts: &Facts, why: &'static str, now: SystemTime) -> Result<Step, IssueError> {
    let ca = CertificateAuthority::create("RestPipe webhook", CA_LIFETIME, now)?;
    // Whatever the API server trusts now, and whatever the webhook may be serving with.
    let mut former: Vec<String> = Vec::new();
    let sources = [
        facts.ca.as_ref().and_then(|data| data.get(CA_CERT)),
        facts.tls.as_ref().and_then(|data| data.get(CA_CERT)),
        facts.bundle.as_ref(),
        facts.ca.as_ref().and_then(|data| data.get(PREVIOUS)),
    ];
    for one in sources.into_iter().flatten().flat_map(|pem| live_roots(pem, now)) {
        if !former.contains(&one) && former.len() < MAX_PREVIOUS {
            former.push(one);
        }
    }
    let mut data = Data::from([
        (CA_CERT.to_owned(), ca.cert_pem().as_bytes().to_vec()),
        (CA_KEY.to_owned(), ca.key_pem().expose().as_bytes().to_vec()),
    ]);
    if !former.is_empty() {
        data.insert(PREVIOUS.to_owned(), former.concat().into_bytes());
    }
    Ok(Step::StoreCa { data, renewed: facts.renew.clone(), why })
}

fn previous(facts: &Facts, now: SystemTime) -> Vec<String> {
    let pem = facts.ca.as_ref().and_then(|data| data.get(PREVIOUS));
    pem.map(|pem| live_roots(pem, now)).unwrap_or_default()
}

/// The roots in `pem` one by one that are good and within their time; damaged ones do not spoil
/// the others.
fn live_roots(pem: &[u8], now: SystemTime) -> Vec<String> {
    const END: &str = "-----END CERTIFICATE-----";
    let text = String::from_utf8_lossy(pem).replace('\r', "");
    text.split_inclusive(END)
        .map(|one| one.trim().to_owned() + "\n")
        .filter(|one| {
            Roots::from_pem(one.as_bytes())
                .is_ok_and(|roots| roots.iter().all(|root| root.info().is_valid_at(now)))
        })
        .collect()
}

/// The leaf that is served, if it is good and of this CA.
fn leaf(facts: &Facts, ca: &CertificateAuthority, now: SystemTime) -> Option<CertificateInfo> {
    let data = facts.tls.as_ref()?;
    let root = ca.cert_pem().as_bytes();
    if data.get(CA_CERT).map(Vec::as_slice) != Some(root) {
        return None;
    }
    let (cert, key) = (data.get(TLS_CERT)?, data.get(TLS_KEY)?);
    let credentials = Credentials::from_pem(cert, key, root, Usage::Server, now).ok()?;
    let good = credentials.name().as_str() == facts.name && !is_old(credentials.leaf(), now);
    good.then(|| credentials.leaf().clone())
}

fn serve(facts: &Facts, ca: &CertificateAuthority, now: SystemTime) -> Result<Step, IssueError> {
    let name = PeerName::parse(&facts.name)?;
    let request = LeafRequest { name, usage: Usage::Server, lifetime: LEAF_LIFETIME, now };
    let leaf = ca.issue(request)?;
    Ok(Step::Serve(Data::from([
        (TLS_CERT.to_owned(), leaf.cert_pem.into_bytes()),
        (TLS_KEY.to_owned(), leaf.key_pem.expose().as_bytes().to_vec()),
        (CA_CERT.to_owned(), ca.cert_pem().as_bytes().to_vec()),
    ])))
}

#[cfg(test)]
mod tests;
