//! What was lost, damaged or has ended is made anew.

use restpipe_api::condition::{ACCEPTED, IDENTITY_ISSUED, READY, reason};
use restpipe_api::{CaPhase, CaStatus};
use restpipe_identity::{CA_LIFETIME, CertificateAuthority};

use super::rotation::user_ca;
use super::world::{DAY, HOUR, MINUTE, World, foreign, pod};
use crate::plan::event::CA_RECOVERED;

fn ca(world: &World) -> CaStatus {
    world.server.status.as_ref().unwrap().ca.clone().unwrap()
}

#[test]
fn a_ca_that_has_ended_is_replaced_at_once() {
    let mut world = World::with_clients(&["a", "b"]);
    let old = ca(&world).fingerprint;
    world.pass(CA_LIFETIME + DAY);
    world.reconcile();
    assert_eq!(ca(&world).phase, CaPhase::Switching);
    assert_ne!(ca(&world).fingerprint, old);
    assert_eq!(world.events_of(CA_RECOVERED), 1);
    // Nobody is waited for, since nothing works.
    world.settle();
    assert_eq!(ca(&world).phase, CaPhase::Stable);
    world.sync_all();
    assert_eq!((world.can_connect("a"), world.can_connect("b")), (Ok(()), Ok(())));
}

#[test]
fn a_ca_that_ended_while_its_successor_was_spread_is_followed_by_that() {
    let mut world = World::with_clients(&["a"]);
    world.pass(CA_LIFETIME * 2 / 3 + DAY);
    world.settle();
    assert_eq!(ca(&world).phase, CaPhase::Spreading);
    let next = world.ca_secret.as_ref().unwrap().data["next.crt"].clone();
    world.pass(CA_LIFETIME / 3);
    world.settle();
    assert_eq!(world.ca_secret.as_ref().unwrap().data["ca.crt"], next);
    assert_eq!(ca(&world).phase, CaPhase::Stable);
}

#[test]
fn with_a_clock_before_the_ca_nothing_is_signed_and_nothing_is_thrown_away() {
    let mut world = World::with_clients(&["a"]);
    let before = (world.ca_secret.clone(), world.secret.clone(), world.link_secrets.clone());
    world.now -= 2 * HOUR;
    world.settle();
    assert!(before == (world.ca_secret.clone(), world.secret.clone(), world.link_secrets.clone()));
    let (status, word, text) = world.server_condition(IDENTITY_ISSUED);
    assert_eq!((&*status, &*word), ("False", reason::CA_UNAVAILABLE));
    assert!(text.contains("clock"), "{text}");
    assert_eq!(world.condition("a", IDENTITY_ISSUED).1, reason::CA_UNAVAILABLE);
    world.now += 2 * HOUR;
    world.settle();
    assert_eq!(world.server_condition(READY).0, "True");
}

#[test]
fn a_lost_ca_key_is_overcome_without_cutting_anybody_off() {
    for lose in [
        (|world: &mut World| world.ca_secret = None) as fn(&mut World),
        |world| world.ca_secret.as_mut().unwrap().data.clear(),
        |world| {
            world.ca_secret.as_mut().unwrap().data.insert("ca.key".into(), b"junk".to_vec());
        },
    ] {
        let mut world = World::with_clients(&["a", "b"]);
        lose(&mut world);
        for _ in 0..8 {
            world.settle();
            for hostname in ["a", "b"] {
                assert_eq!(world.can_connect(hostname), Ok(()), "before kubelet");
                world.sync(hostname);
                assert_eq!(world.can_connect(hostname), Ok(()), "{hostname} has read");
            }
            world.sync_server();
            assert_eq!(world.can_connect("a"), Ok(()), "the server has read");
            world.pass(MINUTE);
        }
        assert_eq!(ca(&world).phase, CaPhase::Stable);
        assert_eq!(world.events_of(CA_RECOVERED), 1);
    }
}

#[test]
fn a_ca_secret_that_is_not_ours_is_left_alone() {
    let mut world = World::new();
    world.ca_secret = Some(foreign("Opaque", &[("a", b"b")]));
    let plan = world.plan_server();
    assert!(plan.ca_secret.is_none() && plan.secret.is_none());
    world.settle();
    assert_eq!(world.server_condition(ACCEPTED).1, reason::SECRET_CONFLICT);
}

#[test]
fn a_ca_of_the_users_that_cannot_be_used_is_refused_with_the_cause() {
    let now = World::new().now;
    let good = CertificateAuthority::create("corp", CA_LIFETIME, now).unwrap();
    let other = CertificateAuthority::create("other", CA_LIFETIME, now).unwrap();
    let ended = CertificateAuthority::create("ended", HOUR, now - DAY).unwrap();
    let leaf = World::with_clients(&["a"]).clients["a"].clone();
    let key = good.key_pem().expose().as_bytes().to_vec();
    let broken_ec = b"-----BEGIN EC PRIVATE KEY-----\nMAMCAQE=\n-----END EC PRIVATE KEY-----\n";
    let cert = good.cert_pem().as_bytes().to_vec();
    let twice = [&*cert, other.cert_pem().as_bytes()].concat();
    for (cert, key, cause) in [
        (vec![], key.clone(), "has no tls.crt"),
        (cert.clone(), vec![], "has no tls.key"),
        (leaf.cert.clone(), leaf.key.clone(), "is not a CA"),
        (cert.clone(), other.key_pem().expose().as_bytes().to_vec(), "does not belong"),
        (
            ended.cert_pem().as_bytes().to_vec(),
            ended.key_pem().expose().as_bytes().to_vec(),
            "valid from",
        ),
        (cert.clone(), broken_ec.to_vec(), "openssl pkcs8 -topk8"),
        (cert.clone(), vec![b'x'; 20_000], "more than"),
        (twice, key.clone(), "2 certificates"),
        (b"junk".to_vec(), key.clone(), "outside a PEM block"),
    ] {
        let mut world = World::new();
        world.server.spec.identity.ca_secret_name = Some("corp-ca".into());
        let data = [("tls.crt", &*cert), ("tls.key", &*key)];
        world.user_ca = Some(foreign("kubernetes.io/tls", &data));
        world.settle();
        world.refuses_the_users_ca(cause);
    }
}

#[test]
fn a_users_ca_that_cannot_be_read_any_more_does_not_stop_the_one_in_use() {
    let mut world = World::new();
    let first = user_ca(&mut world);
    world.settle();
    world.user_ca.as_mut().unwrap().data.insert("tls.key".into(), b"junk".to_vec());
    world.settle();
    assert_eq!(world.server_condition(ACCEPTED).1, reason::SECRET_INVALID);
    assert_eq!(world.server_condition(IDENTITY_ISSUED).0, "True");
    assert_eq!(ca(&world).fingerprint, first);
    // And a link that comes now is served.
    world.add(super::world::link("shop", "new"));
    world.pods = vec![pod("hub-0")];
    world.settle();
    assert_eq!(world.condition("new", IDENTITY_ISSUED).0, "True");
}
