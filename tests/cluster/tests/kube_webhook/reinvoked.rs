//! A pod that another webhook changes after ours is shown to ours once more.

use restpipe_cluster_tests::{Namespace, SETTLE_TIME, eventually};
use serde_json::{Value, json};

use crate::late::Late;
use crate::{audit, create, created, creation, has_sidecar, pod, shared};

/// Sorts behind `restpipe-webhook`: the API server calls them by the names of their configurations.
const CONFIGURATION: &str = "zz-late";
const OURS: &str = "restpipe-webhook";

/// As what injects by labels does it: changes a pod that has our sidecar, in the way that its label
/// says, once. With the label `first` its container has to be the first, as ours has.
fn change(pod: &Value) -> Option<Value> {
    let how = pod["metadata"]["labels"]["late"].as_str()?;
    let mut names = pod["spec"]["containers"].as_array()?.iter().chain(inits(pod));
    if !has_sidecar(pod) {
        return None;
    }
    if names.any(|container| container["name"] == "late") {
        let place = inits(pod).position(|container| container["name"] == "late")?;
        let from = format!("/spec/initContainers/{place}");
        return (how == "first" && place > 0)
            .then(|| json!([{"op": "move", "from": from, "path": "/spec/initContainers/0"}]));
    }
    let mut late = json!({"name": "late", "image": "late"});
    let path = match how {
        "init" | "first" => "/spec/initContainers/0",
        "own" => {
            late["env"] = json!([{"name": "RESTPIPE_URL", "value": "http://elsewhere"}]);
            "/spec/containers/-"
        }
        "port" => {
            late["ports"] = json!([{"containerPort": 7070}]);
            "/spec/containers/-"
        }
        _ => "/spec/containers/-",
    };
    Some(json!([{"op": "add", "path": path, "value": late}]))
}

fn inits(pod: &Value) -> impl Iterator<Item = &Value> {
    static NONE: Vec<Value> = Vec::new();
    pod["spec"]["initContainers"].as_array().unwrap_or(&NONE).iter()
}

fn wanted(name: &str, how: &str) -> Value {
    let mut wanted = pod(name, json!({"restpipe.io/link": "files"}));
    wanted["metadata"]["labels"] = json!({"late": how});
    wanted
}

fn url(container: &Value) -> Vec<&Value> {
    let all = container["env"].as_array();
    let named = all.into_iter().flatten().filter(|one| one["name"] == "RESTPIPE_URL");
    named.map(|one| &one["value"]).collect()
}

/// Exactly one sidecar and one volume of ours, as where nobody else changes a pod.
fn is_injected_once(made: &Value, plain: &Value) {
    let sidecars: Vec<_> = inits(made).filter(|one| one["name"] == "restpipe").collect();
    assert_eq!(sidecars, [&plain["spec"]["initContainers"][0]], "{made:#}");
    let volumes = |pod: &Value| pod["spec"]["volumes"].clone();
    assert_eq!(volumes(made), volumes(plain));
    assert_eq!(made["metadata"]["annotations"], plain["metadata"]["annotations"]);
}

#[test]
fn a_container_that_comes_after_ours_is_served_too_and_there_is_one_sidecar() {
    let operator = shared();
    let cluster = &operator.release.cluster;
    let space = cluster.namespace("reinvoked");
    let plain = created(&space, &pod("plain", json!({"restpipe.io/link": "files"})));
    let late = Late::serve(change);
    let configuration = late.configuration(CONFIGURATION, "reinvoked");
    cluster.apply(&configuration.to_string());
    eventually("the API server asks the other webhook", SETTLE_TIME, || {
        let path = "/api/v1/namespaces/reinvoked/pods?dryRun=All";
        let answer = cluster.request("POST", path, &wanted("look", "container").to_string());
        assert_eq!(answer.code, 201, "{}", answer.message());
        if answer.body["spec"]["containers"][1].is_object() { Ok(()) } else { Err(String::new()) }
    });

    let mark = audit().mark();
    let made = created(&space, &wanted("web", "container"));
    is_injected_once(&made, &plain);
    let containers = made["spec"]["containers"].as_array().expect("a list");
    let names: Vec<_> = containers.iter().map(|one| &one["name"]).collect();
    assert_eq!(names, ["app", "late"]);
    for container in containers {
        assert_eq!(url(container), ["http://127.0.0.1:7070"], "{container:#}");
    }
    assert_eq!(
        space.get(&["pod/web"])["spec"],
        made["spec"],
        "what is stored is what was answered"
    );
    // It was indeed so: ours, the other, and ours once more because of that one.
    assert_eq!(
        creation(mark, &space).webhooks()[..3],
        [format!("0 {OURS} true"), format!("0 {CONFIGURATION} true"), format!("1 {OURS} true")]
    );

    before_ours_and_with_an_address_of_its_own(&space, &plain);
    // One that takes the gateway's port is seen as well.
    let answer = create(&space, &wanted("port", "port"));
    assert_eq!(answer.code, 403, "{}", answer.message());
    assert!(
        answer.message().contains(r#"container "late" declares port 7070"#),
        "{}",
        answer.message()
    );
    // Pods that do not ask are nobody's business.
    let other = created(&space, &pod("other", json!({"a": "b"})));
    assert_eq!(other["spec"]["containers"].as_array().map(Vec::len), Some(1));
    cluster.kubectl(&["delete", "mutatingwebhookconfiguration", CONFIGURATION]);
}

fn init_names(pod: &Value) -> Vec<&Value> {
    inits(pod).map(|one| &one["name"]).collect()
}

fn before_ours_and_with_an_address_of_its_own(space: &Namespace<'_>, plain: &Value) {
    let mark = audit().mark();
    let made = created(space, &wanted("init", "init"));
    is_injected_once(&made, plain);
    assert_eq!(init_names(&made), ["restpipe", "late"], "ours is first again");
    assert_eq!(url(&made["spec"]["initContainers"][1]), ["http://127.0.0.1:7070"]);
    let calls = creation(mark, space).webhooks();
    assert!(calls.contains(&format!("1 {OURS} true")), "asked, and moved: {calls:?}");

    // Another that wants to be the first has the last word, as its name is behind ours: each is
    // asked twice, and then it has an end.
    let mark = audit().mark();
    let made = created(space, &wanted("first", "first"));
    is_injected_once(&made, plain);
    assert_eq!(init_names(&made), ["late", "restpipe"]);
    assert_eq!(url(&made["spec"]["initContainers"][0]), ["http://127.0.0.1:7070"]);
    let rounds = [0, 1].map(|round| [OURS, CONFIGURATION].map(|who| format!("{round} {who} true")));
    assert_eq!(creation(mark, space).webhooks(), rounds.concat());

    let mark = audit().mark();
    let made = created(space, &wanted("own", "own"));
    is_injected_once(&made, plain);
    assert_eq!(url(&made["spec"]["containers"][1]), ["http://elsewhere"]);
    let calls = creation(mark, space).webhooks();
    assert!(calls.contains(&format!("1 {OURS} false")), "asked, and nothing to add: {calls:?}");
}
