//! A CA is replaced while everybody stays connected.

use std::time::{Duration, SystemTime};

use restpipe_api::condition::{ACCEPTED, reason};
use restpipe_api::names::{ROTATE_CA, ROTATE_CA_GO_ON};
use restpipe_api::{CaPhase, CaStatus};
use restpipe_identity::{CA_LIFETIME, CertificateAuthority, Usage};

use super::world::{DAY, HOUR, MINUTE, Node, World, foreign, info, link, pod, trouble};
use crate::plan::claims::key_of;
use crate::plan::event::{
    CA_RECOVERED, ROTATION_DONE, ROTATION_NOT_DONE, ROTATION_STARTED, ROTATION_SWITCHED,
};
use crate::seen::{PipeSeen, ServerPodSeen};

pub(super) fn ca(world: &World) -> CaStatus {
    world.server.status.as_ref().unwrap().ca.clone().unwrap()
}

fn ask(world: &mut World, value: &str) {
    annotate(world, ROTATE_CA, value);
}

fn annotate(world: &mut World, name: &str, value: &str) {
    let annotations = world.server.metadata.annotations.get_or_insert_default();
    annotations.insert(name.into(), value.into());
}

/// Rounds of operator and kubelet, until the CA is stable or nothing moves for that long.
pub(super) fn run(world: &mut World, rounds: usize) {
    for _ in 0..rounds {
        world.settle();
        every_pipe_could_be_made_anew(world);
        world.sync_all();
        every_pipe_could_be_made_anew(world);
        world.pass(MINUTE);
    }
    world.settle();
}

fn every_pipe_could_be_made_anew(world: &World) {
    for (hostname, node) in &world.clients {
        if node.connected {
            world.can_connect(hostname).unwrap_or_else(|why| panic!("{hostname}: {why}"));
        }
    }
}

#[test]
fn a_rotation_that_is_asked_for_goes_through_its_phases_and_no_pipe_is_lost() {
    let mut world = World::with_clients(&["a", "b", "c"]);
    let old = ca(&world);
    assert_eq!(old.phase, CaPhase::Stable);
    ask(&mut world, "1");
    world.settle();
    assert_eq!(ca(&world).phase, CaPhase::Spreading);
    assert_eq!(ca(&world).fingerprint, old.fingerprint, "nothing is signed by the new one");
    assert_eq!(ca(&world).waiting_for, ["a", "b", "c", "pod/hub-0"]);

    // All nodes have read it at once, and still it is spread for two minutes.
    world.sync_all();
    world.settle();
    assert_eq!((ca(&world).phase, ca(&world).waiting_for), (CaPhase::Spreading, vec![]));
    world.pass(MINUTE);
    world.settle();
    assert_eq!(ca(&world).phase, CaPhase::Spreading);
    world.pass(MINUTE);
    world.reconcile();
    assert_eq!(ca(&world).phase, CaPhase::Switching);
    assert_ne!(ca(&world).fingerprint, old.fingerprint);

    run(&mut world, 8);
    assert_eq!((ca(&world).phase, ca(&world).waiting_for), (CaPhase::Stable, vec![]));
    assert_eq!(world.events_of(ROTATION_STARTED), 1);
    assert_eq!(world.events_of(ROTATION_DONE), 1);
    for node in world.clients.values().chain(&world.server_node) {
        assert_eq!(String::from_utf8_lossy(&node.bundle).matches("BEGIN").count(), 1);
    }
    // The same value is no new wish.
    run(&mut world, 3);
    assert_eq!(world.events_of(ROTATION_STARTED), 1);
}

#[test]
fn clients_get_leafs_of_the_new_root_only_when_the_server_shows_one() {
    let mut world = World::with_clients(&["a"]);
    ask(&mut world, "1");
    run(&mut world, 2);
    while ca(&world).phase == CaPhase::Spreading {
        world.sync_all();
        world.pass(MINUTE);
        world.reconcile();
    }
    let before = info(&world.secret_of("a").data["tls.crt"]).serial;
    world.settle();
    // The Secret of the server is new; its pod has not read it.
    assert_eq!(info(&world.secret_of("a").data["tls.crt"]).serial, before);
    world.sync_server();
    world.settle();
    assert_ne!(info(&world.secret_of("a").data["tls.crt"]).serial, before);
}

