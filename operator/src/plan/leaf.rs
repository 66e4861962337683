//! The Secret of a server or a link: whether its certificate must be issued, again or at all.

mod standing;
mod unwritten;

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use k8s_openapi::api::core::v1::Secret;
use restpipe_api::IdentityStatus;
use restpipe_api::condition::reason;
use restpipe_identity::{
    BACKDATE, CA_CERT, CertificateInfo, Credentials, IssueError, LeafRequest, MAX_CHAIN, Part,
    PeerName, TLS_CERT, TLS_KEY, Usage, certificates, inspect, rfc3339,
};

use super::authority::CaState;
use super::event::{self, Event};
use super::node::NODE_TOML;
use super::objects::Owner;
use super::time::time;
use crate::seen::{SecretSeen, Trouble};

pub(super) use standing::{EMPTY, applied, untouchable_secret};
pub use standing::{Standing, standing};
pub use unwritten::link_without_secret;
pub(super) use unwritten::{events_without, identity_there};

/// Annotation of the Secret: the value of [`restpipe_api::names::RENEW`] that was seen to.
const RENEWED: &str = "restpipe.io/renewed";
/// Annotation of the Secret: how long a life was asked for, and whether for export. The
/// certificate itself may be shorter, by its CA's end.
const ISSUED_FOR: &str = "restpipe.io/issued-for";
/// Annotation of the Secret: fingerprints of the roots that were in ca.crt when it was issued.
const ISSUED_WITH: &str = "restpipe.io/issued-with";

/// What a leaf Secret should hold.
pub(super) struct LeafWant<'a> {
    pub(super) owner: &'a Owner,
    pub(super) secret: String,
    /// The one name in the certificate.
    pub(super) name: &'a str,
    pub(super) usage: Usage,
    pub(super) lifetime: Duration,
    /// Copies of it are outside of the cluster: it is issued once, and again only when asked for.
    pub(super) exported: bool,
    /// Value of the annotation that asks for another.
    pub(super) renew: Option<&'a str>,
    pub(super) node_toml: String,
    pub(super) ca: Result<&'a CaState, &'a Trouble>,
    /// Whether a leaf of a former root is to be replaced.
    pub(super) may_switch: bool,
}

/// What is to be done about a leaf Secret.
#[derive(Debug, Default)]
pub(super) struct LeafPlan {
    /// To apply.
    pub(super) secret: Option<Secret>,
    pub(super) identity: Option<IdentityStatus>,
    /// What the certificate says that will be there.
    pub(super) info: Option<CertificateInfo>,
    pub(super) event: Option<Event>,
    pub(super) problem: Option<Trouble>,
    pub(super) again_at: Option<SystemTime>,
}

/// What the Secret holds, besides what is set anew in any case.
struct Contents {
    cert: Vec<u8>,
    key: Vec<u8>,
    issued_with: String,
    info: CertificateInfo,
}

/// Plans the leaf Secret.
pub(super) fn plan(seen: Option<&SecretSeen>, want: &LeafWant<'_>, now: SystemTime) -> LeafPlan {
    let standing = standing(seen, &want.owner.uid);
    let known = seen.filter(|_| standing == Standing::Ours);
    if let Some(problem) = untouchable(standing, want) {
        return LeafPlan { problem: Some(problem), ..LeafPlan::default() };
    }
    let ca = match want.ca {
        Ok(ca) => ca,
        Err(trouble) => return unissued(known, want, trouble.clone(), now),
    };
    let why = match known {
        Some(seen) => match examine(seen, want, ca, now) {
            Ok(kept) => return rewrite(seen, kept, want, ca, now),
            Err(why) => Some(why),
        },
        None => None,
    };
    match issue(want, ca, now) {
        Ok(issued) => {
            let until = rfc3339(issued.info.not_after);
            let event = match why {
                None => Event::normal(
                    event::ISSUED,
                    "Issue",
                    format!("a certificate for {} was issued, until {until}", want.name),
                ),
                Some(why) => Event::normal(
                    event::RENEWED,
                    "Issue",
                    format!(
                        "the certificate for {} was issued anew, until {until}: {why}",
                        want.name
                    ),
                ),
            };
            let plan = rewrite(seen.unwrap_or(&EMPTY), issued, want, ca, now);
            LeafPlan { event: Some(event), ..plan }
        }
        Err(error) => {
            let problem = Trouble { reason: reason::CA_UNAVAILABLE, detail: error.to_string() };
            unissued(known, want, problem, now)
        }
    }
}

