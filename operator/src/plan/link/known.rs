//! A link to a server of this cluster.

use std::time::{Duration, SystemTime};

use kube::ResourceExt;
use restpipe_api::condition::{ACCEPTED, IDENTITY_ISSUED, reason};
use restpipe_api::names;
use restpipe_config::ServerAddress;
use restpipe_identity::{LONG_LEAF_LIFETIME, TLS_CERT, Usage, rfc3339};

use super::{Found, LinkSeen, connected};
use crate::plan::ServerView;
use crate::plan::claims::{Refusal, Verdict, key_of};
use crate::plan::conditions::Finding;
use crate::plan::leaf::{self, LeafPlan, LeafWant};
use crate::plan::node::client_toml;
use crate::plan::objects::Owner;
use crate::plan::server::{conditions, duration_of};
use crate::plan::service::address_of;
use crate::seen::{PipeSeen, Trouble};

/// How long before its end an exported certificate is warned of: somebody has to carry the next
/// one there. Of short lives it is the last quarter.
const EXPORT_WARNING: Duration = Duration::from_secs(14 * 86_400);

/// What is found of the link; nothing if the server's plan does not know it yet.
pub(super) fn find(seen: &LinkSeen<'_>, view: &ServerView, now: SystemTime) -> Option<Found> {
    let link = seen.link;
    let verdict = view.claims.links.get(&key_of(link))?;
    // One of the same name that was deleted since.
    if Some(&verdict.uid) != link.uid().as_ref() {
        return None;
    }
    let refused = |refusal: &Refusal| {
        Found::refused(seen, verdict.hostname.clone(), view.key.to_string(), refusal)
    };
    if let Some(refusal) = &verdict.refused {
        return Some(refused(refusal));
    }
    let node_toml = match node_toml(seen, view) {
        Ok(text) => text,
        Err(Trouble { reason, detail }) => {
            return Some(refused(&Refusal { reason, message: detail }));
        }
    };
    let owner = Owner::of(link, restpipe_api::pods::LINK);
    // By the link itself, as the lifetime: the server may not have seen yet what has just changed.
    let exported = link.spec.export.is_some();
    let duration = match &link.spec.export {
        Some(export) => duration_of(export.duration.as_deref(), LONG_LEAF_LIFETIME),
        None => view.duration,
    };
    let want = LeafWant {
        owner: &owner,
        secret: names::link_secret(owner.name()),
        name: &names::client_identity(&verdict.hostname, &view.key.name, &view.key.namespace),
        usage: Usage::Client,
        lifetime: duration,
        exported,
        renew: link.annotations().get(names::RENEW).map(String::as_str),
        node_toml,
        ca: view.authority.as_deref(),
        may_switch: view.clients_may_switch,
    };
    let mut leaf = leaf::plan(seen.secret, &want, now);
    let mut issued = issued(seen, view, verdict, &mut leaf, now);
    if issued.holds()
        && let Some(failed) = reload_failed(seen, verdict)
    {
        let message = format!("{}; {failed}", issued.message);
        issued = Finding::good(IDENTITY_ISSUED, reason::CERT_RELOAD_FAILED, message);
    }
    Some(Found {
        hostname: Some(verdict.hostname.clone()),
        server: Some(view.key.to_string()),
        accepted: accepted(&leaf, view),
        issued,
        injected: connected::injected(seen),
        connected: connected::through(seen, view, &verdict.hostname, exported),
        leaf,
    })
}

fn node_toml(seen: &LinkSeen<'_>, view: &ServerView) -> Result<String, Trouble> {
    let server = &view.key;
    let inside =
        || format!("{}:{}", names::service_host(&server.name, &server.namespace), view.port);
    let address = match &seen.link.spec.export {
        Some(export) => {
            // What a load balancer says of itself is not ours to trust in.
            let dialled = |address: &String| address.parse::<ServerAddress>().is_ok();
            let best = || view.endpoints.iter().map(address_of).find(dialled);
            export.address.clone().or_else(best).unwrap_or_else(inside)
        }
        None => inside(),
    };
    client_toml(&address, &names::server_identity(&server.name, &server.namespace))
}

fn accepted(leaf: &LeafPlan, view: &ServerView) -> Finding {
    let in_the_way = [reason::SECRET_CONFLICT, reason::SECRET_INVALID];
    match &leaf.problem {
        // Not the server's own trouble with its CA, which has these reasons as well.
        Some(trouble) if in_the_way.contains(&trouble.reason) && view.authority.is_ok() => {
            Finding::of(ACCEPTED, trouble)
        }
        _ => Finding::good(
            ACCEPTED,
            reason::ACCEPTED,
            format!("the server {} takes this link", view.key),
        ),
    }
}

