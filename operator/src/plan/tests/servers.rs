//! What the status of a server says, and its Services.

use k8s_openapi::api::core::v1::{LoadBalancerIngress, LoadBalancerStatus, Service, ServiceStatus};
use restpipe_api::condition::{ACCEPTED, IDENTITY_ISSUED, INJECTED, READY, SINGLE_REPLICA, reason};
use restpipe_api::names::{RENEW, ROTATE_CA};
use restpipe_api::{CaPhase, RestPipeServer, ServiceType};

use super::world::{MINUTE, World, link, pod, trouble};
use crate::plan::conditions::Failure;
use crate::plan::event::ROTATION_STARTED;
use crate::plan::node::names_in;
use crate::plan::server::Unwritten;
use crate::seen::{Names, ServerPodSeen};

fn word(world: &World, type_: &str) -> String {
    let (status, reason, text) = world.server_condition(type_);
    assert!(!text.is_empty());
    format!("{status} {reason}")
}

fn endpoints(world: &World) -> Vec<String> {
    let status = world.server.status.as_ref().unwrap();
    status.endpoints.iter().map(|one| format!("{}:{}", one.host, one.port)).collect()
}

#[test]
fn a_server_is_ready_once_a_ready_pod_answers_the_operator() {
    let mut world = World::new();
    world.pods.clear();
    world.settle();
    assert_eq!(word(&world, READY), "False NoPods");
    world.pods = vec![pod("hub-0")];
    world.pods[0].ready = false;
    world.pods[0].waiting = Some("CrashLoopBackOff".into());
    world.settle();
    assert_eq!(word(&world, READY), "False PodsNotRunning");
    assert!(world.server_condition(READY).2.contains("CrashLoopBackOff"));
    world.pods = vec![pod("hub-0")];
    world.settle();
    assert_eq!(word(&world, READY), "Unknown ServerNotReady");
    let silent = trouble(reason::SERVER_SILENT);
    world.told = Some(vec![ServerPodSeen { pod: "hub-0".into(), state: Err(silent) }]);
    world.settle();
    assert_eq!(word(&world, READY), "False ServerSilent");
    world.told = None;
    world.sync_server();
    world.settle();
    assert_eq!(word(&world, READY), "True Ready");
    assert_eq!(word(&world, INJECTED), "True Injected");
    assert_eq!(world.server.status.as_ref().unwrap().pods, ["hub-0"]);
}

#[test]
fn more_than_one_pod_is_said_though_one_is_not_ready() {
    let mut world = World::with_clients(&["a"]);
    assert_eq!(word(&world, SINGLE_REPLICA), "True SingleReplica");
    world.pods.push(pod("hub-1"));
    world.settle();
    assert_eq!(word(&world, SINGLE_REPLICA), "False TooManyPods");
    assert_eq!(word(&world, READY), "True Ready");
    world.pods[1].ready = false;
    world.settle();
    assert_eq!(word(&world, SINGLE_REPLICA), "False TooManyPods");
    assert_eq!(world.server.status.as_ref().unwrap().pods, ["hub-0", "hub-1"]);
    // During a rollout the old one is ending.
    world.pods[0].ending = true;
    world.settle();
    assert_eq!(word(&world, SINGLE_REPLICA), "True SingleReplica");
}

#[test]
fn pods_without_a_sidecar_are_named_twenty_at_most_and_told_once() {
    let mut world = World::with_clients(&[]);
    world.without_sidecar = (0..30).rev().map(|number| format!("hub-{number:02}")).collect();
    world.settle();
    assert_eq!(word(&world, INJECTED), "False NotInjected");
    assert!(world.server_condition(INJECTED).2.contains("hub-00 and 29 more"));
    let named = world.server.status.as_ref().unwrap().pods_without_sidecar.clone();
    assert_eq!((named.len(), &*named[0]), (20, "hub-00"));
    assert_eq!(world.events_of(reason::NOT_INJECTED), 1);
}

#[test]
fn services_lead_to_the_pods_and_are_written_only_when_something_is_missing() {
    let mut world = World::with_clients(&[]);
    let service = world.service.clone().unwrap();
    assert_eq!(service.metadata.name.as_deref(), Some("hub-restpipe"));
    assert_eq!(service.metadata.owner_references.unwrap()[0].uid, "uid-of-hub");
    let replicas = world.replicas_service.clone().unwrap().spec.unwrap();
    assert_eq!(replicas.cluster_ip.as_deref(), Some("None"));

    // What the API server and others add is theirs.
    let seen = world.service.as_mut().unwrap();
    seen.spec.as_mut().unwrap().cluster_ip = Some("10.96.0.7".into());
    seen.spec.as_mut().unwrap().session_affinity = Some("None".into());
    seen.metadata.annotations = Some([("other".into(), "x".into())].into());
    assert!(world.plan_server().services.is_empty());

    world.server.spec.service.annotations = [("lb/kind".into(), "nlb".into())].into();
    world.settle();
    world.server.spec.service.annotations.clear();
    let [service] = &world.plan_server().services[..] else { panic!("one is to be written") };
    assert!(service.metadata.annotations.is_none(), "the annotation goes with the spec");
    world.settle();

    type Change = fn(&mut RestPipeServer);
    let changes: [Change; 2] = [
        |server| server.spec.service.port = 443,
        |server| server.spec.service.type_ = ServiceType::NodePort,
    ];
    for change in changes {
        change(&mut world.server);
        assert_eq!(world.plan_server().services.len(), 1);
        world.settle();
    }
}

