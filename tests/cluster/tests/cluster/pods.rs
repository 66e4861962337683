//! Kinds of pods: jobs, restricted namespaces, apps that call early and late.

use restpipe_cluster_tests::{POD_TIME, SETTLE_TIME, eventually, variable};
use serde_json::Value;

#[test]
fn a_job_with_a_sidecar_ends() {
    let shared = crate::shared();
    let space = shared.cluster.namespace("jobs");
    space.apply(&crate::pair(""));
    space.condition("rps/hub", "Ready", "True", POD_TIME);
    let image = variable("RESTPIPE_APP_IMAGE");
    space.apply(&format!(
        r#"apiVersion: batch/v1
kind: Job
metadata: {{name: once}}
spec:
  backoffLimit: 0
  template:
    metadata: {{annotations: {{restpipe.io/link: files}}}}
    spec:
      restartPolicy: Never
      containers:
      - name: app
        image: {image}
        command: [curl, -sS, --fail-with-body, -m, "60", "http://localhost:7070/server/time"]
"#
    ));
    space.kubectl(&["wait", "--for=condition=Complete", "job/once", "--timeout=120s"]);
    let said = space.kubectl(&["logs", "job/once", "-c", "app"]);
    assert!(said.contains("time_from_server"), "{said}");
    eventually("the record has only who is still there", SETTLE_TIME, || {
        let record = space.get(&["rpl", "files"])["status"]["connections"].to_string();
        let gone = record.contains("files-") && !record.contains("once-");
        if gone { Ok(()) } else { Err(record) }
    });
}

#[test]
fn an_app_can_call_while_it_starts_and_while_it_stops() {
    let shared = crate::shared();
    let space = shared.cluster.namespace("early-late");
    space.apply(&crate::pair(""));
    space.condition("rpl/files", "Ready", "True", POD_TIME);
    let image = variable("RESTPIPE_APP_IMAGE");
    // Its very first act is a call, and after SIGTERM it makes another; its log has both answers.
    space.apply(&format!(
        r#"apiVersion: v1
kind: Pod
metadata: {{name: caller, annotations: {{restpipe.io/link: files}}}}
spec:
  terminationGracePeriodSeconds: 30
  containers:
  - name: app
    image: {image}
    command:
    - sh
    - -c
    - |
      call() {{ curl -sS --fail-with-body -m 25 http://localhost:7070/server/cat//"$1" 2>&1; echo; }}
      trap 'call late; exit 0' TERM
      call early
      sleep infinity & wait
"#
    ));
    space.kubectl(&["wait", "--for=condition=Ready", "pod/caller", "--timeout=120s"]);
    let log = std::thread::scope(|scope| {
        let log = scope.spawn(|| space.kubectl(&["logs", "-f", "caller", "-c", "app"]));
        eventually("the first call is answered", POD_TIME, || {
            let log = space.kubectl(&["logs", "caller", "-c", "app"]);
            if log.contains("early") { Ok(()) } else { Err(log) }
        });
        space.kubectl(&["delete", "pod", "caller"]);
        log.join().expect("the log ends with the app")
    });
    assert!(log.contains(r#"{"result_from_server": "early"}"#), "{log}");
    assert!(log.contains(r#"{"result_from_server": "late"}"#), "{log}");
}

#[test]
fn pods_of_a_namespace_with_restricted_security_take_the_sidecar_which_has_no_token() {
    let shared = crate::shared();
    let space = shared.cluster.namespace("restricted");
    space.kubectl(&[
        "label",
        "namespace",
        "restricted",
        "pod-security.kubernetes.io/enforce=restricted",
    ]);
    space.apply(&crate::pair(""));
    space.condition("rpl/files", "Ready", "True", POD_TIME);
    space.curl("deploy/files", "/server/time").ok();
    let tokens = |container: &Value| {
        let mounts = container["volumeMounts"].as_array().into_iter().flatten();
        let names = mounts.filter_map(|mount| mount["name"].as_str());
        names.filter(|name| name.starts_with("kube-api-access-")).count()
    };
    for app in ["hub", "files"] {
        let spec = &space.get(&["pods", "-l", &format!("app={app}")])["items"][0]["spec"];
        let sidecar = &spec["initContainers"][0];
        assert_eq!(sidecar["name"], "restpipe", "{spec:#}");
        assert_eq!(tokens(sidecar), 0, "{sidecar:#}");
        assert_eq!(tokens(&spec["containers"][0]), 1, "the app of {app} has none: {spec:#}");
    }
}

#[test]
fn an_app_behind_the_sidecar_answers_and_learns_who_asks() {
    let shared = crate::shared();
    let space = shared.cluster.namespace("apps");
    space.apply(&crate::pair_with_app());
    space.condition("rpl/files", "Ready", "True", POD_TIME);
    let answer = eventually("the app listens", SETTLE_TIME, || {
        space.curl("deploy/hub", "/client/files/over/there//a%2Fb?q=1").result()
    });
    assert_eq!(answer, "/over/there/a%2Fb?q=1 hub.apps.servers.restpipe");
    let answer = space.curl("deploy/files", "/server/x").ok();
    assert_eq!(answer, "/x files");
    let url = space.exec("deploy/files", &["sh", "-c", "echo $RESTPIPE_URL"]).ok();
    assert_eq!(url.trim(), "http://127.0.0.1:7070");
}

#[test]
fn what_cannot_be_injected_is_refused_with_the_cause() {
    let shared = crate::shared();
    let space = shared.cluster.namespace("refused");
    let pod = |annotations: &str, spec: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: p, annotations: {{{annotations}}}}}\nspec: {{{spec} containers: [{{name: app, image: x}}]}}\n"
        )
    };
    for (annotations, spec, word) in [
        ("restpipe.io/link: a, restpipe.io/server: b", "", "restpipe.io/server"),
        ("restpipe.io/link: a", "hostNetwork: true,", "hostNetwork"),
        (r#"restpipe.io/link: a, restpipe.io/app-port: "99999""#, "", "app-port"),
        ("restpipe.io/link: a, restpipe.io/memory-limit: much", "", "memory-limit"),
        (r#"restpipe.io/link: """#, "", "restpipe.io/link"),
    ] {
        let refusal = space.try_apply(&pod(annotations, spec)).refused();
        assert!(refusal.contains("inject.restpipe.io") && refusal.contains(word), "{refusal}");
    }
    let unknown = space.try_apply(&pod("restpipe.io/link: nobody", ""));
    assert!(
        unknown.good && unknown.errors.contains("nobody"),
        "it waits for its Secret: {unknown:?}"
    );
    space.try_apply(&pod("", "hostNetwork: true,").replace("name: p", "name: q")).ok();
}