fn issued(
    seen: &LinkSeen<'_>,
    view: &ServerView,
    verdict: &Verdict,
    leaf: &mut LeafPlan,
    now: SystemTime,
) -> Finding {
    if let Some(trouble) = &leaf.problem {
        let text = match view.authority {
            Ok(_) => trouble.detail.clone(),
            Err(_) => format!("the server {} cannot issue: {}", view.key, trouble.detail),
        };
        // The cause is the server's; its own status has the reason.
        let reason = if view.authority.is_ok() { trouble.reason } else { reason::CA_UNAVAILABLE };
        return Finding::bad(IDENTITY_ISSUED, reason, text);
    }
    let Some(info) = leaf.info.clone() else {
        return Finding::bad(
            IDENTITY_ISSUED,
            reason::CA_UNAVAILABLE,
            "there is no certificate yet",
        );
    };
    let (secret, until) = (names::link_secret(&seen.link.name_any()), rfc3339(info.not_after));
    let name = info.names.first().cloned().unwrap_or_default();
    let mut text = format!("the Secret {secret} holds a certificate for {name} until {until}");
    if seen.link.spec.export.is_none() {
        return Finding::good(IDENTITY_ISSUED, reason::ISSUED, text);
    }
    // What counts is the copy that is in use, if it can be seen. Pods here get theirs by themselves.
    let outside = |pipe: &&PipeSeen| {
        pipe.hostname == verdict.hostname && !seen.pods.iter().any(|pod| pod.name == pipe.instance)
    };
    let pipes = seen.pipes.unwrap_or_default().iter().filter(outside);
    let in_use = pipes.min_by_key(|pipe| pipe.not_after);
    let end = in_use.map_or(info.not_after, |pipe| pipe.not_after);
    let life = info.not_after.duration_since(info.not_before).unwrap_or_default();
    let warn_at = end - EXPORT_WARNING.min(life / 4);
    leaf.again_at = Some(if now < warn_at { warn_at } else { info.not_after });
    let cure = cure(seen, in_use, &info.serial);
    if now >= warn_at {
        let text = format!("the exported certificate of {name} ends at {}: {cure}", rfc3339(end));
        return Finding::good(IDENTITY_ISSUED, reason::EXPORT_EXPIRING, text);
    }
    if is_of_former_ca(seen, view, leaf, now) {
        text.push_str("; it is of the server's former CA, which is trusted as long: ");
        text.push_str(&cure);
    }
    Finding::good(IDENTITY_ISSUED, reason::ISSUED, text)
}

/// Which node of the link goes on with an older certificate because the newest files are bad, and
/// what to do.
fn reload_failed(seen: &LinkSeen<'_>, verdict: &Verdict) -> Option<String> {
    let pipes = seen.pipes.unwrap_or_default().iter();
    let own = pipes.filter(|pipe| pipe.hostname == verdict.hostname);
    let failed = own.filter_map(|pipe| Some((&pipe.instance, pipe.reload_failed.as_ref()?)));
    let (instance, word) = failed.min()?;
    if seen.pods.iter().any(|pod| pod.name == *instance) {
        return Some(conditions::reload_failed(seen.link, instance, word));
    }
    let (namespace, name) = (seen.link.namespace().unwrap_or_default(), seen.link.name_any());
    Some(format!(
        "the client {instance} outside of this cluster does not take the files that it has now ({word}) and goes on with older ones: its log says why, bring them there once more (restpipe-operator export link/{name} -n {namespace})"
    ))
}

fn cure(seen: &LinkSeen<'_>, in_use: Option<&PipeSeen>, serial: &str) -> String {
    let (namespace, name) = (seen.link.namespace().unwrap_or_default(), seen.link.name_any());
    let export = format!("restpipe-operator export link/{name} -n {namespace}");
    if in_use.is_some_and(|pipe| pipe.serial != serial) {
        return format!("the Secret holds a newer one, bring it there ({export})");
    }
    format!(
        "have another one issued (kubectl annotate restpipelink -n {namespace} {name} --overwrite {}=$(date +%s)) and bring it there ({export})",
        names::RENEW
    )
}

fn is_of_former_ca(
    seen: &LinkSeen<'_>,
    view: &ServerView,
    leaf: &LeafPlan,
    now: SystemTime,
) -> bool {
    let Ok(ca) = &view.authority else { return false };
    let issued_now = leaf.event.is_some();
    let cert = seen.secret.and_then(|secret| secret.data.get(TLS_CERT));
    !issued_now && cert.is_some_and(|cert| !ca.signed(cert, Usage::Client, now))
}
