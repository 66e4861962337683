//! A second release, which is for two namespaces only, beside the one that is for all others.

use restpipe_cluster_tests::{Namespace, Operator, SETTLE_TIME, eventually};
use serde_json::json;

use crate::{audit, create, create_with, created, creation, has_sidecar, pod, shared};

/// Two that are watched, and one that no release injects in.
pub(crate) const NAMESPACES: [&str; 3] = ["scope-a", "scope-b", "scope-c"];

/// Not the name of the release in `kube_controller`: what has no namespace would be both of theirs.
const NARROW: &str = "restpipe-two";

#[test]
fn a_webhook_of_some_namespaces_injects_there_and_leaves_the_others_alone() {
    let operator = shared();
    let cluster = &operator.release.cluster;
    let [one, two, other] = NAMESPACES.map(|name| cluster.namespace(name));
    let values = ["crds.install=false", r#"watchNamespaces=["scope-a","scope-b"]"#];
    let mark = audit().mark();
    let mut narrow = Operator::start(cluster, NARROW, "narrow-webhook", &values);
    let wanted = |name: &str| pod(name, json!({"restpipe.io/link": "nowhere"}));

    for space in [&one, &two] {
        // With the rights of its Roles it knows that there is no such link.
        eventually("a warning of the narrow webhook", SETTLE_TIME, || {
            let answer = create_with(space, &wanted("look"), "?dryRun=All");
            assert_eq!(answer.code, 201, "{}", answer.message());
            assert!(has_sidecar(&answer.body) || answer.warnings.is_empty());
            let text = format!("there is no RestPipeLink nowhere in namespace {}", space.name);
            let found = answer.warnings.iter().any(|warning| warning.contains(&text));
            if found { Ok(()) } else { Err(format!("{:?}", answer.warnings)) }
        });
        let mark = audit().mark();
        assert!(has_sidecar(&created(space, &wanted("web"))));
        assert_eq!(creation(mark, space).webhooks(), [format!("0 {NARROW}-webhook true")]);
    }
    left_alone(&other, "web");

    let user = narrow.release.user("webhook");
    let requests = audit().since(mark, &user);
    let refused: Vec<_> = requests.iter().filter(|request| request.code >= 400).collect();
    assert!(refused.is_empty(), "{refused:#?}");
    let watched = |object: &str| object.starts_with("scope-a/") || object.starts_with("scope-b/");
    assert!(requests.iter().any(|request| watched(&request.object)), "{requests:#?}");
    assert!(requests.iter().all(|request| watched(&request.object)), "{requests:#?}");

    // While it is away, pods are refused where it is asked, and nowhere else.
    narrow.kill_webhooks();
    let answer = create(&one, &wanted("meanwhile"));
    assert_eq!(answer.code, 500, "{}", answer.message());
    let disabled = pod("disabled", json!({"restpipe.io/link": "disabled"}));
    assert!(!has_sidecar(&created(&one, &disabled)), "one that wants none does not wait for it");
    left_alone(&other, "meanwhile");
    let elsewhere = cluster.namespace("scope-elsewhere");
    assert!(has_sidecar(&created(&elsewhere, &wanted("web"))), "the other release's");
    // Nobody is left to answer for these.
    cluster.helm(&["uninstall", NARROW, "--namespace", "narrow-webhook"]);
}

/// An annotated pod is taken as it is, and no webhook is asked.
fn left_alone(space: &Namespace<'_>, name: &str) {
    let mark = audit().mark();
    let answer = create(space, &pod(name, json!({"restpipe.io/link": "nowhere"})));
    assert_eq!(answer.code, 201, "{}", answer.message());
    assert!(!has_sidecar(&answer.body), "{:#}", answer.body);
    assert_eq!(answer.body["metadata"]["labels"], json!(null));
    assert_eq!(answer.warnings, Vec::<String>::new());
    assert_eq!(creation(mark, space).webhooks(), Vec::<String>::new());
}