/// Where nothing can be issued: what is there stays, but for the settings. Who may connect does not
/// wait for a CA.
fn unissued(
    known: Option<&SecretSeen>,
    want: &LeafWant<'_>,
    problem: Trouble,
    now: SystemTime,
) -> LeafPlan {
    let info = known.and_then(|seen| shown(seen.data.get(TLS_CERT)?));
    let secret = known.and_then(|seen| with_settings(seen, want));
    LeafPlan { secret, problem: Some(problem), ..identity(want, info, now) }
}

/// The Secret that is there with the settings that are wanted, if it has others. One without a
/// certificate is of no use, with whatever settings.
fn with_settings(seen: &SecretSeen, want: &LeafWant<'_>) -> Option<Secret> {
    let mut data = BTreeMap::new();
    for key in [TLS_CERT, TLS_KEY, CA_CERT] {
        data.insert(key.to_owned(), seen.data.get(key).filter(|bytes| !bytes.is_empty())?.clone());
    }
    data.insert(NODE_TOML.to_owned(), want.node_toml.clone().into_bytes());
    let kept = [ISSUED_FOR, ISSUED_WITH, RENEWED];
    let kept = kept.into_iter().filter_map(|key| seen.annotations.get_key_value(key));
    let annotations = kept.map(|(key, value)| (key.clone(), value.clone())).collect();
    applied(seen, want.owner, &want.secret, annotations, data)
}

fn untouchable(standing: Standing, want: &LeafWant<'_>) -> Option<Trouble> {
    untouchable_secret(standing, &want.secret, &want.owner.namespace)
}

/// Whether what is there can stay; else why not.
fn examine(
    seen: &SecretSeen,
    want: &LeafWant<'_>,
    ca: &CaState,
    now: SystemTime,
) -> Result<Contents, String> {
    let part = |key: &str| {
        let bytes = seen.data.get(key).filter(|bytes| !bytes.is_empty());
        bytes.cloned().ok_or_else(|| format!("the Secret had no {key}"))
    };
    let (cert, key) = (part(TLS_CERT)?, part(TLS_KEY)?);
    let credentials = Credentials::from_pem(&cert, &key, ca.bundle().as_bytes(), want.usage, now)
        .map_err(|error| error.to_string())?;
    if credentials.name().as_str() != want.name {
        return Err(format!("it was for another name, {}", credentials.name()));
    }
    let annotation = |key: &str| seen.annotations.get(key).map(String::as_str);
    if want.renew.is_some() && want.renew != annotation(RENEWED) {
        return Err("it was asked for".to_owned());
    }
    let asked_for = issued_for(want);
    if annotation(ISSUED_FOR).is_some_and(|before| before != asked_for) {
        return Err("another lifetime is asked for".to_owned());
    }
    let info = credentials.leaf().clone();
    if !want.exported {
        if want.may_switch && !ca.signed(&cert, want.usage, now) {
            return Err("the CA has changed".to_owned());
        }
        if now >= renewal_at(&info) && gains(&info, want, ca, now) {
            return Err("two thirds of its life were over".to_owned());
        }
    }
    let issued_with = annotation(ISSUED_WITH).unwrap_or_default().to_owned();
    Ok(Contents { cert, key, issued_with, info })
}

/// Whether a new one would live longer: next to the end of a CA, all end with it.
fn gains(info: &CertificateInfo, want: &LeafWant<'_>, ca: &CaState, now: SystemTime) -> bool {
    let end = ca.signer().info().not_after;
    let new = now.checked_add(want.lifetime).map_or(end, |wanted| wanted.min(end));
    time(new) > time(info.not_after)
}

fn issue(want: &LeafWant<'_>, ca: &CaState, now: SystemTime) -> Result<Contents, IssueError> {
    let name = PeerName::parse(want.name)?;
    let request = LeafRequest { name, usage: want.usage, lifetime: want.lifetime, now };
    let issued = ca.signer().issue(request)?;
    let chain = certificates(issued.cert_pem.as_bytes(), Part::Certificate, 1)?;
    Ok(Contents {
        info: inspect(&chain[0])?,
        cert: issued.cert_pem.into_bytes(),
        key: issued.key_pem.expose().as_bytes().to_vec(),
        issued_with: fingerprints(ca),
    })
}

