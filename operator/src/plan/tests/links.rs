//! What the status of a link says.

use restpipe_api::Export;
use restpipe_api::condition::{ACCEPTED, CONNECTED, IDENTITY_ISSUED, INJECTED, READY, reason};

use super::world::{HOUR, MINUTE, World, info, link, pod, trouble};
use crate::plan::claims::key_of;
use crate::plan::event::DISCONNECTED;
use crate::plan::link::{ClientPodSeen, PeerSeen};
use crate::plan::trouble_of;
use crate::seen::ServerPodSeen;

pub(super) fn word(world: &World, type_: &str) -> String {
    let (status, reason, text) = world.condition("a", type_);
    assert!(!text.is_empty());
    format!("{status} {reason}")
}

pub(super) fn probe(world: &mut World, state: Result<Vec<PeerSeen>, crate::seen::Trouble>) {
    let key = key_of(world.link("a"));
    world.probes.insert(key, vec![ClientPodSeen { pod: "a-pod".into(), state }]);
    world.settle();
}

#[test]
fn a_connected_link_is_ready_and_has_its_routing_record() {
    let world = World::with_clients(&["a"]);
    assert_eq!(word(&world, READY), "True Ready");
    let status = world.link("a").status.clone().unwrap();
    assert_eq!(status.hostname.as_deref(), Some("a"));
    assert_eq!(status.server.as_deref(), Some("shop/hub"));
    let [connection] = &status.connections[..] else { panic!("{:?}", status.connections) };
    assert_eq!((connection.pod.as_deref(), &*connection.server), (Some("a-pod"), "hub-0"));
    assert_eq!(world.server.status.as_ref().unwrap().clients.unwrap().connected, 1);
}

#[test]
fn the_routing_record_is_sorted_bounded_and_fits_whatever_clients_call_themselves() {
    let mut world = World::with_clients(&["a"]);
    let mut told = world.told();
    let state = told[0].state.as_mut().unwrap();
    let pipe = state.pipes[0].clone();
    for number in 0..50 {
        let mut pipe = pipe.clone();
        pipe.instance = format!("{:02}{}", 49 - number, "ü".repeat(400));
        pipe.address = "x".repeat(500);
        pipe.since = "not a time".into();
        state.pipes.push(pipe);
    }
    world.told = Some(told.clone());
    world.settle();
    let status = world.link("a").status.clone().unwrap();
    assert_eq!(status.connections.len(), 20);
    assert!(status.connections.is_sorted_by_key(|one| one.instance.clone()));
    assert!(status.connections.iter().all(|one| one.instance.chars().count() <= 253));
    assert!(status.connections.iter().all(|one| one.address.chars().count() <= 64));
    told[0].state.as_mut().unwrap().pipes.reverse();
    world.told = Some(told);
    assert_eq!(world.reconcile(), 0, "the order of a report is no news");
}

#[test]
fn why_a_link_is_not_connected_is_said_in_the_order_of_causes() {
    let mut world = World::with_clients(&["a"]);
    world.clients.clear();
    world.settle();
    assert_eq!(word(&world, CONNECTED), "False NotConnected");
    assert_eq!(world.events_of(DISCONNECTED), 1);
    assert!(world.condition("a", CONNECTED).2.contains("kubectl logs -n shop a-pod -c restpipe"));

    probe(&mut world, Err(trouble_of("dns", "the server's name x cannot be looked up")));
    assert_eq!(word(&world, CONNECTED), "False DnsFailed");
    assert_eq!(word(&world, READY), "False DnsFailed");
    probe(&mut world, Err(trouble(reason::CLIENT_SILENT)));
    assert_eq!(word(&world, CONNECTED), "False ClientSilent");

    // The server's own trouble is the cause of the client's.
    world.pods[0].ready = false;
    world.settle();
    assert_eq!(word(&world, CONNECTED), "False ServerNotReady");
    world.pods.clear();
    world.settle();
    assert!(world.condition("a", CONNECTED).2.contains("NoPods"));

    // Pods that do not run have nothing to tell.
    world.probes.clear();
    let key = key_of(world.link("a"));
    let pods = world.link_pods.get_mut(&key).unwrap();
    pods[0].phase = "Pending".into();
    pods[0].waiting = Some("ImagePullBackOff".into());
    world.settle();
    assert_eq!(word(&world, CONNECTED), "False PodsNotRunning");
    assert!(world.condition("a", CONNECTED).2.contains("ImagePullBackOff"));
    world.link_pods.get_mut(&key).unwrap()[0].phase = "Succeeded".into();
    world.settle();
    assert_eq!(word(&world, CONNECTED), "False NoPods");
    assert_eq!(word(&world, INJECTED), "False NoPods");
    assert!(world.condition("a", CONNECTED).2.contains("restpipe.io/link: a"));
}

