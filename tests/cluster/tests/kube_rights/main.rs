//! Who may do what: the chart's own ServiceAccounts, asked of the API server.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use restpipe_cluster_tests::{Cluster, Release, SYSTEM, run_with_input, variable};
use serde_json::Value;

/// Namespaces of the release that watches only these.
const WATCHED: [&str; 2] = ["watched-a", "watched-b"];

const KINDS: [&str; 2] = ["restpipe.io/restpipelinks", "restpipe.io/restpipeservers"];
const READ: &[&str] = &["get", "list", "watch"];

/// `VERB GROUP/RESOURCE[ NAME]` for everything that is granted.
type Rights = BTreeSet<String>;

/// The release that is for all namespaces.
fn everywhere() -> &'static Release {
    static RELEASE: OnceLock<Release> = OnceLock::new();
    RELEASE.get_or_init(|| Release::install(&Cluster::api_only(), "restpipe", SYSTEM, &[]))
}

/// The release that is for two namespaces.
fn narrow() -> &'static Release {
    static RELEASE: OnceLock<Release> = OnceLock::new();
    RELEASE.get_or_init(|| {
        let cluster = Cluster::api_only();
        for namespace in WATCHED {
            cluster.apply(&format!(
                "{{apiVersion: v1, kind: Namespace, metadata: {{name: {namespace}}}}}"
            ));
        }
        let watched = r#"watchNamespaces=["watched-a","watched-b"]"#;
        Release::install(
            &cluster,
            "restpipe-narrow",
            "narrow-system",
            &["crds.install=false", watched],
        )
    })
}

fn grant(rights: &mut Rights, resources: &[&str], verbs: &[&str]) {
    for resource in resources {
        rights.extend(verbs.iter().map(|verb| format!("{verb} {resource}")));
    }
}

/// What the controller does with what users have.
fn controller_rights() -> Rights {
    let mut rights = Rights::new();
    grant(&mut rights, &KINDS, READ);
    let statuses = KINDS.map(|kind| format!("{kind}/status"));
    grant(&mut rights, &[&statuses[0], &statuses[1]], &["get", "patch"]);
    grant(&mut rights, &["/secrets", "/services"], &["get", "list", "watch", "create", "patch"]);
    grant(&mut rights, &["/pods"], READ);
    grant(&mut rights, &["events.k8s.io/events"], &["create", "patch"]);
    rights
}

/// What it does in its own namespace beside that.
fn controller_own_rights() -> Rights {
    let mut rights = Rights::new();
    grant(&mut rights, &["/secrets"], &["get", "list", "watch", "create", "patch", "delete"]);
    grant(&mut rights, &["coordination.k8s.io/leases"], &["get", "create", "patch", "update"]);
    rights
}

/// What it does with the webhook's configuration.
fn controller_webhook_rights(release: &Release) -> Rights {
    let resource = "admissionregistration.k8s.io/mutatingwebhookconfigurations";
    let name = release.part("webhook");
    ["get", "patch"].iter().map(|verb| format!("{verb} {resource} {name}")).collect()
}

fn webhook_rights() -> Rights {
    let mut rights = Rights::new();
    grant(&mut rights, &KINDS, READ);
    rights
}

/// The question what one may do in a namespace.
fn question(namespace: &str) -> String {
    format!(
        r#"{{"apiVersion":"authorization.k8s.io/v1","kind":"SelfSubjectRulesReview","spec":{{"namespace":"{namespace}"}}}}"#
    )
}

/// How it is asked.
const ASK: [&str; 6] = ["create", "--validate=false", "-o", "json", "-f", "-"];

/// Somebody whom nobody has given anything.
const NOBODY: [&str; 4] = [
    "--as=system:serviceaccount:default:nobody",
    "--as-group=system:serviceaccounts",
    "--as-group=system:serviceaccounts:default",
    "--as-group=system:authenticated",
];

/// What a part may do in a namespace, beyond what every account may.
fn rights(release: &Release, component: &str, namespace: &str) -> Rights {
    let question = question(namespace);
    let ours = flat(&release.kubectl_as(component, &ASK, &question).ok());
    let nobody = [&ASK[..], &NOBODY].concat();
    let environment = release.cluster.environment();
    let everybody = run_with_input(&variable("KUBECTL"), &nobody, &environment, &question);
    let everybody = flat(&everybody.ok());
    ours.difference(&everybody).cloned().collect()
}

fn flat(review: &str) -> Rights {
    let review: Value = serde_json::from_str(review).expect("JSON");
    let status = &review["status"];
    assert_eq!(status["incomplete"], false, "{review}");
    let list = |rule: &Value, key: &str| -> Vec<String> {
        let items = rule[key].as_array().cloned().unwrap_or_default();
        items.iter().filter_map(|item| item.as_str().map(str::to_owned)).collect()
    };
    let mut rights = Rights::new();
    for rule in status["resourceRules"].as_array().expect("rules") {
        for verb in list(rule, "verbs") {
            for group in list(rule, "apiGroups") {
                for resource in list(rule, "resources") {
                    let right = format!("{verb} {group}/{resource}");
                    let names = list(rule, "resourceNames");
                    if names.is_empty() {
                        rights.insert(right);
                    } else {
                        rights.extend(names.iter().map(|name| format!("{right} {name}")));
                    }
                }
            }
        }
    }
    rights
}

