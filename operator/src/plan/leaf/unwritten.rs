//! What is told where a leaf Secret was not written: nothing of what should have been in it.

use std::time::SystemTime;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;
use restpipe_api::condition::{ACCEPTED, IDENTITY_ISSUED, reason};
use restpipe_api::{IdentityStatus, names};
use restpipe_identity::TLS_CERT;

use super::{Standing, renewal_at, shown, standing, status_of};
use crate::plan::conditions::{Conditions, Failure};
use crate::plan::event::{self, Event};
use crate::plan::link::{LinkPlan, LinkSeen};
use crate::seen::SecretSeen;

/// Reasons of Events that are about a certificate in a Secret.
const OF_A_CERTIFICATE: [&str; 4] =
    [event::ISSUED, event::RENEWED, reason::EXPORT_EXPIRING, reason::ROTATION_WAITS];

/// What a status says of the certificate that is in the Secret now.
pub(in crate::plan) fn identity_there(
    seen: Option<&SecretSeen>,
    uid: &str,
    name: &str,
    exported: bool,
) -> Option<IdentityStatus> {
    let ours = seen.filter(|_| standing(seen, uid) == Standing::Ours)?;
    let info = shown(ours.data.get(TLS_CERT)?)?;
    let renewal = (!exported).then(|| renewal_at(&info));
    Some(status_of(name, &info, renewal))
}

/// The Events of a plan without those of a Secret that was not written, and with those of the
/// failures, as far as the conditions that are told now speak of them.
pub(in crate::plan) fn events_without(
    events: Vec<Event>,
    before: &[Condition],
    told: &[Condition],
    failed: &[(&'static str, &Failure)],
) -> Vec<Event> {
    let failure_of = |type_: &'static str| {
        failed.iter().find(|(of, _)| *of == type_).map(|(_, failure)| *failure)
    };
    let of_a_secret = failure_of(IDENTITY_ISSUED).is_some();
    let stays = |event: &Event| !(of_a_secret && OF_A_CERTIFICATE.contains(&event.reason));
    let findings = [ACCEPTED, IDENTITY_ISSUED].into_iter().filter_map(|type_| {
        let finding = failure_of(type_)?.finding(type_)?;
        let is_told = |one: &Condition| one.type_ == type_ && one.reason == finding.reason;
        told.iter().any(is_told).then_some(finding)
    });
    let findings: Vec<_> = findings.collect();
    let news = event::news(before, &findings.iter().collect::<Vec<_>>());
    events.into_iter().filter(stays).chain(news).collect()
}

/// The plan of a link as it is told where its Secret was not written.
#[must_use]
pub fn link_without_secret(
    plan: LinkPlan,
    seen: &LinkSeen<'_>,
    failure: &Failure,
    now: SystemTime,
) -> LinkPlan {
    let link = seen.link;
    let LinkPlan { mut status, events, again_in, .. } = plan;
    let before = link.status.as_ref().map(|status| &*status.conditions).unwrap_or_default();
    let failed = [(IDENTITY_ISSUED, failure)];
    let (uid, name) = (link.uid().unwrap_or_default(), names::link_secret(&link.name_any()));
    let exported = link.spec.export.is_some() || link.spec.server.external.is_some();
    status.identity = identity_there(seen.secret, &uid, &name, exported);
    let mut conditions = Conditions::new(before, link.metadata.generation, now);
    conditions.take(&status.conditions, &failed);
    status.conditions = conditions.finish();
    let events = events_without(events, before, &status.conditions, &failed);
    LinkPlan { secret: None, status, events, again_in }
}