#[test]
fn a_client_that_can_be_asked_is_asked_before_it_is_said_that_nobody_knows() {
    let mut world = World::with_clients(&["a"]);
    let key = key_of(world.link("a"));
    world.link_pods.get_mut(&key).unwrap()[0].ip = Some([10, 0, 0, 7].into());
    let silent = trouble(reason::SERVER_SILENT);
    world.told = Some(vec![ServerPodSeen { pod: "hub-0".into(), state: Err(silent) }]);
    world.settle();
    assert_eq!(word(&world, CONNECTED), "True Connected");
    probe(&mut world, Err(trouble(reason::CLIENT_SILENT)));
    assert_eq!(word(&world, CONNECTED), "Unknown ServerNotReady");
    let said = world.condition("a", CONNECTED).2;
    assert!(said.contains("(ServerSilent): the operator cannot ask the pod hub-0"), "{said}");
    assert_eq!(word(&world, READY), "Unknown ServerNotReady");
}

#[test]
fn a_link_keeps_its_word_while_a_new_server_pod_was_not_asked_yet() {
    let mut world = World::with_clients(&["a"]);
    world.pods[0].ready = false;
    world.pods.push(pod("hub-1"));
    let gone = trouble(reason::CONNECTION_REFUSED);
    world.told = Some(vec![ServerPodSeen { pod: "hub-0".into(), state: Err(gone) }]);
    world.settle();
    assert_eq!(word(&world, CONNECTED), "True Connected");
}

#[test]
fn while_no_server_pod_was_asked_what_was_said_before_stays() {
    let mut world = World::with_clients(&["a", "b"]);
    world.told = Some(Vec::new());
    // As after a restart of the operator: not one write.
    assert_eq!(world.reconcile(), 0);
    assert_eq!(word(&world, READY), "True Ready");
    // A link without a status has nothing to keep.
    world.add(link("shop", "new"));
    world.settle();
    assert_eq!(world.condition("new", CONNECTED).0, "Unknown");
}

#[test]
fn a_server_pod_that_cannot_be_asked_leaves_it_open_unless_the_client_tells() {
    let mut world = World::with_clients(&["a"]);
    let silent = trouble(reason::SERVER_SILENT);
    world.told = Some(vec![ServerPodSeen { pod: "hub-0".into(), state: Err(silent) }]);
    world.settle();
    assert_eq!(world.condition("a", CONNECTED).0, "Unknown");
    let peer = PeerSeen {
        instance: "hub-0".into(),
        address: "10.0.0.1:7072".into(),
        since: "2027-01-01T00:00:00Z".into(),
    };
    probe(&mut world, Ok(vec![peer]));
    assert_eq!(word(&world, CONNECTED), "True Connected");
    assert_eq!(world.link("a").status.as_ref().unwrap().connections[0].server, "hub-0");
}

#[test]
fn a_suspended_link_says_so_and_keeps_its_certificate() {
    let mut world = World::with_clients(&["a"]);
    let before = world.secret_of("a").clone();
    world.change("a", |link| link.spec.suspend = true);
    world.settle();
    assert_eq!(word(&world, CONNECTED), "False Suspended");
    assert_eq!(word(&world, READY), "False Suspended");
    assert!(*world.secret_of("a") == before);
    let names = world.plan_server().names;
    assert!(names.suspended.contains("a") && names.clients.contains("a"));
}

#[test]
fn a_suspended_link_without_pods_is_not_ready_because_it_is_suspended() {
    let mut world = World::new();
    let mut idle = link("shop", "a");
    idle.spec.suspend = true;
    let key = world.add(idle);
    world.link_pods.insert(key, Vec::new());
    world.settle();
    assert_eq!(word(&world, INJECTED), "False NoPods");
    assert_eq!(word(&world, READY), "False Suspended");
}

