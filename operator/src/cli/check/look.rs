//! The looks themselves.

mod before;
mod injection;
mod objects;
mod parts;

use std::fmt::Display;

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

/// Whether Kubernetes 1.`minor` has what RestPipe needs; some providers write `33+`.
fn is_new_enough(minor: &str) -> bool {
    let digits: String = minor.chars().take_while(char::is_ascii_digit).collect();
    digits.parse::<u32>().is_ok_and(|minor| minor >= OLDEST_MINOR)
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
        if is_new_enough(&version.minor) {
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

    /// Whether the one who asks has a right; without a namespace, in all of them.
    async fn may(
        &self,
        verb: &str,
        group: &str,
        resource: &str,
        namespace: Option<&str>,
    ) -> Result<bool, kube::Error> {
        let attributes = ResourceAttributes {
            verb: Some(verb.into()),
            group: Some(group.into()),
            resource: Some(resource.into()),
            namespace: namespace.map(str::to_owned),
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

    /// Whether the kinds are installed. If one is known not to be there, its objects cannot be
    /// looked at.
    pub(super) async fn kinds(&self, report: &mut Report) -> bool {
        const SECTION: &str = "kinds";
        let mut there_are_all = true;
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
                Ok(None) => {
                    there_are_all = false;
                    let hint = "install the chart, with crds.install=true";
                    report.failed(SECTION, check, "it is not there", hint);
                }
                Err(error) => cannot(report, SECTION, check, &error),
            }
        }
        there_are_all
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_kubernetes_is_told_from_a_new_one_however_its_provider_writes_it() {
        for new in ["33", "33+", "40", "100"] {
            assert!(is_new_enough(new), "{new:?}");
        }
        for old in ["32", "32+", "9", "", "+"] {
            assert!(!is_new_enough(old), "{old:?}");
        }
    }
}