#[test]
fn a_client_that_does_not_read_its_secret_is_waited_for_and_one_that_is_away_is_not() {
    let mut world = World::with_clients(&["stuck", "away"]);
    world.clients.get_mut("away").unwrap().connected = false;
    ask(&mut world, "1");
    world.settle();
    for _ in 0..20 {
        world.sync_server();
        world.pass(MINUTE);
        world.settle();
    }
    assert_eq!(ca(&world).phase, CaPhase::Spreading);
    assert_eq!(ca(&world).waiting_for, ["stuck"]);
    world.sync("stuck");
    world.settle();
    assert_eq!(ca(&world).phase, CaPhase::Switching);
    // It slept through all of it, and is as good as new with what kubelet brings it.
    for _ in 0..6 {
        world.sync_server();
        world.sync("stuck");
        world.pass(MINUTE);
        world.settle();
    }
    assert_eq!(ca(&world).phase, CaPhase::Stable);
    assert!(world.can_connect("away").is_err());
    world.sync("away");
    assert_eq!(world.can_connect("away"), Ok(()));
}

#[test]
fn a_server_pod_that_tells_nothing_is_waited_for_and_one_that_does_not_run_is_not() {
    let mut world = World::with_clients(&["a"]);
    world.pods.push(pod("hub-1"));
    ask(&mut world, "1");
    run(&mut world, 6);
    assert_eq!(ca(&world).waiting_for, ["pod/hub-1"]);
    let mut told = world.told();
    let silent = trouble(reason::SERVER_SILENT);
    told.push(ServerPodSeen { pod: "hub-1".into(), state: Err(silent) });
    world.told = Some(told);
    world.settle();
    assert_eq!(ca(&world).waiting_for, ["pod/hub-1"]);
    world.told = None;
    // Its app crashes, and its sidecar may hold pipes all the same.
    world.pods[1].waiting = Some("CrashLoopBackOff".into());
    world.settle();
    assert_eq!(
        (ca(&world).phase, ca(&world).waiting_for),
        (CaPhase::Spreading, vec!["pod/hub-1".into()])
    );
    // Now it is the sidecar that crashes.
    world.pods[1].sidecar_runs = false;
    world.reconcile();
    assert_eq!(ca(&world).phase, CaPhase::Switching);
}

#[test]
fn a_server_pod_that_has_told_counts_whatever_its_containers_wait_for() {
    // Kubelet may be late to say that the sidecar runs: it has told, so it does.
    for sidecar_runs in [true, false] {
        let mut world = World::with_clients(&["a"]);
        world.pods[0].waiting = Some("CrashLoopBackOff".into());
        world.pods[0].sidecar_runs = sidecar_runs;
        let rounds = |world: &mut World| {
            for _ in 0..6 {
                world.settle();
                world.sync("a");
                every_pipe_could_be_made_anew(world);
                world.pass(MINUTE);
            }
            world.settle();
        };
        ask(&mut world, "1");
        // Its Secret does not reach it.
        rounds(&mut world);
        assert_eq!(
            (ca(&world).phase, ca(&world).waiting_for),
            (CaPhase::Spreading, vec!["pod/hub-0".into()])
        );
        world.sync_server();
        world.settle();
        assert_eq!(ca(&world).phase, CaPhase::Switching);
        // And clients have their old leafs as long as it shows its own.
        let before = info(&world.secret_of("a").data["tls.crt"]).serial;
        rounds(&mut world);
        assert_eq!(ca(&world).phase, CaPhase::Switching);
        assert_eq!(info(&world.secret_of("a").data["tls.crt"]).serial, before);
        run(&mut world, 6);
        assert_eq!(ca(&world).phase, CaPhase::Stable);
    }
}

#[test]
fn an_own_ca_is_rotated_at_two_thirds_of_its_life() {
    let mut world = World::with_clients(&["a"]);
    let later = |world: &mut World, time| {
        world.pass(time);
        // Leafs of a day have ended since, which is another matter.
        world.settle();
        world.sync_all();
    };
    later(&mut world, CA_LIFETIME / 2);
    run(&mut world, 2);
    assert_eq!(ca(&world).phase, CaPhase::Stable);
    let wait = world.plan_server().again_in.unwrap();
    assert!(wait < CA_LIFETIME / 5, "{wait:?}");
    later(&mut world, CA_LIFETIME / 5);
    run(&mut world, 10);
    assert_eq!(ca(&world).phase, CaPhase::Stable);
    assert_eq!(world.events_of(ROTATION_DONE), 1);
}

