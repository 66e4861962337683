//! Identities for clients outside of the cluster.

use std::collections::BTreeMap;

use restpipe_api::Export;
use restpipe_api::condition::{ACCEPTED, CONNECTED, IDENTITY_ISSUED, reason};
use restpipe_api::names::RENEW;

use super::leafs::serial;
use super::world::{DAY, World, info};
use crate::plan::LinkPlan;

#[test]
fn a_link_that_is_exported_before_its_server_knows_it_is_issued_once() {
    let mut world = World::with_clients(&["far"]);
    let before = world.plan_server();
    world.change("far", |link| link.spec.export = Some(Export::default()));
    let issued_for = |plan: LinkPlan| {
        let annotations = plan.secret.expect("it is issued").metadata.annotations;
        annotations.unwrap_or_default().remove("restpipe.io/issued-for")
    };
    let early = issued_for(world.plan_link("far", &before));
    assert_eq!(early, issued_for(world.plan_link("far", &world.plan_server())));
}

#[test]
fn a_client_outside_that_does_not_take_new_files_is_told_how_to_mend_them() {
    let mut world = World::with_clients(&["far"]);
    world.change("far", |link| link.spec.export = Some(Export::default()));
    world.link_pods.clear();
    world.settle();
    world.clients.get_mut("far").unwrap().reload_failed = Some("key_mismatch".into());
    world.settle();
    let (status, word, text) = world.condition("far", IDENTITY_ISSUED);
    assert_eq!((&*status, &*word), ("True", reason::CERT_RELOAD_FAILED));
    let said = "the client far-pod outside of this cluster does not take the files that it has now (key_mismatch)";
    assert!(text.contains(said), "{text}");
    assert!(text.contains("restpipe-operator export link/far -n shop"), "{text}");
    // That it is warned of its end in time does not depend on it.
    let server = world.plan_server();
    assert!(world.plan_link("far", &server).again_in.is_some());
}

#[test]
fn an_exported_leaf_lives_long_and_is_not_renewed_by_time() {
    let mut world = World::with_clients(&["far"]);
    world.change("far", |link| link.spec.export = Some(Export::default()));
    world.settle();
    let first = serial(&world, "far");
    let end = info(&world.secret_of("far").data["tls.crt"]).not_after;
    assert_eq!(end, world.now + 90 * DAY);
    let status = world.link("far").status.clone().unwrap();
    assert_eq!(status.identity.unwrap().renewal_time, None);
    world.clients.clear();
    world.link_pods.clear();
    world.settle();
    let (_, word, text) = world.condition("far", CONNECTED);
    assert_eq!(word, reason::EXPORT_NOT_CONNECTED);
    assert!(text.contains("restpipe-operator export link/far -n shop"), "{text}");

    world.now = end - 15 * DAY;
    world.settle();
    assert_eq!(world.condition("far", IDENTITY_ISSUED).1, reason::ISSUED);
    let server = world.plan_server();
    let wait = world.plan_link("far", &server).again_in.unwrap();
    assert_eq!(wait, DAY, "it wakes up to warn");
    world.now = end - 14 * DAY;
    world.settle();
    let (status, word, text) = world.condition("far", IDENTITY_ISSUED);
    assert_eq!((&*status, &*word), ("True", reason::EXPORT_EXPIRING));
    assert!(
        text.contains("kubectl annotate") && text.contains("restpipe-operator export"),
        "{text}"
    );
    assert_eq!(world.events_of(reason::EXPORT_EXPIRING), 1);
    assert_eq!(serial(&world, "far"), first);

    // Then it is asked for; what is in use outside is still the old one.
    let annotations: BTreeMap<_, _> = [(RENEW.to_owned(), "1".to_owned())].into();
    world.sync_all();
    world.sync("far");
    world.change("far", |link| link.metadata.annotations = Some(annotations));
    world.settle();
    assert_ne!(serial(&world, "far"), first);
    let (_, word, text) = world.condition("far", IDENTITY_ISSUED);
    assert_eq!(word, reason::EXPORT_EXPIRING);
    assert!(text.contains("the Secret holds a newer one"), "{text}");
    world.sync("far");
    world.settle();
    assert_eq!(world.condition("far", IDENTITY_ISSUED).1, reason::ISSUED);

    // What has ended is of no use to anybody.
    let second = serial(&world, "far");
    world.pass(91 * DAY);
    world.settle();
    assert_ne!(serial(&world, "far"), second);
}

#[test]
fn a_link_that_is_no_longer_exported_gets_a_short_life_again() {
    let mut world = World::with_clients(&["far"]);
    world.change("far", |link| link.spec.export = Some(Export::default()));
    world.settle();
    world.change("far", |link| link.spec.export = None);
    world.settle();
    let end = info(&world.secret_of("far").data["tls.crt"]).not_after;
    assert_eq!(end, world.now + DAY);
}

#[test]
fn an_exported_client_is_given_an_address_that_is_reached_from_outside() {
    let mut world = World::with_clients(&["far"]);
    let settings = |world: &World| {
        String::from_utf8(world.secret_of("far").data["node.toml"].clone()).unwrap()
    };
    world.server.spec.hostnames = vec!["pipe.shop.example".into()];
    world.change("far", |link| link.spec.export = Some(Export::default()));
    world.settle();
    assert!(settings(&world).contains("\"pipe.shop.example:7072\""), "{}", settings(&world));
    let serial_before = serial(&world, "far");
    let given = Some("[2001:db8::1]:30072".to_owned());
    world.change("far", |link| link.spec.export.as_mut().unwrap().address = given);
    world.settle();
    assert!(settings(&world).contains("\"[2001:db8::1]:30072\""), "{}", settings(&world));
    assert_eq!(serial(&world, "far"), serial_before);
    world.change("far", |link| {
        link.spec.export.as_mut().unwrap().address = Some("10.0.0.256:1".into())
    });
    world.settle();
    assert_eq!(world.condition("far", ACCEPTED).1, reason::ADDRESS_INVALID);
}