#[test]
fn a_grant_that_is_taken_back_takes_the_name_off_the_servers_list() {
    let mut world = World::new();
    world.server.spec.clients.namespaces.from = restpipe_api::From::All;
    world.add(link("storage", "a"));
    world.settle();
    assert_eq!(word(&world, ACCEPTED), "True Accepted");
    let before = world.plan_server().names;
    assert!(before.clients.contains("a"));
    world.server.spec.clients.namespaces.from = restpipe_api::From::Same;
    world.settle();
    let after = world.plan_server().names;
    assert!(after.clients.is_empty() && after.version > before.version);
    assert_eq!(word(&world, ACCEPTED), "False RefNotPermitted");
    assert_eq!(word(&world, READY), "False RefNotPermitted");
}

#[test]
fn the_younger_of_two_links_gets_nothing_and_does_not_show_the_pipes_of_the_older() {
    let mut world = World::with_clients(&["old"]);
    let mut young = link("shop", "a");
    young.spec.hostname = Some("old".into());
    world.add(young);
    world.settle();
    assert_eq!(word(&world, ACCEPTED), "False HostnameTaken");
    assert_eq!(word(&world, CONNECTED), "False HostnameTaken");
    assert_eq!(word(&world, IDENTITY_ISSUED), "False HostnameTaken");
    let status = world.link("a").status.clone().unwrap();
    assert!(status.connections.is_empty() && status.identity.is_none());
    assert_eq!(world.link_secrets.len(), 1);
    assert_eq!(world.events_of(reason::HOSTNAME_TAKEN), 1);
    // With the older one gone it is its turn.
    world.links.retain(|link| kube::ResourceExt::name_any(&**link) == "a");
    world.settle();
    assert_eq!(word(&world, ACCEPTED), "True Accepted");
}

/// A younger link has the hostname of one that has just been deleted.
fn inherited(world: &mut World) {
    let mut young = link("shop", "a");
    young.spec.hostname = Some("old".into());
    world.add(young);
    world.settle();
    world.links.retain(|link| kube::ResourceExt::name_any(&**link) == "a");
}

#[test]
fn a_hostname_is_listed_for_its_next_link_once_the_servers_pods_have_a_list_without_it() {
    let mut world = World::with_clients(&["old"]);
    let before = world.plan_server().names;
    // Pods that go by the list of before, and tell of the pipe of the one that is gone.
    let told = world.told();
    inherited(&mut world);
    world.told = Some(told);
    world.settle();
    let without = world.plan_server();
    assert!(without.names.clients.is_empty() && without.names.version == before.version + 1);
    assert_eq!(word(&world, ACCEPTED), "True Accepted");
    assert_eq!(word(&world, CONNECTED), "False NotConnected");
    assert!(world.link("a").status.as_ref().unwrap().connections.is_empty());
    // Should nobody report anything: it is looked again.
    assert!(without.again_in.unwrap() <= std::time::Duration::from_secs(1));

    world.told = None;
    world.clients.clear();
    world.settle();
    let after = world.plan_server().names;
    assert!(after.clients.contains("old") && after.version == before.version + 2);
    assert!(world.plan_server().again_in.unwrap() > MINUTE);
}

#[test]
fn pods_that_cannot_be_told_keep_a_hostname_from_its_next_link_for_two_minutes_only() {
    let mut world = World::with_clients(&["old"]);
    inherited(&mut world);
    let silent = trouble(reason::SERVER_SILENT);
    world.told = Some(vec![ServerPodSeen { pod: "hub-0".into(), state: Err(silent) }]);
    for listed in [false, false, true] {
        world.settle();
        assert_eq!(world.plan_server().names.clients.contains("old"), listed);
        world.pass(MINUTE);
    }
}

#[test]
fn a_link_made_anew_under_the_same_name_does_not_inherit_the_pipes_of_the_dead_one() {
    let mut world = World::with_clients(&["a"]);
    let before = world.plan_server().names;
    world.change("a", |link| {
        link.metadata.uid = Some("uid-of-another-a".into());
        link.status = None;
    });
    let between = world.plan_server().names;
    assert!(between.clients.is_empty() && between.version == before.version + 1);
    world.settle();
    let after = world.plan_server().names;
    assert!(after.clients.contains("a") && after.version == before.version + 2);
}

#[test]
fn a_link_to_nowhere_names_the_server_it_looks_for() {
    let mut world = World::new();
    let mut lost = link("shop", "a");
    lost.spec.server.name = Some("hubb".into());
    world.add(lost);
    world.settle();
    assert_eq!(word(&world, READY), "False ServerNotFound");
    assert!(world.condition("a", ACCEPTED).2.contains("shop/hubb"));
}

