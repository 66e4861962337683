//! Certificates are issued when they must be, and not else.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use restpipe_api::condition::{ACCEPTED, CONNECTED, IDENTITY_ISSUED, READY, reason};
use restpipe_api::names::RENEW;
use restpipe_identity::{BACKDATE, CA_LIFETIME, CertificateAuthority, Usage};

use super::world::{DAY, HOUR, Node, World, foreign, info, link, trouble};
use crate::plan::event::{ISSUED, RENEWED};
use crate::plan::leaf::renewal_at;
use crate::plan::time::system;
use crate::seen::SecretSeen;

pub(super) fn serial(world: &World, link: &str) -> String {
    info(&world.secret_of(link).data["tls.crt"]).serial
}

type Edit = Box<dyn Fn(&mut SecretSeen)>;

fn edit(world: &mut World, name: &str, edit: impl FnOnce(&mut SecretSeen)) {
    let key = crate::plan::claims::key_of(world.link(name));
    edit(Arc::make_mut(world.link_secrets.get_mut(&key).unwrap()));
}

#[test]
fn a_link_gets_a_whole_node_directory() {
    let world = World::with_clients(&["files"]);
    let secret = world.secret_of("files");
    assert_eq!(secret.type_, "kubernetes.io/tls");
    assert_eq!(secret.owner.as_deref(), Some("uid-of-shop-files"));
    let node = &world.clients["files"];
    let credentials = node.credentials(Usage::Client, world.now).unwrap();
    assert_eq!(credentials.name().as_str(), "files.clients.hub.shop.restpipe");
    let settings = String::from_utf8(secret.data["node.toml"].clone()).unwrap();
    assert!(settings.contains("server = \"hub-restpipe.shop.svc:7072\""), "{settings}");
    assert!(settings.contains("server-name = \"hub.shop.servers.restpipe\""), "{settings}");
    let identity = world.link("files").status.as_ref().unwrap().identity.clone().unwrap();
    assert_eq!(identity.secret_name, "files-restpipe-link");
    assert_eq!(system(&identity.not_after), world.now + DAY);
    assert_eq!(world.events_of(ISSUED), 2);
}

#[test]
fn a_leaf_is_renewed_at_two_thirds_of_its_life_and_that_is_when_the_plan_wakes_up() {
    let mut world = World::with_clients(&["a"]);
    let first = serial(&world, "a");
    let due = renewal_at(&info(&world.secret_of("a").data["tls.crt"]));
    let shown = world.link("a").status.as_ref().unwrap().identity.as_ref().unwrap();
    assert_eq!(shown.renewal_time, Some(crate::plan::time::time(due)));
    let server = world.plan_server();
    let wait = world.plan_link("a", &server).again_in.unwrap();
    assert_eq!(world.now + wait, due);
    world.now = due - Duration::from_secs(1);
    world.settle();
    assert_eq!(serial(&world, "a"), first);
    world.now = due;
    world.settle();
    assert_ne!(serial(&world, "a"), first);
    assert!(world.events_of(RENEWED) >= 1);
}

#[test]
fn what_is_missing_edited_or_foreign_in_a_secret_of_ours_is_made_anew() {
    let stranger = CertificateAuthority::create("stranger", CA_LIFETIME, World::new().now).unwrap();
    let other = World::with_clients(&["a"]);
    let other = other.secret_of("a").clone();
    let edits: Vec<(&str, Edit)> = vec![
        ("emptied", Box::new(|secret| secret.data.clear())),
        ("a key gone", Box::new(|secret| drop(secret.data.remove("tls.key")))),
        (
            "junk",
            Box::new(|secret| {
                secret.data.insert("tls.crt".into(), b"junk".to_vec());
            }),
        ),
        (
            "a megabyte",
            Box::new(|secret| {
                secret.data.insert("tls.crt".into(), vec![b'A'; 1 << 20]);
            }),
        ),
        (
            "the key of another",
            Box::new(move |secret| {
                secret.data.insert("tls.key".into(), other.data["tls.key"].clone());
            }),
        ),
        (
            "of a dead object of the same name",
            Box::new(|secret| {
                secret.owner = Some("uid-of-a-former-link".into());
            }),
        ),
        ("from a backup", Box::new(|secret| secret.owner = None)),
    ];
    for (what, change) in edits {
        let mut world = World::with_clients(&["a"]);
        let before = serial(&world, "a");
        edit(&mut world, "a", |secret| change(secret));
        world.settle();
        assert_ne!(serial(&world, "a"), before, "{what}");
        assert_eq!(world.secret_of("a").owner.as_deref(), Some("uid-of-shop-a"));
        world.sync("a");
        assert_eq!(world.can_connect("a"), Ok(()), "{what}");
    }
    // The bundle, the settings and the label are put right without another certificate.
    let edits: Vec<Edit> = vec![
        Box::new(move |secret| {
            secret.data.insert("ca.crt".into(), stranger.cert_pem().into());
        }),
        Box::new(|secret| drop(secret.data.remove("ca.crt"))),
        Box::new(|secret| drop(secret.data.remove("node.toml"))),
        Box::new(|secret| secret.ours = false),
        Box::new(|secret| secret.annotations.clear()),
    ];
    for change in edits {
        let mut world = World::with_clients(&["a"]);
        let before = world.secret_of("a").clone();
        edit(&mut world, "a", |secret| change(secret));
        world.settle();
        assert_eq!(world.secret_of("a").data, before.data);
        assert!(world.secret_of("a").ours);
    }
}

