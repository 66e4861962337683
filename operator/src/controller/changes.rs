//! What follows from what the watches show: who is to be reconciled.

use std::sync::Arc;

use kube::ResourceExt;
use restpipe_api::{RestPipeLink, RestPipeServer, names};

use super::context::Context;
use super::mirror::Change;
use super::world::{Target, beside};
use super::{link, server};
use crate::plan::claims;

/// Asks for a reconcile of what is there.
pub(super) fn ask(context: &Context, target: &Target) {
    if !context.world.has(target) {
        return;
    }
    match target {
        Target::Server(key) => context.servers.ask(key),
        Target::Link(key) => context.links.ask(key),
    }
}

/// Whether the two are the same but for their status: the rest of the metadata counts.
fn same_but_status<K: ResourceExt>(old: &K, new: &K) -> bool {
    old.uid() == new.uid()
        && old.meta().generation == new.meta().generation
        && old.meta().deletion_timestamp == new.meta().deletion_timestamp
        && old.labels() == new.labels()
        && old.annotations() == new.annotations()
}

fn replaced<K: ResourceExt>(old: Option<&Arc<K>>, new: Option<&Arc<K>>) -> bool {
    old.is_some_and(|old| new.is_none_or(|new| new.uid() != old.uid()))
}

/// What follows from a change.
pub(super) fn server_changed(context: &Context, change: Change<Arc<RestPipeServer>>) {
    let Change { key, old, new } = change;
    context.world.set_server(&key, new.clone());
    if replaced(old.as_ref(), new.as_ref()) {
        server::gone(context, &key);
    }
    let Some(new) = new else { return };
    let uid = new.uid().unwrap_or_default();
    let by_us = context.server_statuses.is_ours(&key, &uid, new.status.as_ref());
    if !(by_us && old.is_some_and(|old| same_but_status(&*old, &*new))) {
        context.servers.ask(&key);
    }
}

/// What follows from a change.
pub(super) fn link_changed(context: &Context, change: Change<Arc<RestPipeLink>>) {
    let Change { key, old, new } = change;
    context.world.set_link(&key, new.clone());
    if replaced(old.as_ref(), new.as_ref()) {
        link::gone(context, &key);
    }
    let same = match (&old, &new) {
        (Some(old), Some(new)) => same_but_status(&**old, &**new),
        _ => false,
    };
    if let Some(new) = &new {
        let uid = new.uid().unwrap_or_default();
        let by_us = context.link_statuses.is_ours(&key, &uid, new.status.as_ref());
        if !(by_us && same) {
            context.links.ask(&key);
        }
    }
    if !same {
        for link in [old, new].iter().flatten() {
            if let Some(server) = claims::server_of(link) {
                ask(context, &Target::Server(server));
            }
        }
    }
}

/// What follows from a change.
pub(super) fn secret_changed(context: &Context, change: &Change<String>) {
    let Change { key, new, .. } = change;
    if new.as_ref().is_some_and(|version| context.secret_versions.is_ours(key, version)) {
        return;
    }
    for user in context.world.users_of_secret(key) {
        ask(context, &user);
    }
    // By name and not by owner: one that is not ours and goes away is of interest as well.
    if let Some(link) = stem(&key.name, names::link_secret) {
        ask(context, &Target::Link(beside(key, link)));
    }
    if let Some(server) = stem(&key.name, names::server_secret) {
        ask(context, &Target::Server(beside(key, server)));
    }
    if key.namespace != context.namespace {
        return;
    }
    match key.name.strip_prefix(&names::ca_secret("")) {
        Some(uid) => {
            if let Some(server) = context.world.server_of_uid(uid) {
                ask(context, &Target::Server(server));
            }
        }
        None => context.own_secrets.notify_one(),
    }
}

/// Whose Secret it is, by its name.
fn stem(secret: &str, name: fn(&str) -> String) -> Option<&str> {
    secret.strip_suffix(&name(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_whose_name_it_begins_with() {
        assert_eq!(stem("files-restpipe-link", names::link_secret), Some("files"));
        assert_eq!(stem("files-restpipe-link", names::server_secret), None);
        assert_eq!(stem("hub-restpipe-server", names::server_secret), Some("hub"));
        assert_eq!("restpipe-ca-1-2".strip_prefix(&names::ca_secret("")), Some("1-2"));
    }

    #[test]
    fn a_status_alone_is_no_change() {
        let link = |generation: i64, version: &str| {
            let mut link = RestPipeLink::new("x", restpipe_api::RestPipeLinkSpec::default());
            link.metadata.generation = Some(generation);
            link.metadata.resource_version = Some(version.to_owned());
            link
        };
        assert!(same_but_status(&link(1, "5"), &link(1, "6")));
        assert!(!same_but_status(&link(1, "5"), &link(2, "6")));
        let mut annotated = link(1, "6");
        annotated.annotations_mut().insert(names::RENEW.to_owned(), "1".to_owned());
        assert!(!same_but_status(&link(1, "5"), &annotated));
    }
}
