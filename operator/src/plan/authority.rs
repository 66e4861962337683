//! A server's CA, as it is stored in the operator's namespace.

mod user;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use restpipe_api::{CaPhase, names};
use restpipe_identity::{
    CA_LIFETIME, CertificateAuthority, CertificateInfo, IssueError, Roots, Usage, rfc3339, verify,
};

use super::objects;
use super::time::parse;
use crate::seen::SecretSeen;

pub(super) use user::read_user_ca;

/// How long, unless the operator is told otherwise, a new root is spread at least before anything is
/// signed by it, whatever the nodes report: pods that are just starting may have mounted their
/// Secret before, and kubelet brings changes within 60 s and the lifetime of its cache. As long
/// again the old root is kept at the end.
pub const SPREAD_TIME: Duration = Duration::from_secs(120);

/// Annotation of the CA Secret: the value of [`names::ROTATE_CA`] that was seen to.
const ROTATED: &str = "restpipe.io/rotated";
/// Annotation of the CA Secret: the value of [`names::ROTATE_CA_GO_ON`] that is of former rotations.
const GONE_ON: &str = "restpipe.io/gone-on";
/// Annotation of the CA Secret: since when all Secrets are as the phase wants them.
const SETTLED: &str = "restpipe.io/settled";
/// Annotations of the CA Secret: `operator` or `secret`, of the root that signs and of the next.
const SOURCE: &str = "restpipe.io/source";
const NEXT_SOURCE: &str = "restpipe.io/next-source";

/// Keys of the CA Secret.
const CURRENT: [&str; 2] = ["ca.crt", "ca.key"];
const NEXT: [&str; 2] = ["next.crt", "next.key"];
const PREVIOUS: &str = "previous.crt";

/// The type of the CA Secret. It is no TLS Secret: nothing should serve with it.
const CA_SECRET_TYPE: &str = "Opaque";

/// Whose root it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// Made here.
    Operator,
    /// From the user's Secret.
    Secret,
}

impl Source {
    fn word(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Secret => "secret",
        }
    }

    fn of(word: Option<&String>) -> Self {
        match word.map(String::as_str) {
            Some("secret") => Self::Secret,
            _ => Self::Operator,
        }
    }
}

/// A root with its key.
#[derive(Clone)]
pub(super) struct Root {
    pub(super) ca: Arc<CertificateAuthority>,
    /// As it was given: written anew, an RSA key of PKCS#1 would not be readable again.
    key: Arc<[u8]>,
    pub(super) source: Source,
}

impl Root {
    /// A root of the operator's own.
    pub(super) fn create(name: &str, now: SystemTime) -> Result<Self, IssueError> {
        let ca = CertificateAuthority::create(name, CA_LIFETIME, now)?;
        let key = ca.key_pem().expose().as_bytes().into();
        Ok(Self { ca: Arc::new(ca), key, source: Source::Operator })
    }

    pub(super) fn read(cert: &[u8], key: &[u8], source: Source) -> Result<Self, IssueError> {
        let ca = CertificateAuthority::from_pem(cert, key)?;
        Ok(Self { ca: Arc::new(ca), key: key.into(), source })
    }

    pub(super) fn info(&self) -> &CertificateInfo {
        self.ca.info()
    }

    pub(super) fn is(&self, other: &Self) -> bool {
        self.info().fingerprint == other.info().fingerprint
    }
}

/// Roots that sign no more and are still trusted.
#[derive(Clone)]
pub(super) struct Retired {
    pub(super) pem: String,
    pub(super) roots: Roots,
}

impl Retired {
    /// The roots of `pem`, if they can be read.
    pub(super) fn read(pem: &[u8]) -> Option<Self> {
        let roots = Roots::from_pem(pem).ok()?;
        let pem = String::from_utf8_lossy(pem).replace('\r', "").trim().to_owned() + "\n";
        Some(Self { pem, roots })
    }

    /// Whether one of them is within its time.
    pub(super) fn live(&self, now: SystemTime) -> bool {
        self.roots.iter().any(|root| root.info().is_valid_at(now))
    }
}

/// A server's CA: the root that signs, perhaps the one that will, perhaps those that did.
#[derive(Clone)]
pub struct CaState {
    pub(super) current: Root,
    pub(super) next: Option<Root>,
    pub(super) previous: Option<Retired>,
    pub(super) rotated: Option<String>,
    pub(super) gone_on: Option<String>,
    pub(super) settled: Option<SystemTime>,
}

impl CaState {
    pub(super) fn new(current: Root, rotated: Option<&str>) -> Self {
        let rotated = rotated.map(str::to_owned);
        Self { current, next: None, previous: None, rotated, gone_on: None, settled: None }
    }