#[test]
fn a_leaf_for_another_name_or_role_or_of_another_ca_is_replaced() {
    let another = World::with_clients(&["a"]);
    type Source = fn(&World) -> SecretSeen;
    let sources: [Source; 2] =
        [|world| world.secret_of("b").clone(), |world| world.secret.clone().unwrap()];
    let elsewhere = |_: &World| another.secret_of("a").clone();
    let sources = sources.iter().map(|source| source as &dyn Fn(&World) -> SecretSeen);
    for source in sources.chain([&elsewhere as &dyn Fn(&World) -> SecretSeen]) {
        let mut world = World::with_clients(&["a", "b"]);
        let other = source(&world);
        let before = serial(&world, "a");
        edit(&mut world, "a", |secret| {
            for key in ["tls.crt", "tls.key"] {
                secret.data.insert(key.into(), other.data[key].clone());
            }
        });
        world.settle();
        world.sync("a");
        assert_eq!(world.can_connect("a"), Ok(()));
        assert!(![before, info(&other.data["tls.crt"]).serial].contains(&serial(&world, "a")));
        let name = info(&world.secret_of("a").data["tls.crt"]).names;
        assert_eq!(name, ["a.clients.hub.shop.restpipe"]);
    }
}

#[test]
fn a_secret_of_somebody_else_is_never_touched() {
    let mut world = World::new();
    let key = world.add(link("shop", "a"));
    let other = foreign("kubernetes.io/tls", &[("tls.crt", b"theirs")]);
    world.link_secrets.insert(key.clone(), Arc::new(other.clone()));
    world.secret = Some(foreign("Opaque", &[("password", b"theirs")]));
    world.settle();
    assert!(*world.link_secrets[&key] == other);
    assert_eq!(world.secret.as_ref().unwrap().data["password"], b"theirs");
    for (status, word, text) in [world.condition("a", ACCEPTED), world.server_condition(ACCEPTED)] {
        assert_eq!((&*status, &*word), ("False", reason::SECRET_CONFLICT));
        assert!(text.contains("kubectl describe secret"), "{text}");
    }
    assert_eq!(world.events_of(reason::SECRET_CONFLICT), 2);
    // An owner of another kind, and no label of ours.
    let owned = SecretSeen { owner: Some("uid-of-a-certificate".into()), ..other };
    world.link_secrets.insert(key.clone(), Arc::new(owned.clone()));
    world.settle();
    assert!(*world.link_secrets[&key] == owned);
}

#[test]
fn a_secret_of_ours_with_a_type_that_cannot_be_changed_is_to_be_deleted() {
    let mut world = World::with_clients(&["a"]);
    edit(&mut world, "a", |secret| secret.type_ = "Opaque".into());
    world.settle();
    let (_, word, text) = world.condition("a", ACCEPTED);
    assert_eq!(word, reason::SECRET_INVALID);
    assert!(text.contains("kubectl delete secret -n shop a-restpipe-link"), "{text}");
}

