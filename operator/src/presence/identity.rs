//! The operator's own certificate for one server: made in memory, by that server's CA.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use restpipe_api::condition::reason;
use restpipe_api::names::OPERATOR_NAME;
use restpipe_identity::{CertificateAuthority, Credentials, LeafRequest, PeerName, Usage};
use tokio::time::Instant;

use super::words::{MAX_DETAIL, plain};
use crate::seen::{Names, Trouble};

/// How long the operator's leaf lives: it is made anew at no cost, so a copy that leaks is soon
/// worth nothing.
const LEAF_LIFETIME: Duration = Duration::from_secs(3600);

/// A leaf is used for so much of its life. Pods ask for another pipe only near its end.
const USED_SHARE: f64 = 2.0 / 3.0;

/// A CA that ends in a moment makes leafs that end with it; they are not made in a loop.
const SHORTEST_USE: Duration = Duration::from_secs(1);

/// What a server's pods are asked with, and told.
pub(super) struct Config {
    pub(super) server_name: String,
    pub(super) authority: Arc<CertificateAuthority>,
    pub(super) bundle: String,
    pub(super) names: Names,
}

impl Config {
    /// Whether pipes that were made with one of them are good for the other.
    pub(super) fn same_identity(&self, other: &Self) -> bool {
        self.server_name == other.server_name
            && self.bundle == other.bundle
            && self.authority.info().fingerprint == other.authority.info().fingerprint
    }
}

/// An identity to dial with.
#[derive(Clone)]
pub(super) struct Identity {
    pub(super) credentials: Arc<Credentials>,
    pub(super) server_name: PeerName,
    /// From then on another one is to be used.
    pub(super) renew_at: Instant,
}

/// Makes identities for one server's pods, which share them.
#[derive(Default)]
pub(super) struct Issuer(Mutex<Option<(Arc<Config>, Identity)>>);

impl Issuer {
    /// The identity for `config`, made if need be.
    pub(super) fn identity(&self, config: &Arc<Config>, now: Instant) -> Result<Identity, Trouble> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, identity)) = &*kept
            && of.same_identity(config)
            && now < identity.renew_at
        {
            return Ok(identity.clone());
        }
        let identity = make(config, now).map_err(|cause| {
            let text =
                format!("the operator has no certificate to ask the server's pods with: {cause}");
            Trouble { reason: reason::CA_UNAVAILABLE, detail: plain(&text, MAX_DETAIL) }
        })?;
        *kept = Some((config.clone(), identity.clone()));
        Ok(identity)
    }
}

fn make(config: &Config, at: Instant) -> Result<Identity, String> {
    let now = SystemTime::now();
    let server_name = PeerName::parse(&config.server_name).map_err(|error| error.to_string())?;
    let name = PeerName::parse(OPERATOR_NAME).map_err(|error| error.to_string())?;
    let request = LeafRequest { name, usage: Usage::Client, lifetime: LEAF_LIFETIME, now };
    let leaf = config.authority.issue(request).map_err(|error| error.to_string())?;
    let credentials = Credentials::from_pem(
        leaf.cert_pem.as_bytes(),
        leaf.key_pem.expose().as_bytes(),
        config.bundle.as_bytes(),
        Usage::Client,
        now,
    );
    let credentials = Arc::new(credentials.map_err(|error| error.to_string())?);
    let life = leaf.not_after.duration_since(now).unwrap_or_default();
    let renew_at = at + life.mul_f64(USED_SHARE).max(SHORTEST_USE);
    Ok(Identity { credentials, server_name, renew_at })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(ca: &Arc<CertificateAuthority>, bundle: &CertificateAuthority) -> Arc<Config> {
        Arc::new(Config {
            server_name: "hub.shop.servers.restpipe".into(),
            authority: ca.clone(),
            bundle: bundle.cert_pem().to_owned(),
            names: Names::default(),
        })
    }

    fn ca() -> Arc<CertificateAuthority> {
        let (lifetime, now) = (Duration::from_secs(86_400), SystemTime::now());
        Arc::new(CertificateAuthority::create("test", lifetime, now).expect("a CA"))
    }

    #[test]
    fn the_operators_leaf_is_shared_and_made_anew_before_it_ends() {
        let (issuer, ca) = (Issuer::default(), ca());
        let config = config(&ca, &ca);
        let now = Instant::now();
        let after = |seconds| {
            let identity = issuer.identity(&config, now + Duration::from_secs(seconds));
            identity.expect("an identity").credentials
        };
        let first = after(0);
        assert_eq!(first.name().as_str(), "operator.restpipe");
        assert_eq!(first.leaf().usages, ["clientAuth"]);
        let left = first.leaf().not_after.duration_since(SystemTime::now()).expect("it lives");
        assert!(left <= LEAF_LIFETIME, "{left:?}");
        assert!(Arc::ptr_eq(&first, &after(2390)));
        assert_ne!(first.leaf().serial, after(2410).leaf().serial);
    }

    #[test]
    fn new_names_need_no_new_leaf_and_a_new_ca_does() {
        let (issuer, one, other) = (Issuer::default(), ca(), ca());
        let leaf = |ca| {
            let identity = issuer.identity(&config(ca, ca), Instant::now());
            identity.expect("an identity").credentials
        };
        let first = leaf(&one);
        assert!(Arc::ptr_eq(&first, &leaf(&one)));
        assert!(!Arc::ptr_eq(&first, &leaf(&other)));
    }

    #[test]
    fn a_ca_that_is_not_in_the_bundle_is_named_as_the_cause() {
        let made = Issuer::default().identity(&config(&ca(), &ca()), Instant::now());
        let trouble = made.err().expect("trouble");
        assert_eq!(trouble.reason, "CaUnavailable");
        assert!(trouble.detail.contains("not in the CA bundle"), "{}", trouble.detail);
    }
}
