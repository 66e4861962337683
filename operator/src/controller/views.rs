//! Comparing what a plan gave with what was there before.

use restpipe_api::CaPhase;
use serde::Serialize;

use super::context::ByHostname;
use super::scope::Scope;
use super::world::Namespaces;
use crate::plan::{CaState, ServerView};
use crate::seen::{Key, Trouble};

/// Labels of namespaces, where the operator may read them.
pub(super) fn namespaces<'a>(scope: &Scope, all: &'a Namespaces) -> Option<&'a Namespaces> {
    (*scope == Scope::Cluster).then_some(all)
}

/// Whether all that concerns every link of a server is the same.
pub(super) fn same_for_all(before: &ServerView, now: &ServerView) -> bool {
    before.uid == now.uid
        && before.port == now.port
        && before.duration == now.duration
        && before.clients_may_switch == now.clients_may_switch
        && before.endpoints == now.endpoints
        && before.not_ready == now.not_ready
        && before.has_ready_pod == now.has_ready_pod
        && before.answers == now.answers
        && authority(before) == authority(now)
}

fn authority(view: &ServerView) -> Result<(&str, CaPhase, String), &Trouble> {
    let state: &CaState = view.authority.as_deref()?;
    Ok((state.fingerprint(), state.phase(), state.bundle()))
}

/// Links whose verdict is another.
pub(super) fn judged_differently<'a>(
    before: &'a ServerView,
    now: &'a ServerView,
) -> impl Iterator<Item = &'a Key> {
    let changed = now
        .claims
        .links
        .iter()
        .filter(|(link, verdict)| before.claims.links.get(*link) != Some(verdict))
        .map(|(link, _)| link);
    let gone = before.claims.links.keys().filter(|link| !now.claims.links.contains_key(*link));
    changed.chain(gone)
}

/// Links whose pipes are others.
pub(super) fn piped_differently<'a>(
    view: &'a ServerView,
    before: Option<&'a ByHostname>,
    now: Option<&'a ByHostname>,
) -> impl Iterator<Item = &'a Key> {
    let of = |pipes: Option<&'a ByHostname>, hostname: &str| {
        pipes.map(|pipes| pipes.get(hostname).map(Vec::as_slice).unwrap_or_default())
    };
    view.claims
        .links
        .iter()
        .filter(move |(_, verdict)| of(before, &verdict.hostname) != of(now, &verdict.hostname))
        .map(|(link, _)| link)
}

/// Whether two statuses are the same when they are written: times have whole seconds there.
pub(super) fn same_status<S: Serialize + PartialEq>(
    before: Option<&S>,
    now: &S,
) -> Result<bool, serde_json::Error> {
    match before {
        Some(before) => Ok(before == now || written(before)? == written(now)?),
        None => Ok(false),
    }
}

fn written<S: Serialize>(status: &S) -> Result<serde_json::Value, serde_json::Error> {
    serde_json::to_value(status)
}