#[test]
fn renewal_can_be_asked_for_and_the_same_word_counts_once() {
    let mut world = World::with_clients(&["a"]);
    let first = serial(&world, "a");
    let ask = |world: &mut World, value: &str| {
        let annotations: BTreeMap<_, _> = [(RENEW.to_owned(), value.to_owned())].into();
        world.change("a", |link| link.metadata.annotations = Some(annotations));
        world.settle();
    };
    ask(&mut world, "1");
    let second = serial(&world, "a");
    assert_ne!(second, first);
    ask(&mut world, "1");
    world.change("a", |link| link.metadata.annotations = None);
    world.settle();
    ask(&mut world, "1");
    assert_eq!(serial(&world, "a"), second);
    ask(&mut world, "2");
    assert_ne!(serial(&world, "a"), second);

    let server = info(&world.secret.as_ref().unwrap().data["tls.crt"]).serial;
    world.server.metadata.annotations = Some([(RENEW.to_owned(), "x".to_owned())].into());
    world.settle();
    assert_ne!(info(&world.secret.as_ref().unwrap().data["tls.crt"]).serial, server);
}

#[test]
fn another_lifetime_is_another_certificate() {
    let mut world = World::with_clients(&["a"]);
    let first = serial(&world, "a");
    world.server.spec.identity.duration = Some("1h".into());
    world.settle();
    assert_ne!(serial(&world, "a"), first);
    assert_eq!(info(&world.secret_of("a").data["tls.crt"]).not_after, world.now + HOUR);
}

#[test]
fn next_to_the_end_of_a_ca_leafs_are_not_renewed_over_and_over() {
    let mut world = World::new();
    let ca = CertificateAuthority::create("corp", 30 * HOUR, world.now).unwrap();
    let key = ca.key_pem();
    let data = [("tls.crt", ca.cert_pem().as_bytes()), ("tls.key", key.expose().as_bytes())];
    world.user_ca = Some(foreign("kubernetes.io/tls", &data));
    world.server.spec.identity.ca_secret_name = Some("corp-ca".into());
    world.add(link("shop", "a"));
    world.settle();
    for _ in 0..29 * 6 {
        world.pass(Duration::from_secs(600));
        world.settle();
    }
    let renewed = world.events_of(RENEWED);
    assert!((2..=4).contains(&renewed), "{renewed} renewals of two leafs");
    assert!(world.plan_server().again_in.unwrap() > Duration::from_secs(10));
}

#[test]
fn a_leaf_whose_server_cannot_issue_stays_and_says_so() {
    let mut world = World::with_clients(&["a"]);
    let server = world.plan_server();
    let mut view = (*server.view).clone();
    view.authority = Err(trouble(reason::SECRET_NOT_FOUND));
    let server = crate::plan::ServerPlan { view: Arc::new(view), ..server };
    let plan = world.plan_link("a", &server);
    assert!(plan.secret.is_none() && plan.status.identity.is_some());
    let issued = plan.status.conditions.iter().find(|one| one.type_ == IDENTITY_ISSUED).unwrap();
    assert_eq!((&*issued.status, &*issued.reason), ("False", reason::CA_UNAVAILABLE));
    world.settle();
    assert_eq!(world.condition("a", IDENTITY_ISSUED).0, "True");
}

#[test]
fn a_certificate_whose_secret_the_api_server_refuses_is_not_said_to_be_issued() {
    let mut world = World::new();
    world.add(link("shop", "a"));
    world.refuses = |name| name == "hub-restpipe-server" || name == "a-restpipe-link";
    // That it settles tells that another try, with another key, writes nothing.
    world.settle();
    for type_ in [IDENTITY_ISSUED, READY] {
        for (status, word, text) in [world.condition("a", type_), world.server_condition(type_)] {
            assert_eq!((&*status, &*word), ("False", reason::WRITE_FAILED), "{type_}: {text}");
            assert!(text.contains("the API server refuses it: exceeded quota"), "{text}");
        }
    }
    assert_eq!(world.condition("a", ACCEPTED).0, "True");
    let status = world.server.status.clone().unwrap();
    assert!(status.identity.is_none() && status.ca.is_some());
    assert!(world.link("a").status.as_ref().unwrap().identity.is_none());
    assert_eq!(world.events_of(ISSUED), 0);
    world.refuses = |_| false;
    world.settle();
    assert_eq!(world.condition("a", IDENTITY_ISSUED).1, reason::ISSUED);
    assert_eq!(world.server_condition(IDENTITY_ISSUED).1, reason::ISSUED);
    assert_eq!(world.events_of(ISSUED), 2);
}