fn plus(parts: &[Rights]) -> Rights {
    parts.iter().flatten().cloned().collect()
}

#[test]
fn the_controller_may_do_what_it_does_and_nothing_else() {
    let release = everywhere();
    let mut namespaces = Rights::new();
    grant(&mut namespaces, &["/namespaces"], READ);
    let everywhere = plus(&[controller_rights(), namespaces, controller_webhook_rights(release)]);
    for namespace in ["default", "kube-system"] {
        assert_eq!(rights(release, "controller", namespace), everywhere, "in {namespace}");
    }
    let own = plus(&[everywhere, controller_own_rights()]);
    assert_eq!(rights(release, "controller", SYSTEM), own);
}

#[test]
fn the_webhook_may_read_the_two_kinds_and_nothing_else() {
    let release = everywhere();
    for namespace in ["default", "kube-system", SYSTEM] {
        assert_eq!(rights(release, "webhook", namespace), webhook_rights(), "in {namespace}");
    }
}

#[test]
fn with_watched_namespaces_nothing_is_granted_elsewhere() {
    let release = narrow();
    let configuration = controller_webhook_rights(release);
    for namespace in WATCHED {
        let wanted = plus(&[controller_rights(), configuration.clone()]);
        assert_eq!(rights(release, "controller", namespace), wanted, "in {namespace}");
        assert_eq!(rights(release, "webhook", namespace), webhook_rights(), "in {namespace}");
    }
    for namespace in ["default", "kube-system"] {
        assert_eq!(rights(release, "controller", namespace), configuration, "in {namespace}");
        assert_eq!(rights(release, "webhook", namespace), Rights::new(), "in {namespace}");
    }
    let own = plus(&[configuration, controller_own_rights()]);
    assert_eq!(rights(release, "controller", &release.namespace), own);
    assert_eq!(rights(release, "webhook", &release.namespace), Rights::new());
}

#[test]
fn the_webhook_cannot_read_a_secret_whatever_it_asks_for() {
    let release = everywhere();
    let cluster = &release.cluster;
    cluster.apply("{apiVersion: v1, kind: Secret, metadata: {name: treasure, namespace: default}, stringData: {a: b}}");
    for args in [
        &["get", "secret", "treasure", "-n", "default"][..],
        &["get", "secrets", "-n", "default"],
        &["get", "secrets", "-A"],
        &["get", "secret", "restpipe-webhook-tls", "-n", SYSTEM],
        &["get", "secrets", "-n", SYSTEM],
        &["get", "pods", "-A"],
        &["get", "configmaps", "-n", SYSTEM],
        &["delete", "secret", "treasure", "-n", "default"],
        &["create", "token", "restpipe-controller", "-n", SYSTEM],
        &["auth", "reconcile", "-f", "-"],
    ] {
        let role = "{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: grab}, rules: []}";
        let said = release.kubectl_as("webhook", args, role).refused();
        assert!(said.contains("orbidden"), "{args:?}: {said}");
    }
    let said = release.kubectl_as("webhook", &["get", "rps,rpl", "-A"], "").ok();
    assert!(!said.contains("Forbidden"), "{said}");
}

#[test]
fn the_controller_cannot_delete_what_users_have_nor_make_itself_more() {
    let release = everywhere();
    let cluster = &release.cluster;
    let space = cluster.namespace("rights");
    space.apply("{apiVersion: restpipe.io/v1alpha1, kind: RestPipeServer, metadata: {name: hub}}");
    space.apply("{apiVersion: v1, kind: Secret, metadata: {name: treasure}, stringData: {a: b}}");
    let body = r#"{"spec":{"service":{"port":1}}}"#;
    for args in [
        &["delete", "secret", "treasure", "-n", "rights"][..],
        &["delete", "rps", "hub", "-n", "rights"],
        &["patch", "rps", "hub", "-n", "rights", "--type=merge", "-p", body],
        &["delete", "mutatingwebhookconfiguration", "restpipe-webhook"],
        &["get", "mutatingwebhookconfigurations"],
        &["get", "configmaps", "-n", "rights"],
        &["get", "clusterroles"],
        &["create", "token", "restpipe-webhook", "-n", SYSTEM],
        &["create", "--validate=false", "-f", "-"],
    ] {
        let pod = "{apiVersion: v1, kind: Pod, metadata: {name: grab, namespace: rights}, spec: {containers: [{name: a, image: a}]}}";
        let said = release.kubectl_as("controller", args, pod).refused();
        assert!(said.contains("orbidden"), "{args:?}: {said}");
    }
    let said = release.kubectl_as("controller", &["get", "rps,rpl", "-A"], "").ok();
    assert!(said.contains("hub"), "{said}");
}