#[test]
fn a_link_made_anew_under_the_same_name_gets_nothing_of_the_dead_one() {
    let mut world = World::with_clients(&["a"]);
    let before = info(&world.secret_of("a").data["tls.crt"]).serial;
    let stale = world.plan_server();
    world.change("a", |link| {
        link.metadata.uid = Some("uid-of-another-a".into());
        link.status = None;
    });
    // The server's plan is of before: nothing is decided by it.
    let plan = world.plan_link("a", &stale);
    assert!(plan.secret.is_none() && plan.status == Default::default());
    assert!(plan.again_in.is_some());
    world.settle();
    assert_ne!(info(&world.secret_of("a").data["tls.crt"]).serial, before);
    assert_eq!(world.secret_of("a").owner.as_deref(), Some("uid-of-another-a"));
}

#[test]
fn a_forged_status_is_put_right_and_decides_nothing() {
    let mut world = World::with_clients(&["a"]);
    let (link, server) = (world.link("a").status.clone(), world.server.status.clone());
    world.change("a", |link| {
        let status = link.status.as_mut().unwrap();
        status.hostname = Some("admin".into());
        status.connections.clear();
        status.identity = None;
        for condition in &mut status.conditions {
            condition.reason = "Forged".into();
            condition.message = "trust me".into();
        }
    });
    world.server.status.as_mut().unwrap().ca = None;
    world.server.status.as_mut().unwrap().clients = None;
    let secrets = world.link_secrets.clone();
    world.settle();
    assert_eq!((world.link("a").status.clone(), world.server.status.clone()), (link, server));
    assert!(secrets == world.link_secrets);
}

#[test]
fn an_exported_link_needs_no_pods_here() {
    let mut world = World::with_clients(&["a"]);
    world.change("a", |link| link.spec.export = Some(Export::default()));
    world.link_pods.clear();
    world.clients.clear();
    world.settle();
    assert_eq!(word(&world, INJECTED), "True Exported");
    assert_eq!(word(&world, CONNECTED), "False ExportNotConnected");
    world.sync("a");
    world.settle();
    assert_eq!(word(&world, READY), "True Ready");
    assert_eq!(world.link("a").status.as_ref().unwrap().connections[0].pod, None);
}

#[test]
fn the_words_of_nodes_have_their_reasons_and_a_clock_in_a_sentence_is_left_out() {
    for (said, expected) in [
        ("dns", reason::DNS_FAILED),
        ("refused", reason::CONNECTION_REFUSED),
        ("timeout", reason::SERVER_SILENT),
        ("no-hello", reason::SERVER_SILENT),
        ("expired", reason::CERTIFICATE_EXPIRED),
        ("refused_expired", reason::CERTIFICATE_EXPIRED),
        ("not_yet_valid", reason::CLOCK_SKEW),
        ("unknown_ca", reason::UNKNOWN_CA),
        ("refused_unknown_ca", reason::UNKNOWN_CA),
        ("wrong_name", reason::NAME_MISMATCH),
        ("identity", reason::CERTIFICATE_REFUSED),
        ("suspended", reason::SUSPENDED),
        ("something-new", reason::NOT_CONNECTED),
    ] {
        assert_eq!(trouble_of(said, "x").reason, expected, "{said}");
    }
    let now = World::new().now;
    for seconds in [0, 3] {
        let now = now + std::time::Duration::from_secs(seconds);
        for error in [
            rustls::Error::InvalidCertificate(rustls::CertificateError::ExpiredContext {
                time: rustls::pki_types::UnixTime::now(),
                not_after: rustls::pki_types::UnixTime::since_unix_epoch(HOUR),
            }),
            rustls::Error::AlertReceived(rustls::AlertDescription::CertificateExpired),
        ] {
            let text = restpipe_identity::explain(&error, now);
            let detail = trouble_of(text.reason, &text.text).detail;
            assert!(!detail.contains("2027-01-15T"), "{detail}");
            assert!(detail.contains("renew it"), "{detail}");
        }
    }
    let refusal =
        "the server refused it (alert): from a; the clock here says 2027-01-15T08:00:00Z: compare";
    assert_eq!(
        trouble_of("refused_cert", refusal).detail,
        "the server refused it (alert): from a: compare"
    );
    assert!(trouble_of("x", &"ü\n".repeat(5000)).detail.chars().count() <= 1024);
}