#[test]
fn a_service_of_somebody_else_is_left_alone() {
    let mut world = World::new();
    world.service = Some(Service::default());
    let plan = world.plan_server();
    assert_eq!(plan.services.len(), 1, "only the other one");
    world.settle();
    assert_eq!(word(&world, ACCEPTED), "False ServiceConflict");
    // It is watched by nobody, so that it is gone has to be looked for.
    let wait = world.plan_server().again_in.expect("it is looked again");
    assert!(wait <= MINUTE / 2, "{wait:?}");
    assert_eq!(world.service, Some(Service::default()));
}

#[test]
fn endpoints_name_the_best_way_from_outside_first() {
    let mut world = World::with_clients(&[]);
    assert_eq!(endpoints(&world), ["hub-restpipe.shop.svc:7072"]);
    world.server.spec.hostnames = vec!["pipe.example".into()];
    world.server.spec.service.type_ = ServiceType::NodePort;
    world.settle();
    // No port yet: nothing that is not true.
    assert_eq!(endpoints(&world), ["hub-restpipe.shop.svc:7072"]);
    let spec = world.service.as_mut().unwrap().spec.as_mut().unwrap();
    spec.ports.as_mut().unwrap()[0].node_port = Some(30_072);
    world.settle();
    assert_eq!(endpoints(&world), ["pipe.example:30072", "hub-restpipe.shop.svc:7072"]);

    world.server.spec.service.type_ = ServiceType::LoadBalancer;
    world.settle();
    let ingress = ["203.0.113.9", "2001:db8::9"]
        .map(|ip| LoadBalancerIngress { ip: Some(ip.into()), ..Default::default() });
    world.service.as_mut().unwrap().status = Some(ServiceStatus {
        load_balancer: Some(LoadBalancerStatus { ingress: Some(ingress.into()) }),
        ..Default::default()
    });
    world.settle();
    let expected =
        ["pipe.example:7072", "203.0.113.9:7072", "2001:db8::9:7072", "hub-restpipe.shop.svc:7072"];
    assert_eq!(endpoints(&world), expected);
}

