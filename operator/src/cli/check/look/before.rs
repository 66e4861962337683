//! Before the installation.

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::Api;

use super::{Cluster, cannot};
use crate::cli::check::report::Report;
use crate::process::causes;

const SECTION: &str = "before the installation";

/// What the chart makes for the whole cluster.
const OF_THE_CLUSTER: [(&str, &str); 5] = [
    ("", "namespaces"),
    ("apiextensions.k8s.io", "customresourcedefinitions"),
    ("rbac.authorization.k8s.io", "clusterroles"),
    ("rbac.authorization.k8s.io", "clusterrolebindings"),
    ("admissionregistration.k8s.io", "mutatingwebhookconfigurations"),
];

/// What it makes in the release's namespace; Helm keeps its own record in a Secret.
const OF_THE_RELEASE: [(&str, &str); 8] = [
    ("", "serviceaccounts"),
    ("", "services"),
    ("", "secrets"),
    ("apps", "deployments"),
    ("rbac.authorization.k8s.io", "roles"),
    ("rbac.authorization.k8s.io", "rolebindings"),
    ("networking.k8s.io", "networkpolicies"),
    ("policy", "poddisruptionbudgets"),
];

/// What it makes in each of the watched namespaces.
const OF_A_WATCHED_NAMESPACE: [(&str, &str); 2] =
    [("rbac.authorization.k8s.io", "roles"), ("rbac.authorization.k8s.io", "rolebindings")];

/// What else Kubernetes asks of who makes such a thing with rights that they do not have themselves:
/// the verb, and on what.
const TO_GIVE_RIGHTS: [(&str, &str, &str); 4] = [
    ("clusterroles", "escalate", "clusterroles"),
    ("clusterrolebindings", "bind", "clusterroles"),
    ("roles", "escalate", "roles"),
    ("rolebindings", "bind", "roles"),
];

impl Cluster {
    /// Whether the one who asks may install the chart.
    pub(in crate::cli::check) async fn may_be_installed(&self, report: &mut Report) {
        for (group, resource) in OF_THE_CLUSTER {
            self.may_create(report, group, resource, None).await;
        }
        for (group, resource) in OF_THE_RELEASE {
            self.may_create(report, group, resource, Some(&self.options.system_namespace)).await;
        }
        for namespace in &self.options.watch_namespaces {
            self.is_there(report, namespace).await;
            for (group, resource) in OF_A_WATCHED_NAMESPACE {
                self.may_create(report, group, resource, Some(namespace)).await;
            }
        }
        for crd in restpipe_api::crds() {
            self.is_new(report, &crd.metadata.name.unwrap_or_default()).await;
        }
    }

    async fn may_create(
        &self,
        report: &mut Report,
        group: &str,
        resource: &str,
        namespace: Option<&str>,
    ) {
        let check = format!("you may create {resource}{}", place(namespace));
        match self.may("create", group, resource, namespace).await {
            Ok(true) => {
                report.ok(SECTION, check);
                for (made, verb, roles) in TO_GIVE_RIGHTS {
                    if made == resource {
                        self.may_give_rights(report, (group, verb, roles), made, namespace).await;
                    }
                }
            }
            Ok(false) => report.failed(
                SECTION,
                check,
                "you may not",
                "have somebody install who is cluster-admin",
            ),
            Err(error) => report.skipped(SECTION, check, &causes(&error)),
        }
    }

    /// Whether what they may make may have rights in it that they do not have themselves.
    async fn may_give_rights(
        &self,
        report: &mut Report,
        (group, verb, roles): (&str, &str, &str),
        made: &str,
        namespace: Option<&str>,
    ) {
        let check = format!("you may {verb} {roles}{}", place(namespace));
        match self.may(verb, group, roles, namespace).await {
            Ok(true) => report.ok(SECTION, check),
            Ok(false) => report.warning(
                SECTION,
                check,
                &format!(
                    "you may not: {made} that give more rights than you have yourself will be refused"
                ),
                "have somebody install who is cluster-admin, unless you have all rights that the chart gives to its parts",
            ),
            Err(error) => report.skipped(SECTION, check, &causes(&error)),
        }
    }

    /// Helm makes the release's namespace, and no other.
    async fn is_there(&self, report: &mut Report, namespace: &str) {
        let check = format!("the watched namespace {namespace} is there");
        match Api::<Namespace>::all(self.client.clone()).get_opt(namespace).await {
            Ok(Some(_)) => report.ok(SECTION, check),
            Ok(None) => {
                let hint = format!("`kubectl create namespace {namespace}`");
                report.failed(SECTION, check, "it is not", &hint);
            }
            Err(error) => cannot(report, SECTION, check, &error),
        }
    }

    async fn is_new(&self, report: &mut Report, crd: &str) {
        let check = format!("{crd} is not there yet");
        match Api::<CustomResourceDefinition>::all(self.client.clone()).get_opt(crd).await {
            Ok(None) => report.ok(SECTION, check),
            Ok(Some(_)) => {
                let hint = "install with the same release name and namespace as before, or use `restpipe-operator check` without --pre";
                report.warning(SECTION, check, "it is: RestPipe is or was installed", hint);
            }
            Err(error) => cannot(report, SECTION, check, &error),
        }
    }
}

fn place(namespace: Option<&str>) -> String {
    namespace.map(|namespace| format!(" in {namespace}")).unwrap_or_default()
}