#[test]
fn an_exported_leaf_that_does_not_know_the_new_root_is_waited_for_until_its_pipe_does_or_it_ends() {
    let mut world = World::with_clients(&["a", "far"]);
    world.change("far", |link| link.spec.export = Some(Default::default()));
    world.settle();
    world.sync_all();
    world.clients.get_mut("far").unwrap().connected = false;
    // It has no pod here.
    let key = key_of(world.link("far"));
    world.link_pods.remove(&key);
    let exported = world.clients["far"].clone();
    ask(&mut world, "1");
    for _ in 0..10 {
        world.settle();
        world.sync_server();
        world.sync("a");
        world.pass(MINUTE);
    }
    assert_eq!(
        (ca(&world).phase, ca(&world).waiting_for),
        (CaPhase::Spreading, vec!["far".into()])
    );
    // Somebody brings the new bundle there: it connects, and tells.
    let bundle = world.secret_of("far").data["ca.crt"].clone();
    world.clients.insert("far".into(), Node { bundle, connected: true, ..exported });
    world.settle();
    assert_eq!(ca(&world).phase, CaPhase::Switching);
    for _ in 0..10 {
        world.settle();
        world.sync_server();
        world.sync("a");
        every_pipe_could_be_made_anew(&world);
        world.pass(MINUTE);
    }
    // Its leaf is not replaced, and the root that signed it is trusted until it ends.
    assert_eq!(
        (ca(&world).phase, ca(&world).waiting_for),
        (CaPhase::Switching, vec!["far".into()])
    );
    let said = world.condition("far", "IdentityIssued");
    assert!(
        said.2.contains("former CA") && said.2.contains("restpipe-operator export"),
        "{said:?}"
    );
    world.pass(90 * DAY);
    world.settle();
    world.sync_all();
    run(&mut world, 8);
    assert_eq!(ca(&world).phase, CaPhase::Stable);
}

#[test]
fn a_copy_outside_is_waited_for_though_a_pod_here_has_a_pipe_of_the_same_name() {
    let mut world = World::with_clients(&["far"]);
    world.change("far", |link| link.spec.export = Some(Default::default()));
    world.settle();
    world.sync_all();
    ask(&mut world, "1");
    // The pod reads its Secret; who has the copy is away.
    run(&mut world, 6);
    assert_eq!(
        (ca(&world).phase, ca(&world).waiting_for),
        (CaPhase::Spreading, vec!["far".into()])
    );
    // It comes with its old bundle, and then with the new one.
    let told = world.told();
    let pipes = &told[0].state.as_ref().unwrap().pipes;
    let new = PipeSeen { instance: "laptop".into(), ..pipes[0].clone() };
    let root = ca(&world).fingerprint;
    let old = PipeSeen { trusts: [root].into(), ..new.clone() };
    for (pipe, phase) in [(old, CaPhase::Spreading), (new, CaPhase::Switching)] {
        let mut told = told.clone();
        told[0].state.as_mut().unwrap().pipes.push(pipe);
        world.told = Some(told);
        world.reconcile();
        assert_eq!(ca(&world).phase, phase);
    }
}

#[test]
fn a_rotation_goes_on_without_exported_clients_if_the_user_says_so_and_the_next_one_waits_again() {
    let mut world = World::with_clients(&["a", "far"]);
    world.change("far", |link| link.spec.export = Some(Default::default()));
    world.settle();
    world.sync_all();
    world.clients.get_mut("far").unwrap().connected = false;
    let old = world.secret_of("far").data["tls.crt"].clone();
    let rounds = |world: &mut World| {
        for _ in 0..10 {
            world.settle();
            world.sync_server();
            world.sync("a");
            every_pipe_could_be_made_anew(world);
            world.pass(MINUTE);
        }
        world.settle();
    };
    ask(&mut world, "1");
    rounds(&mut world);
    assert_eq!(ca(&world).phase, CaPhase::Spreading);
    let (status, word, text) = world.server_condition("IdentityIssued");
    assert_eq!((&*status, &*word), ("True", reason::ROTATION_WAITS));
    assert!(text.contains("(far)") && text.contains("server/hub -n shop --go-on"), "{text}");
    assert_eq!(world.events_of(reason::ROTATION_WAITS), 1);

    annotate(&mut world, ROTATE_CA_GO_ON, "now");
    rounds(&mut world);
    assert_eq!((ca(&world).phase, ca(&world).waiting_for), (CaPhase::Stable, vec![]));
    assert_eq!(world.server_condition("IdentityIssued").1, reason::ISSUED);
    let new = world.secret_of("far").data["tls.crt"].clone();
    assert!(new != old, "what is exported next is of the CA that is trusted");
    world.sync("far");
    assert_eq!(world.can_connect("far"), Ok(()));

    // That was said of that rotation.
    world.clients.get_mut("far").unwrap().connected = false;
    ask(&mut world, "2");
    rounds(&mut world);
    assert_eq!(
        (ca(&world).phase, ca(&world).waiting_for),
        (CaPhase::Spreading, vec!["far".into()])
    );
}