    /// Reads a CA Secret.
    ///
    /// # Errors
    /// A sentence, if the root that signs cannot be read.
    pub fn read(secret: &SecretSeen) -> Result<Self, String> {
        let annotation = |key: &str| secret.annotations.get(key);
        let root = |[cert, key]: [&str; 2], source| {
            let cert = secret.data.get(cert).ok_or(format!("it has no {cert}"))?;
            let key = secret.data.get(key).ok_or(format!("it has no {key}"))?;
            Root::read(cert, key, Source::of(annotation(source))).map_err(|error| error.to_string())
        };
        Ok(Self {
            current: root(CURRENT, SOURCE)?,
            // Nothing is signed by it yet: if it is damaged, another one is made.
            next: root(NEXT, NEXT_SOURCE).ok(),
            previous: secret.data.get(PREVIOUS).and_then(|pem| Retired::read(pem)),
            rotated: annotation(ROTATED).cloned(),
            gone_on: annotation(GONE_ON).cloned(),
            settled: annotation(SETTLED).and_then(|text| parse(text)),
        })
    }

    /// The CA Secret of the server with that UID.
    pub(super) fn secret(&self, namespace: &str, server: &str, uid: &str, of: String) -> Secret {
        let mut annotations = BTreeMap::from([("restpipe.io/of".to_owned(), of)]);
        let mut annotate = |key: &str, value: Option<String>| {
            annotations.extend(value.map(|value| (key.to_owned(), value)));
        };
        annotate(SOURCE, Some(self.current.source.word().to_owned()));
        annotate(NEXT_SOURCE, self.next.as_ref().map(|next| next.source.word().to_owned()));
        annotate(ROTATED, self.rotated.clone());
        annotate(GONE_ON, self.gone_on.clone());
        annotate(SETTLED, self.settled.map(rfc3339));
        let mut data = BTreeMap::new();
        let mut put = |[cert, key]: [&str; 2], root: &Root| {
            data.insert(cert.to_owned(), root.ca.cert_pem().as_bytes().to_vec());
            data.insert(key.to_owned(), root.key.to_vec());
        };
        put(CURRENT, &self.current);
        if let Some(next) = &self.next {
            put(NEXT, next);
        }
        if let Some(previous) = &self.previous {
            data.insert(PREVIOUS.to_owned(), previous.pem.as_bytes().to_vec());
        }
        let mut labels = objects::common_labels();
        labels.insert(restpipe_api::pods::SERVER.to_owned(), server.to_owned());
        let metadata = ObjectMeta {
            name: Some(names::ca_secret(uid)),
            namespace: Some(namespace.to_owned()),
            labels: Some(labels),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        };
        objects::secret(metadata, CA_SECRET_TYPE, data)
    }

    /// The root that signs, for the operator's own leaf too.
    #[must_use]
    pub fn signer(&self) -> &Arc<CertificateAuthority> {
        &self.current.ca
    }

    /// All roots to trust now: every `ca.crt`.
    #[must_use]
    pub fn bundle(&self) -> String {
        let next = self.next.as_ref().map_or("", |next| next.ca.cert_pem());
        let previous = self.previous.as_ref().map_or("", |previous| &previous.pem);
        [self.current.ca.cert_pem(), next, previous].concat()
    }

    /// How far a rotation is.
    #[must_use]
    pub fn phase(&self) -> CaPhase {
        match (&self.next, &self.previous) {
            (Some(_), _) => CaPhase::Spreading,
            (None, Some(_)) => CaPhase::Switching,
            (None, None) => CaPhase::Stable,
        }
    }

    /// Fingerprint of the root that signs.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.current.info().fingerprint
    }

    /// Whether the root that signs has signed this leaf.
    pub(super) fn signed(&self, cert: &[u8], usage: Usage, now: SystemTime) -> bool {
        signed_by(&self.current.ca, cert, usage, now)
    }
}

/// Whether `ca` has signed the leaf in `cert`, and both are within their time.
pub(super) fn signed_by(
    ca: &CertificateAuthority,
    cert: &[u8],
    usage: Usage,
    now: SystemTime,
) -> bool {
    use restpipe_identity::{MAX_CHAIN, Part, certificates};
    let Ok(chain) = certificates(cert, Part::Certificate, MAX_CHAIN) else { return false };
    let Ok(roots) = Roots::from_pem(ca.cert_pem().as_bytes()) else { return false };
    verify(&chain, &roots, usage, now).is_ok()
}

impl fmt::Debug for CaState {
    /// Never shows a key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let next = self.next.as_ref().map(|next| &next.ca);
        let previous = self.previous.as_ref().map(|previous| previous.roots.fingerprints());
        f.debug_struct("CaState")
            .field("current", &self.current.ca)
            .field("next", &next)
            .field("previous", &previous)
            .field("settled", &self.settled.map(rfc3339))
            .finish_non_exhaustive()
    }
}
