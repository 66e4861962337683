//! A root that is outlived by the one before it: a user's CA may live longer than its successor,
//! which has to be followed itself before it ends.

use std::time::{Duration, SystemTime};

use restpipe_api::CaPhase;

use super::rotation::{ca, run, user_ca_of};
use super::world::{DAY, HOUR, World, info};
use crate::plan::claims::key_of;
use crate::plan::event::{CA_RECOVERED, ROTATION_DONE};

/// A life of which a twelfth is more than the two days by which a rotation hurries.
const SHORT_LIFE: Duration = Duration::from_secs(30 * 86_400);

/// The CA is the operator's own, and a user's of a shorter life follows it; its end.
fn begin(world: &mut World) -> SystemTime {
    let begun = world.now;
    user_ca_of(world, begun, SHORT_LIFE);
    begun + SHORT_LIFE
}

fn until_it_signs(world: &mut World) {
    while ca(world).phase != CaPhase::Switching {
        run(world, 1);
    }
}

/// Leafs of a day have ended since, and everybody has new ones.
fn at(world: &mut World, now: SystemTime) {
    world.now = now;
    world.settle();
    world.sync_all();
}

fn phase(world: &World) -> (CaPhase, Vec<String>) {
    (ca(world).phase, ca(world).waiting_for)
}

fn note_of_the_end(world: &World) -> String {
    let event = world.events.iter().find(|event| event.reason == ROTATION_DONE);
    event.expect("the old root was dropped").note.clone()
}

/// The user's next CA signs before the one in use ends, and that was no recovery.
fn is_followed(world: &mut World, end: SystemTime, next: &str) {
    assert_eq!(ca(world).fingerprint, next);
    assert_eq!(world.can_connect("a"), Ok(()));
    at(world, end + HOUR);
    assert_eq!(world.events_of(CA_RECOVERED), 0);
    assert_eq!(ca(world).fingerprint, next);
    assert_eq!(world.can_connect("a"), Ok(()));
}

#[test]
fn a_client_outside_keeps_an_old_root_no_longer_than_the_new_one_can_be_followed() {
    let mut world = World::with_clients(&["a", "far"]);
    world.change("far", |link| link.spec.export = Some(Default::default()));
    let key = key_of(world.link("far"));
    world.link_pods.remove(&key);
    world.settle();
    world.sync_all();
    let end = begin(&mut world);
    assert!(info(&world.clients["far"].cert).not_after > end);
    until_it_signs(&mut world);
    run(&mut world, 6);
    world.clients.get_mut("far").unwrap().connected = false;

    at(&mut world, end - 4 * DAY - HOUR);
    let begun = world.now;
    let next = user_ca_of(&mut world, begun, SHORT_LIFE);
    world.settle();
    assert_eq!(phase(&world), (CaPhase::Switching, vec!["far".into()]));
    assert_eq!(world.events_of(ROTATION_DONE), 0);
    world.now = end - 4 * DAY;
    world.reconcile();
    assert_eq!(phase(&world), (CaPhase::Stable, vec![]));
    let note = note_of_the_end(&world);
    assert!(note.contains("has to be followed") && note.ends_with(": far"), "{note}");

    run(&mut world, 6);
    assert_eq!(phase(&world), (CaPhase::Spreading, vec!["far".into()]));
    at(&mut world, end - 2 * DAY);
    is_followed(&mut world, end, &next);
}

#[test]
fn a_secret_that_cannot_be_written_keeps_an_old_root_no_longer_than_the_new_one_can_be_followed() {
    let mut world = World::with_clients(&["a", "full"]);
    let end = begin(&mut world);
    world.settle();
    world.sync_all();
    // It trusts both roots, and stays with a leaf of the old one.
    let key = key_of(world.link("full"));
    world.unwritable.insert(key);
    until_it_signs(&mut world);
    run(&mut world, 6);
    world.clients.get_mut("full").unwrap().connected = false;

    at(&mut world, end - 2 * DAY - HOUR);
    let begun = world.now;
    let next = user_ca_of(&mut world, begun, SHORT_LIFE);
    world.settle();
    assert_eq!(phase(&world), (CaPhase::Switching, vec!["full".into()]));
    world.now = end - 2 * DAY;
    world.reconcile();
    assert_eq!(phase(&world), (CaPhase::Stable, vec![]));
    let note = note_of_the_end(&world);
    assert!(note.contains("has to be followed") && note.ends_with(": full"), "{note}");

    run(&mut world, 6);
    assert_eq!(phase(&world), (CaPhase::Spreading, vec!["full".into()]));
    at(&mut world, end - DAY);
    is_followed(&mut world, end, &next);
}