#[test]
fn a_ca_of_the_users_is_taken_over_step_by_step_and_so_is_its_successor() {
    let mut world = World::with_clients(&["a"]);
    let own = ca(&world).fingerprint;
    let first = user_ca(&mut world);
    run(&mut world, 12);
    assert_eq!(ca(&world).fingerprint, first);
    assert_eq!((ca(&world).phase, world.events_of(ROTATION_DONE)), (CaPhase::Stable, 1));
    // It is copied: the Secret may go, which is said, and all works on.
    let kept = world.user_ca.take();
    run(&mut world, 1);
    assert_eq!(world.server_condition(ACCEPTED).1, reason::SECRET_NOT_FOUND);
    assert_eq!(world.server_condition("IdentityIssued").0, "True");
    world.user_ca = kept;
    let second = user_ca(&mut world);
    run(&mut world, 12);
    assert_eq!(ca(&world).fingerprint, second);
    // And back to one of the operator's.
    world.server.spec.identity.ca_secret_name = None;
    run(&mut world, 12);
    assert!(![own, first, second].contains(&ca(&world).fingerprint));
    assert_eq!((ca(&world).phase, world.events_of(ROTATION_DONE)), (CaPhase::Stable, 3));
}

#[test]
fn secrets_that_were_not_looked_at_yet_keep_the_old_root() {
    let mut world = World::with_clients(&["a"]);
    ask(&mut world, "1");
    while world.server.status.as_ref().unwrap().ca.as_ref().unwrap().phase != CaPhase::Switching {
        run(&mut world, 1);
    }
    world.pass(HOUR);
    world.sync_all();
    let secrets = std::mem::take(&mut world.link_secrets);
    for _ in 0..5 {
        // A restarted operator sees the server before the links.
        let plan = world.plan_server();
        let ca = plan.status.ca.unwrap();
        assert_eq!((ca.phase, ca.waiting_for), (CaPhase::Switching, vec!["a".into()]));
        world.pass(HOUR);
    }
    world.link_secrets = secrets;
    run(&mut world, 8);
    assert_eq!(ca(&world).phase, CaPhase::Stable);
}

#[test]
fn a_link_whose_secret_is_somebody_elses_holds_nobody_up() {
    let mut world = World::with_clients(&["a"]);
    let key = world.add(link("shop", "b"));
    world.link_secrets.insert(key, std::sync::Arc::new(foreign("Opaque", &[("x", b"y")])));
    ask(&mut world, "1");
    for _ in 0..12 {
        world.settle();
        world.sync_server();
        world.sync("a");
        world.pass(MINUTE);
    }
    assert_eq!((ca(&world).phase, world.events_of(ROTATION_DONE)), (CaPhase::Stable, 1));
}

#[test]
fn a_wish_that_is_taken_back_while_the_root_is_spread_leaves_all_as_it_was() {
    let mut world = World::with_clients(&["a"]);
    let own = ca(&world).fingerprint;
    user_ca(&mut world);
    world.settle();
    assert_eq!(ca(&world).phase, CaPhase::Spreading);
    world.server.spec.identity.ca_secret_name = None;
    run(&mut world, 4);
    assert_eq!((ca(&world).phase, ca(&world).fingerprint), (CaPhase::Stable, own));
    assert_eq!((world.events_of(ROTATION_NOT_DONE), world.events_of(CA_RECOVERED)), (1, 0));
}

#[test]
fn a_user_is_told_that_the_operator_cannot_rotate_a_ca_of_theirs() {
    let mut world = World::new();
    user_ca(&mut world);
    world.settle();
    ask(&mut world, "now");
    world.settle();
    assert_eq!((ca(&world).phase, world.events_of(ROTATION_NOT_DONE)), (CaPhase::Stable, 1));
}

