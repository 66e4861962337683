//! The looks themselves.

mod injection;
mod objects;
mod parts;

use std::fmt::Display;
use std::time::Duration;

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, PostParams};
use kube::core::NamespaceResourceScope;
use kube::{Client, Resource};
use serde::de::DeserializeOwned;

use super::Options;
use super::report::Report;
use crate::process::causes;

/// How long one answer of the cluster may take.
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);

/// The oldest Kubernetes that works, as its minor version: native sidecars are stable since.
const OLDEST_MINOR: u32 = 33;

/// A cluster that is looked at.
pub(super) struct Cluster {
    pub(super) client: Client,
    pub(super) options: Options,
}

/// Whether somebody may not look.
fn forbidden(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.is_forbidden())
}

impl Cluster {
    /// Whether there is an API server, and one that is new enough. If there is none, nothing else
    /// can be looked at.
    pub(super) async fn api(&self, report: &mut Report) -> bool {
        const SECTION: &str = "kubernetes-api";
        let version = match self.client.apiserver_version().await {
            Ok(version) => version,
            Err(error) => {
                let hint = "check the current context: `kubectl config current-context`, `kubectl version`";
                report.failed(SECTION, "can be reached", &causes(&error), hint);
                return false;
            }
        };
        report.ok(SECTION, "can be reached");
        let check = format!("is 1.{OLDEST_MINOR} or newer ({})", version.git_version);
        let digits: String = version.minor.chars().take_while(char::is_ascii_digit).collect();
        if digits.parse::<u32>().is_ok_and(|minor| minor >= OLDEST_MINOR) {
            report.ok(SECTION, check);
        } else {
            report.failed(
                SECTION,
                check,
                "sidecars need native sidecar containers",
                "upgrade the cluster",
            );
        }
        true
    }

    /// Whether the one who asks may install the chart.
    pub(super) async fn may_be_installed(&self, report: &mut Report) {
        const SECTION: &str = "before the installation";
        let kinds = [
            ("", "namespaces", None),
            ("apiextensions.k8s.io", "customresourcedefinitions", None),
            ("rbac.authorization.k8s.io", "clusterroles", None),
            ("rbac.authorization.k8s.io", "clusterrolebindings", None),
            ("admissionregistration.k8s.io", "mutatingwebhookconfigurations", None),
            ("", "serviceaccounts", Some(&self.options.system_namespace)),
            ("", "services", Some(&self.options.system_namespace)),
            ("apps", "deployments", Some(&self.options.system_namespace)),
        ];
        for (group, resource, namespace) in kinds {
            let check = format!("you may create {resource}");
            match self.may("create", group, resource, namespace).await {
                Ok(true) => report.ok(SECTION, check),
                Ok(false) => report.failed(
                    SECTION,
                    check,
                    "you may not",
                    "have somebody install who is cluster-admin",
                ),
                Err(error) => report.skipped(SECTION, check, &causes(&error)),
            }
        }
        for crd in restpipe_api::crds() {
            let name = crd.metadata.name.unwrap_or_default();
            let there =
                Api::<CustomResourceDefinition>::all(self.client.clone()).get_opt(&name).await;
            if let Ok(Some(_)) = there {
                let hint = "install with the same release name and namespace as before, or use `restpipe-operator check` without --pre";
                report.warning(
                    SECTION,
                    format!("{name} is not there yet"),
                    "it is: RestPipe is or was installed",
                    hint,
                );
            }
        }
    }

    async fn may(
        &self,
        verb: &str,
        group: &str,
        resource: &str,
        namespace: Option<&String>,
    ) -> Result<bool, kube::Error> {
        let attributes = ResourceAttributes {
            verb: Some(verb.into()),
            group: Some(group.into()),
            resource: Some(resource.into()),
            namespace: namespace.cloned(),
            ..ResourceAttributes::default()
        };
        let spec = SelfSubjectAccessReviewSpec {
            resource_attributes: Some(attributes),
            ..Default::default()
        };
        let review = SelfSubjectAccessReview { spec, ..Default::default() };
        let answer = Api::all(self.client.clone()).create(&PostParams::default(), &review).await?;
        Ok(answer.status.is_some_and(|status| status.allowed))
    }

    /// Whether the kinds are installed.
    pub(super) async fn kinds(&self, report: &mut Report) {
        const SECTION: &str = "kinds";
        for crd in restpipe_api::crds() {
            let name = crd.metadata.name.unwrap_or_default();
            let check = format!("{name} is established");
            match Api::<CustomResourceDefinition>::all(self.client.clone()).get_opt(&name).await {
                Ok(Some(there)) => {
                    let established =
                        there.status.and_then(|status| status.conditions).unwrap_or_default();
                    let established = established
                        .iter()
                        .any(|one| one.type_ == "Established" && one.status == "True");
                    if established {
                        report.ok(SECTION, check);
                    } else {
                        report.failed(
                            SECTION,
                            check,
                            "it is there, and not established",
                            &format!("see `kubectl describe crd {name}`"),
                        );
                    }
                }
                Ok(None) => report.failed(
                    SECTION,
                    check,
                    "it is not there",
                    "install the chart, with crds.install=true",
                ),
                Err(error) => cannot(report, SECTION, check, &error),
            }
        }
    }

    /// All objects of a kind that are to be looked at.
    async fn list<K>(&self) -> Result<Vec<K>, kube::Error>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + DeserializeOwned
            + std::fmt::Debug,
    {
        let namespaces: Vec<_> = match &self.options.namespace {
            Some(namespace) => vec![namespace.clone()],
            None => self.options.watch_namespaces.clone(),
        };
        if namespaces.is_empty() {
            return Ok(Api::all(self.client.clone()).list(&Default::default()).await?.items);
        }
        let mut all = Vec::new();
        for namespace in namespaces {
            let api = Api::<K>::namespaced(self.client.clone(), &namespace);
            all.extend(api.list(&Default::default()).await?.items);
        }
        Ok(all)
    }
}

/// What is said of something that cannot be looked at.
fn cannot(
    report: &mut Report,
    section: &'static str,
    check: impl Into<String> + Display,
    error: &kube::Error,
) {
    if forbidden(error) {
        report.skipped(section, check, "you may not look");
    } else {
        report.failed(section, check, &causes(error), "");
    }
}