/// The plan for a Secret with these contents, which writes nothing if all is there.
fn rewrite(
    seen: &SecretSeen,
    contents: Contents,
    want: &LeafWant<'_>,
    ca: &CaState,
    now: SystemTime,
) -> LeafPlan {
    let Contents { cert, key, issued_with, info } = contents;
    let data = BTreeMap::from([
        (TLS_CERT.to_owned(), cert),
        (TLS_KEY.to_owned(), key),
        (CA_CERT.to_owned(), ca.bundle().into_bytes()),
        (NODE_TOML.to_owned(), want.node_toml.clone().into_bytes()),
    ]);
    let renewed = want.renew.map(str::to_owned).or_else(|| seen.annotations.get(RENEWED).cloned());
    let mut annotations = BTreeMap::from([
        (ISSUED_FOR.to_owned(), issued_for(want)),
        (ISSUED_WITH.to_owned(), issued_with),
    ]);
    annotations.extend(renewed.map(|value| (RENEWED.to_owned(), value)));
    let secret = applied(seen, want.owner, &want.secret, annotations, data);
    LeafPlan { secret, ..identity(want, Some(info), now) }
}

/// The part of a plan that a certificate decides.
fn identity(want: &LeafWant<'_>, info: Option<CertificateInfo>, now: SystemTime) -> LeafPlan {
    let Some(info) = info else { return LeafPlan::default() };
    let renewal = (!want.exported).then(|| renewal_at(&info));
    let status = status_of(&want.secret, &info, renewal);
    LeafPlan {
        identity: Some(status),
        // A renewal that is over and brings nothing is not waited for.
        again_at: renewal.into_iter().chain([info.not_after]).find(|at| *at > now),
        info: Some(info),
        ..LeafPlan::default()
    }
}

/// What a status says of a certificate.
pub(super) fn status_of(
    secret: &str,
    info: &CertificateInfo,
    renewal: Option<SystemTime>,
) -> IdentityStatus {
    IdentityStatus {
        secret_name: secret.to_owned(),
        name: info.names.first().cloned().unwrap_or_default(),
        serial: info.serial.clone(),
        not_before: time(info.not_before),
        not_after: time(info.not_after),
        renewal_time: renewal.map(time),
    }
}

/// When a certificate is renewed: at two thirds of its life, a tenth of that sooner or later. Its
/// serial number decides, so that it is the same at every look, and another for every certificate.
#[must_use]
pub fn renewal_at(info: &CertificateInfo) -> SystemTime {
    let issued = info.not_before + BACKDATE;
    let life = info.not_after.duration_since(issued).unwrap_or_default();
    let digits = info.serial.len().saturating_sub(4);
    let dice = info.serial.get(digits..).and_then(|end| u16::from_str_radix(end, 16).ok());
    let fraction = f64::from(dice.unwrap_or(u16::MAX / 2)) / f64::from(u16::MAX);
    issued + (life * 2 / 3).mul_f64(0.9 + 0.2 * fraction)
}

fn issued_for(want: &LeafWant<'_>) -> String {
    let seconds = want.lifetime.as_secs();
    if want.exported { format!("export {seconds}s") } else { format!("{seconds}s") }
}

fn fingerprints(ca: &CaState) -> String {
    let next = ca.next.iter().map(|root| root.info().fingerprint.clone());
    let previous = ca.previous.iter().flat_map(|previous| previous.roots.fingerprints());
    [ca.fingerprint().to_owned()]
        .into_iter()
        .chain(next)
        .chain(previous)
        .collect::<Vec<_>>()
        .join(",")
}

/// The roots that were in the bundle when the leaf of this Secret was issued.
pub(super) fn roots_at_issue(seen: &SecretSeen) -> impl Iterator<Item = &str> {
    seen.annotations.get(ISSUED_WITH).into_iter().flat_map(|list| list.split(','))
}

/// What the first certificate says, if it can be read.
fn shown(cert: &[u8]) -> Option<CertificateInfo> {
    let chain = certificates(cert, Part::Certificate, MAX_CHAIN).ok()?;
    inspect(&chain[0]).ok()
}