#[test]
fn shortly_before_the_end_of_the_old_root_nobody_is_waited_for() {
    let mut world = World::with_clients(&["a", "stuck"]);
    ask(&mut world, "1");
    world.settle();
    let last_call = crate::plan::time::system(&ca(&world).not_after) - 2 * DAY;
    // It holds an old leaf and an old bundle, by some fault that nobody mends.
    let stuck = world.clients["stuck"].clone();
    let advance = |world: &mut World| {
        world.settle();
        world.sync_server();
        world.sync("a");
        world.clients.insert("stuck".into(), stuck.clone());
    };
    for _ in 0..6 {
        advance(&mut world);
        world.pass(MINUTE);
    }
    world.now = last_call - HOUR;
    advance(&mut world);
    assert_eq!(
        (ca(&world).phase, ca(&world).waiting_for),
        (CaPhase::Spreading, vec!["stuck".into()])
    );
    world.now = last_call;
    world.reconcile();
    assert_eq!(ca(&world).phase, CaPhase::Switching);
    let event = world.events.iter().find(|event| event.reason == ROTATION_SWITCHED).unwrap();
    assert!(event.note.contains("have not said") && event.note.contains("stuck"), "{event:?}");
}

#[test]
fn an_old_root_that_has_ended_is_dropped_though_a_secret_cannot_be_written() {
    let mut world = World::with_clients(&["a"]);
    let refused = world.add(link("shop", "b"));
    world.unwritable.insert(refused);
    let end = crate::plan::time::system(&ca(&world).not_after);
    let advance = |world: &mut World| {
        world.settle();
        world.sync_server();
        world.sync("a");
        world.settle();
    };
    world.pass(CA_LIFETIME * 2 / 3 + DAY);
    advance(&mut world);
    assert_eq!((ca(&world).phase, ca(&world).waiting_for), (CaPhase::Spreading, vec!["b".into()]));
    world.now = end - DAY;
    advance(&mut world);
    assert_eq!((ca(&world).phase, ca(&world).waiting_for), (CaPhase::Switching, vec!["b".into()]));
    world.now = end + MINUTE;
    advance(&mut world);
    assert_eq!((ca(&world).phase, ca(&world).waiting_for), (CaPhase::Stable, vec![]));
    assert_eq!((world.events_of(ROTATION_DONE), world.events_of(CA_RECOVERED)), (1, 0));
    assert_eq!(world.can_connect("a"), Ok(()));
    // So there can be another rotation.
    ask(&mut world, "1");
    world.settle();
    assert_eq!(ca(&world).phase, CaPhase::Spreading);
}

#[test]
fn an_old_root_that_has_not_begun_by_a_wrong_clock_is_not_dropped() {
    let mut world = World::with_clients(&["a"]);
    // It is older than the one that it follows.
    let begun = world.now - 100 * DAY;
    user_ca_of(&mut world, begun, CA_LIFETIME);
    while ca(&world).phase != CaPhase::Switching {
        run(&mut world, 1);
    }
    world.now -= 50 * DAY;
    world.reconcile();
    assert_eq!(ca(&world).phase, CaPhase::Switching);
}

/// A new CA of the user's own; returns its fingerprint.
pub(super) fn user_ca(world: &mut World) -> String {
    let now = world.now;
    user_ca_of(world, now, CA_LIFETIME)
}

/// As [`user_ca`], with a begin and a life of its own.
pub(super) fn user_ca_of(world: &mut World, begun: SystemTime, life: Duration) -> String {
    let ca = CertificateAuthority::create("corp", life, begun).unwrap();
    let key = ca.key_pem();
    let data = [("tls.crt", ca.cert_pem().as_bytes()), ("tls.key", key.expose().as_bytes())];
    world.user_ca = Some(foreign("kubernetes.io/tls", &data));
    world.server.spec.identity.ca_secret_name = Some("corp-ca".into());
    ca.info().fingerprint.clone()
}

#[test]
fn the_servers_leaf_is_for_servers_and_the_clients_for_clients() {
    let world = World::with_clients(&["a"]);
    let server = world.server_node.as_ref().unwrap();
    assert!(server.credentials(Usage::Client, world.now).is_err());
    assert!(world.clients["a"].credentials(Usage::Server, world.now).is_err());
}