#[test]
fn the_servers_settings_name_its_clients_and_are_settings_that_a_node_reads() {
    let mut world = World::with_clients(&["a", "b"]);
    world.change("b", |link| link.spec.suspend = true);
    world.settle();
    let text = String::from_utf8(world.secret.as_ref().unwrap().data["node.toml"].clone()).unwrap();
    for line in [
        "client-suffix = \"clients.hub.shop.restpipe\"",
        "clients = [\"a\", \"b\"]",
        "suspended = [\"b\"]",
        "listed-only = true",
        "operator-name = \"operator.restpipe\"",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    let names = names_in(text.as_bytes()).unwrap();
    assert_eq!(names, world.plan_server().names);
    toml::from_str::<restpipe_config::NodeArgs>(&text).unwrap();
}

#[test]
fn names_are_always_newer_than_what_pods_have_even_if_the_secret_was_lost() {
    let mut world = World::with_clients(&["a"]);
    let mut told = world.told();
    told[0].state.as_mut().unwrap().names_version = 41;
    world.told = Some(told);
    assert_eq!(world.plan_server().names.version, 42);
    world.secret = None;
    assert_eq!(world.plan_server().names.version, 42);
    world.settle();
    assert_eq!(world.plan_server().names.version, 42);
    world.add(link("shop", "b"));
    assert_eq!(world.plan_server().names.version, 43);
    // A pod that claims the largest number there is would leave no room for the next.
    let mut told = world.told();
    told[0].state.as_mut().unwrap().names_version = u64::MAX;
    world.told = Some(told);
    assert_eq!(world.plan_server().names.version, 43);
}

#[test]
fn whatever_version_a_pod_tells_the_next_ones_of_our_own_are_higher_each_time() {
    let around = |bits: u32| [-1, 0, 1].map(|more| (1_u64 << bits).saturating_add_signed(more));
    for claimed in (51..55).flat_map(around).chain([u64::MAX]) {
        let mut world = World::with_clients(&["a"]);
        let mut told = world.told();
        told[0].state.as_mut().unwrap().names_version = claimed;
        world.told = Some(told);
        let mut last = 0;
        for name in ["b", "c", "d"] {
            world.settle();
            let version = world.plan_server().names.version;
            assert!(version > last, "{version} after {last}, as a pod claims {claimed}");
            last = version;
            world.add(link("shop", name));
        }
        // What is believed is exceeded.
        assert!(last > claimed || claimed > 1_u64 << 52, "{last} for {claimed}");
    }
}

#[test]
fn a_service_that_the_api_server_refuses_is_told_and_is_in_no_address() {
    let mut world = World::new();
    world.refuses = |name| name == "hub-restpipe";
    world.settle();
    assert_eq!(word(&world, ACCEPTED), "False WriteFailed");
    assert_eq!(word(&world, READY), "False WriteFailed");
    assert_eq!(word(&world, IDENTITY_ISSUED), "True Issued");
    assert!(world.replicas_service.is_some(), "the other one is made");
    assert_eq!(endpoints(&world), [""; 0]);
    assert_eq!(world.events_of(reason::WRITE_FAILED), 1);

    // One that is there is reached as it is.
    let mut world = World::with_clients(&["a"]);
    world.refuses = |name| name == "hub-restpipe";
    world.server.spec.service.type_ = ServiceType::NodePort;
    world.server.spec.service.node_port = Some(30_072);
    world.server.spec.service.port = 443;
    world.server.spec.hostnames = vec!["pipe.example".into()];
    let settings = world.secret_of("a").data["node.toml"].clone();
    world.settle();
    assert_eq!(word(&world, ACCEPTED), "False WriteFailed");
    assert!(world.server_condition(ACCEPTED).2.contains("another spec.service.nodePort"));
    assert_eq!(endpoints(&world), ["pipe.example:7072", "hub-restpipe.shop.svc:7072"]);
    assert!(world.secret_of("a").data["node.toml"] == settings, "clients dial what is there");
    world.refuses = |_| false;
    world.settle();
    assert_eq!(word(&world, ACCEPTED), "True Accepted");
    assert_eq!(endpoints(&world), ["pipe.example:30072", "hub-restpipe.shop.svc:443"]);
}

#[test]
fn a_ca_that_the_api_server_refuses_is_told_and_the_stored_one_goes_on() {
    let refuses = |name: &str| name.starts_with("restpipe-ca-");
    let mut world = World::new();
    world.refuses = refuses;
    world.settle();
    for type_ in [ACCEPTED, IDENTITY_ISSUED, READY] {
        assert_eq!(word(&world, type_), "False WriteFailed");
    }
    assert!(world.secret.is_none(), "nothing is signed by a CA that nobody kept");

    let mut world = World::with_clients(&["a"]);
    let ca = world.server.status.as_ref().unwrap().ca.clone();
    world.refuses = refuses;
    world.server.metadata.annotations = Some([(ROTATE_CA.to_owned(), "1".to_owned())].into());
    world.add(link("shop", "new"));
    world.settle();
    assert_eq!(word(&world, ACCEPTED), "False WriteFailed");
    assert_eq!(word(&world, IDENTITY_ISSUED), "True Issued");
    assert_eq!(world.condition("new", IDENTITY_ISSUED).0, "True");
    assert_eq!(world.server.status.as_ref().unwrap().ca, ca);
    assert_eq!(world.events_of(ROTATION_STARTED), 0);
    world.refuses = |_| false;
    world.settle();
    let ca = world.server.status.as_ref().unwrap().ca.clone().unwrap();
    assert_eq!(ca.phase, CaPhase::Spreading);
    assert_eq!(word(&world, ACCEPTED), "True Accepted");
}

#[test]
fn a_write_that_another_try_may_cure_leaves_in_the_status_what_was_said() {
    let mut world = World::with_clients(&["a"]);
    world.server.metadata.annotations = Some([(RENEW.to_owned(), "1".to_owned())].into());
    let plan = world.plan_server();
    assert!(plan.secret.is_some() && Some(&plan.status) != world.server.status.as_ref());
    let what = Unwritten { secret: Some(Failure::Passing), ..Unwritten::default() };
    let plan = world.without(plan, &what);
    assert_eq!(Some(&plan.status), world.server.status.as_ref());
    assert!(plan.events.is_empty(), "{:?}", plan.events);
}

#[test]
fn what_the_api_server_says_is_one_line_of_bounded_length() {
    let said = "ü\n".repeat(5000);
    let Failure::Refused(trouble) = Failure::refused("cannot write it", &said) else {
        panic!("it is refused");
    };
    assert!(trouble.detail.chars().count() < 1500 && !trouble.detail.contains('\n'));
}

#[test]
fn a_damaged_list_of_names_is_no_list() {
    for text in ["", "junk", "clients = 1", "names-version = -1", "clients = [\"a\"]"] {
        assert_eq!(names_in(text.as_bytes()), None, "{text}");
    }
    assert_eq!(names_in(b"\xff"), None);
    assert_eq!(names_in(b"names-version = 3"), Some(Names { version: 3, ..Names::default() }));
}

#[test]
fn no_key_is_ever_shown() {
    let world = World::with_clients(&["a"]);
    let plan = world.plan_server();
    let shown = format!("{plan:?} {:?} {:?}", world.ca_secret, world.secret);
    assert!(!shown.contains("PRIVATE"), "{shown}");
    for part in shown.split("CaState") {
        assert!(!part.contains("key_pem"));
    }
}