#[test]
fn a_renewal_that_the_api_server_refuses_leaves_what_is_there_in_the_status() {
    let mut world = World::with_clients(&["a"]);
    let before = world.link("a").status.clone().unwrap();
    world.refuses = |name| name == "a-restpipe-link";
    let annotations: BTreeMap<_, _> = [(RENEW.to_owned(), "1".to_owned())].into();
    world.change("a", |link| link.metadata.annotations = Some(annotations));
    world.settle();
    let after = world.link("a").status.clone().unwrap();
    assert_eq!(world.condition("a", IDENTITY_ISSUED).1, reason::WRITE_FAILED);
    assert_eq!(world.condition("a", CONNECTED).0, "True");
    assert_eq!((after.identity, after.connections), (before.identity, before.connections));
    assert_eq!(world.events_of(RENEWED), 0);
}

#[test]
fn who_may_connect_is_written_and_told_though_no_ca_can_sign() {
    let mut world = World::with_clients(&["a", "b"]);
    let before = world.secret.clone().unwrap();
    // As when somebody has removed its label.
    world.ca_secret.as_mut().unwrap().ours = false;
    world.change("b", |link| link.spec.suspend = true);
    world.settle();
    assert_eq!(world.server_condition(IDENTITY_ISSUED).1, reason::SECRET_CONFLICT);
    let mut after = world.secret.clone().unwrap();
    let names = crate::plan::node::names_in(&after.data["node.toml"]).unwrap();
    assert!(names.suspended.iter().eq(["b"]), "{names:?}");
    after.data.insert("node.toml".into(), before.data["node.toml"].clone());
    assert!(after == before, "all else in the Secret is as it was");
    // And by the pipes that the operator has: with the CA that it knew.
    let view = world.plan_server().view;
    assert!(view.authority.is_err() && view.own_authority.is_some());
    // One that begins then knows none, and the Secret is what it can write.
    world.view = None;
    world.change("a", |link| link.spec.suspend = true);
    assert!(world.plan_server().secret.is_some());
}

proptest! {
    /// Renewals spread over a fifth of two thirds of a life, never later than 0.74 of it.
    #[test]
    fn renewal_is_between_0_6_and_0_74_of_a_life(bytes in any::<[u8; 16]>(), hours in 1_u32..9000) {
        let mut leaf = info(SAMPLE.as_bytes());
        let issued = World::new().now;
        leaf.not_before = issued - BACKDATE;
        leaf.not_after = issued + hours * HOUR;
        leaf.serial = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let at = renewal_at(&leaf).duration_since(issued).unwrap().as_secs_f64();
        let life = f64::from(hours) * 3600.0;
        prop_assert!((0.599..=0.7334).contains(&(at / life)), "{}", at / life);
        prop_assert_eq!(renewal_at(&leaf), renewal_at(&leaf));
    }
}

static SAMPLE: std::sync::LazyLock<String> = std::sync::LazyLock::new(|| {
    CertificateAuthority::create("sample", HOUR, World::new().now).unwrap().cert_pem().to_owned()
});

#[test]
fn a_node_that_does_not_take_its_new_files_is_told_of_once_and_for_as_long_as_it_lasts() {
    let mut world = World::with_clients(&["fs"]);
    let failed = |node: &mut Node| node.reload_failed = Some("bad_pem".into());
    failed(world.clients.get_mut("fs").unwrap());
    world.settle();
    let (status, word, text) = world.condition("fs", IDENTITY_ISSUED);
    assert_eq!((&*status, &*word), ("True", reason::CERT_RELOAD_FAILED));
    let said = "the pod fs-pod does not take the files that it has now (bad_pem)";
    assert!(text.contains(said) && text.contains("kubectl logs -n shop fs-pod"), "{text}");
    assert_eq!(world.condition("fs", READY).1, reason::READY, "its pipe is up");
    assert_eq!(world.events_of(reason::CERT_RELOAD_FAILED), 1);
    world.settle();
    assert_eq!(world.events_of(reason::CERT_RELOAD_FAILED), 1, "it lasts, which is no news");

    failed(world.server_node.as_mut().unwrap());
    world.settle();
    let conditions = world.server.status.clone().unwrap().conditions;
    let issued = conditions.iter().find(|one| one.type_ == IDENTITY_ISSUED).unwrap();
    assert_eq!((&*issued.status, &*issued.reason), ("True", reason::CERT_RELOAD_FAILED));
    assert!(issued.message.contains("the pod hub-0 does not take"), "{}", issued.message);
    assert_eq!(world.events_of(reason::CERT_RELOAD_FAILED), 2);

    world.sync_all();
    world.settle();
    assert_eq!(world.condition("fs", IDENTITY_ISSUED).1, reason::ISSUED);
    assert_eq!(world.events_of(reason::CERT_RELOAD_FAILED), 2);
}
