//! A link to a server of another cluster or on a plain host, by an identity that came from there.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use kube::ResourceExt;
use restpipe_api::condition::{ACCEPTED, IDENTITY_ISSUED, reason};
use restpipe_api::{ExternalServer, names};
use restpipe_identity::{
    CA_CERT, CertificateInfo, ChainError, Credentials, CredentialsError, TLS_CERT, TLS_KEY, Usage,
    rfc3339,
};

use super::{Found, LinkSeen, connected};
use crate::plan::claims::{Refusal, hostname_of};
use crate::plan::conditions::Finding;
use crate::plan::leaf::{self, LeafPlan, Standing};
use crate::plan::node::{NODE_TOML, client_toml};
use crate::plan::objects::Owner;
use crate::seen::{SecretSeen, Trouble};

/// How long before its end a certificate is warned of, or the last quarter of a shorter life.
const WARNING: Duration = Duration::from_secs(14 * 86_400);

/// An identity that can be used.
struct Imported {
    data: BTreeMap<String, Vec<u8>>,
    info: CertificateInfo,
}

/// What is found of the link.
pub(super) fn find(seen: &LinkSeen<'_>, imported: Option<&SecretSeen>, now: SystemTime) -> Found {
    let link = seen.link;
    let nowhere = ExternalServer::default();
    let external = link.spec.server.external.as_ref().unwrap_or(&nowhere);
    let node_toml = match client_toml(&external.address, &external.server_name) {
        Ok(text) => text,
        Err(trouble) => {
            let refusal = Refusal { reason: trouble.reason, message: trouble.detail };
            return Found::refused(seen, hostname_of(link), external.address.clone(), &refusal);
        }
    };
    let owner = Owner::of(link, restpipe_api::pods::LINK);
    let name = names::link_secret(owner.name());
    let standing = leaf::standing(seen.secret, &owner.uid);
    let in_the_way = leaf::untouchable_secret(standing, &name, &owner.namespace);
    let accepted = match &in_the_way {
        Some(trouble) => Finding::of(ACCEPTED, trouble),
        None => Finding::good(ACCEPTED, reason::ACCEPTED, "the server is outside of this cluster"),
    };
    let taken = in_the_way.map_or_else(|| take(seen, external, imported, now), Err);
    let (leaf, issued, hostname) = match taken {
        Ok(Imported { mut data, info }) => {
            data.insert(NODE_TOML.to_owned(), node_toml.into_bytes());
            let known = seen.secret.filter(|_| standing == Standing::Ours);
            let leaf = LeafPlan {
                secret: leaf::applied(
                    known.unwrap_or(&leaf::EMPTY),
                    &owner,
                    &name,
                    BTreeMap::new(),
                    data,
                ),
                identity: Some(leaf::status_of(&name, &info, None)),
                ..LeafPlan::default()
            };
            let hostname = hostname_in(&info);
            let (issued, again_at) = issued(&name, external, &info, now);
            (LeafPlan { again_at, ..leaf }, issued, hostname)
        }
        // What was good before stays in our Secret: the pods' pipes may still work.
        Err(trouble) => {
            let issued = Finding::of(IDENTITY_ISSUED, &trouble);
            let leaf = LeafPlan { problem: Some(trouble), ..LeafPlan::default() };
            (leaf, issued, hostname_of(link))
        }
    };
    Found {
        hostname: Some(hostname),
        server: Some(external.address.clone()),
        accepted,
        issued,
        leaf,
        injected: connected::injected(seen),
        connected: connected::by_own_word(seen),
    }
}

/// Checks what was imported.
fn take(
    seen: &LinkSeen<'_>,
    external: &ExternalServer,
    imported: Option<&SecretSeen>,
    now: SystemTime,
) -> Result<Imported, Trouble> {
    let shown = format!("{}/{}", seen.link.namespace().unwrap_or_default(), external.secret_name);
    let invalid = |why: &str| Trouble {
        reason: reason::SECRET_INVALID,
        detail: format!("the Secret {shown} holds no identity that can be used: {why}"),
    };
    let imported = imported.ok_or_else(|| Trouble {
        reason: reason::SECRET_NOT_FOUND,
        detail: format!(
            "spec.server.external.secretName names the Secret {shown}, which is not there: make it where the server is (restpipe-operator export link/NAME --manifest FILE), and apply it here"
        ),
    })?;
    let part = |key: &str| {
        let bytes = imported.data.get(key).filter(|bytes| !bytes.is_empty());
        bytes.cloned().ok_or_else(|| invalid(&format!("it has no {key}")))
    };
    let (cert, key, ca) = (part(TLS_CERT)?, part(TLS_KEY)?, part(CA_CERT)?);
    let credentials =
        Credentials::from_pem(&cert, &key, &ca, Usage::Client, now).map_err(|error| {
            match &error {
                CredentialsError::Chain(ChainError::Expired { of, not_after, .. }) => Trouble {
                    reason: reason::CERTIFICATE_EXPIRED,
                    detail: format!(
                        "{of} in the Secret {shown} ended at {}: have another one issued where the server is, and apply it here",
                        rfc3339(*not_after)
                    ),
                },
                CredentialsError::Chain(ChainError::NotYetValid { of, not_before, .. }) => Trouble {
                    reason: reason::CLOCK_SKEW,
                    detail: format!(
                        "{of} in the Secret {shown} begins at {}: the clock of this cluster or of the other one is wrong",
                        rfc3339(*not_before)
                    ),
                },
                other => invalid(&other.to_string()),
            }
        })?;
    if let Some(wanted) = &seen.link.spec.hostname {
        let name = credentials.name().as_str();
        let below = name.strip_prefix(wanted.as_str()).is_some_and(|rest| rest.starts_with('.'));
        if name != wanted && !below {
            return Err(Trouble {
                reason: reason::NAME_MISMATCH,
                detail: format!(
                    "the certificate in the Secret {shown} is for {name}, and spec.hostname says {wanted}: import the identity of that client, or make the link anew without spec.hostname"
                ),
            });
        }
    }
    let info = credentials.leaf().clone();
    let data = [(TLS_CERT, cert), (TLS_KEY, key), (CA_CERT, ca)];
    let data = data.into_iter().map(|(key, bytes)| (key.to_owned(), bytes)).collect();
    Ok(Imported { data, info })
}

/// What the server calls the client: what stands before the suffix that operators give, else all.
fn hostname_in(info: &CertificateInfo) -> String {
    let name = info.names.first().cloned().unwrap_or_default();
    let labels: Vec<&str> = name.split('.').collect();
    match labels.as_slice() {
        [hostname @ .., "clients", _, _, "restpipe"] if !hostname.is_empty() => hostname.join("."),
        _ => name,
    }
}

fn issued(
    secret: &str,
    external: &ExternalServer,
    info: &CertificateInfo,
    now: SystemTime,
) -> (Finding, Option<SystemTime>) {
    let name = info.names.first().cloned().unwrap_or_default();
    let end = rfc3339(info.not_after);
    let life = info.not_after.duration_since(info.not_before).unwrap_or_default();
    let warn_at = info.not_after - WARNING.min(life / 4);
    if now < warn_at {
        let text =
            format!("the Secret {secret} holds the imported certificate for {name} until {end}");
        return (Finding::good(IDENTITY_ISSUED, reason::ISSUED, text), Some(warn_at));
    }
    let text = format!(
        "the imported certificate of {name} ends at {end}: have another one issued where the server is, and write it into the Secret {}",
        external.secret_name
    );
    let finding = Finding::good(IDENTITY_ISSUED, reason::EXPORT_EXPIRING, text);
    (finding, Some(info.not_after))
}
