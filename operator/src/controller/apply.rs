//! Reading and writing objects.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Secret, Service};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Resource, ResourceExt};
use restpipe_api::names::{FIELD_MANAGER, MANAGED_BY};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::context::Context;
use super::error::Error;
use super::world::key_of;
use crate::plan::CaWrite;
use crate::plan::conditions::Failure;
use crate::seen::{Key, SecretSeen};

/// A Secret, and the version at which it was read.
pub(super) struct Read {
    pub(super) seen: SecretSeen,
    version: Option<String>,
    uid: Option<String>,
}

impl Read {
    fn of(secret: Secret) -> Self {
        let (uid, version) = (secret.uid(), secret.resource_version());
        Self { seen: seen(secret), version, uid }
    }
}

/// What plans need to know of a Secret.
pub(super) fn seen(secret: Secret) -> SecretSeen {
    let owner = secret.owner_references().iter().find(|owner| owner.controller == Some(true));
    SecretSeen {
        owner: owner.map(|owner| owner.uid.clone()),
        ours: is_ours(secret.labels()),
        type_: secret.type_.unwrap_or_default(),
        annotations: secret.metadata.annotations.unwrap_or_default(),
        data: secret
            .data
            .unwrap_or_default()
            .into_iter()
            .map(|(key, value)| (key, value.0))
            .collect(),
    }
}

/// The same without its private key, for keeping.
pub(super) fn without_key(mut secret: SecretSeen) -> SecretSeen {
    secret.data.remove(restpipe_identity::TLS_KEY);
    secret
}

fn is_ours(labels: &BTreeMap<String, String>) -> bool {
    labels.get(MANAGED_BY.0).is_some_and(|value| value == MANAGED_BY.1)
}

/// What a status says of a write that failed. What solves itself is not told: an object that is
/// gone or has changed, a namespace that ends, a login that is just being renewed, too many requests.
pub(super) fn failure(error: &Error) -> Failure {
    match error {
        Error::Api { doing, source: kube::Error::Api(status) }
            if refuses(status) && !error.namespace_ends() =>
        {
            let said = if status.message.is_empty() { &status.reason } else { &status.message };
            Failure::refused(doing, said)
        }
        _ => Failure::Passing,
    }
}

fn refuses(status: &kube::core::Status) -> bool {
    match status.code {
        401 | 404 | 408 | 409 | 429 => false,
        400..=499 => true,
        // An admission webhook that cannot be reached lets nothing pass until it is mended.
        500 => status.message.contains("failed calling webhook"),
        _ => false,
    }
}

impl Context {
    fn secrets(&self, namespace: &str) -> Api<Secret> {
        Api::namespaced(self.clients.working.clone(), namespace)
    }

    /// Reads a Secret.
    pub(super) async fn secret(&self, key: &Key) -> Result<Option<Read>, Error> {
        let found = self.secrets(&key.namespace).get_opt(&key.name).await;
        let found = found.map_err(Error::api(format!("cannot read the Secret {key}")))?;
        Ok(found.map(Read::of))
    }

    /// Reads a Service.
    pub(super) async fn service(&self, key: &Key) -> Result<Option<Service>, Error> {
        let api: Api<Service> = Api::namespaced(self.clients.working.clone(), &key.namespace);
        let found = api.get_opt(&key.name).await;
        found.map_err(Error::api(format!("cannot read the Service {key}")))
    }

    /// Applies a Secret, over the one that was seen.
    pub(super) async fn apply_secret(
        &self,
        mut secret: Secret,
        over: Option<&Read>,
    ) -> Result<SecretSeen, Error> {
        secret.metadata.uid = over.and_then(|read| read.uid.clone());
        let key = key_of(&secret);
        let api = self.secrets(&key.namespace);
        let applied = self.apply(&api, &secret, over.is_some(), "Secret", "secret").await?;
        self.secret_versions.wrote(&key, applied.resource_version());
        Ok(seen(applied))
    }

    /// Applies a Service, over the one that was seen.
    pub(super) async fn apply_service(
        &self,
        mut service: Service,
        over: Option<&Service>,
    ) -> Result<(), Error> {
        service.metadata.uid = over.and_then(ResourceExt::uid);
        let key = key_of(&service);
        let api = Api::namespaced(self.clients.working.clone(), &key.namespace);
        let applied = self.apply(&api, &service, over.is_some(), "Service", "service").await?;
        self.service_versions.wrote(&key, applied.resource_version());
        Ok(())
    }

    /// Fields of an object that is ours are ours by force. Where none was seen, nothing is forced:
    /// if somebody has just made one of that name, that is a conflict, and it stays as it is. The
    /// UID in the object sees to it that one of the same name that came meanwhile is not meant.
    async fn apply<K>(
        &self,
        api: &Api<K>,
        object: &K,
        over: bool,
        kind: &str,
        what: &'static str,
    ) -> Result<K, Error>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Serialize + std::fmt::Debug,
    {
        self.gate.check()?;
        let mut params = PatchParams::apply(FIELD_MANAGER);
        params.force = over;
        let name = object.name_any();
        let applied = api.patch(&name, &params, &Patch::Apply(object)).await;
        let doing = || format!("cannot write the {kind} {}", key_of(object));
        let applied = applied.map_err(|source| Error::Api { doing: doing(), source })?;
        self.metrics.wrote(what);
        Ok(applied)
    }

    /// Stores a CA: makes it, or replaces the very version that was read. Whoever comes second
    /// fails, so that there is never more than one.
    pub(super) async fn write_ca(&self, write: CaWrite, over: Option<&Read>) -> Result<(), Error> {
        self.gate.check()?;
        let CaWrite { secret, create } = write;
        let key = key_of(&secret);
        let api = self.secrets(&key.namespace);
        let written = if create {
            let params =
                PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..Default::default() };
            api.create(&params, &secret).await
        } else {
            let patch = replacement(&secret, over)?;
            let params =
                PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..Default::default() };
            api.patch(&key.name, &params, &Patch::Merge(&patch)).await
        };
        let written = written.map_err(Error::api(format!("cannot store the CA {key}")))?;
        self.secret_versions.wrote(&key, written.resource_version());
        self.metrics.wrote("ca");
        Ok(())
    }
}

/// A merge patch that makes of the Secret that was read the one that is wanted, and fails if it
/// has changed since. (A PUT would do the same, and need one more right.)
fn replacement(wanted: &Secret, over: Option<&Read>) -> Result<Value, serde_json::Error> {
    let mut patch = serde_json::to_value(wanted)?;
    if let Some(read) = over {
        patch["metadata"]["resourceVersion"] = json!(read.version);
        patch["metadata"]["uid"] = json!(read.uid);
        let gone = |part: &mut Value, old: &mut dyn Iterator<Item = &String>| {
            if let Some(fields) = part.as_object_mut() {
                for key in old {
                    fields.entry(key).or_insert(Value::Null);
                }
            }
        };
        gone(&mut patch["data"], &mut read.seen.data.keys());
        let ours = |key: &&String| key.starts_with("restpipe.io/");
        gone(&mut patch["metadata"]["annotations"], &mut read.seen.annotations.keys().filter(ours));
    }
    Ok(patch)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;

    use super::*;

    #[test]
    fn a_replacement_names_the_version_and_drops_what_is_gone() {
        let secret = |keys: &[&str], annotations: &[&str]| Secret {
            metadata: kube::api::ObjectMeta {
                name: Some("ca".into()),
                resource_version: Some("7".into()),
                uid: Some("u".into()),
                annotations: Some(
                    annotations.iter().map(|key| ((*key).to_owned(), "1".to_owned())).collect(),
                ),
                ..Default::default()
            },
            data: Some(keys.iter().map(|key| ((*key).to_owned(), ByteString(vec![1]))).collect()),
            ..Default::default()
        };
        let old = Read::of(secret(&["ca.crt", "next.crt"], &["restpipe.io/settled", "of/others"]));
        let mut wanted = secret(&["ca.crt"], &["restpipe.io/rotated"]);
        wanted.metadata.resource_version = None;
        let patch = replacement(&wanted, Some(&old)).expect("JSON");
        assert_eq!(patch["metadata"]["resourceVersion"], "7");
        assert_eq!(patch["data"], json!({"ca.crt": "AQ==", "next.crt": null}));
        let annotations = json!({"restpipe.io/rotated": "1", "restpipe.io/settled": null});
        assert_eq!(patch["metadata"]["annotations"], annotations);
    }

    fn refused(code: u16, message: &str) -> Error {
        let status = kube::core::Status::failure(message, "Forbidden").with_code(code);
        let source = kube::Error::Api(Box::new(status));
        Error::Api { doing: "cannot write the Secret a/b".into(), source }
    }

    #[test]
    fn what_the_api_server_refuses_is_told_in_its_own_words_and_what_passes_is_not() {
        let quota = r#"secrets "b" is forbidden: exceeded quota: few"#;
        let unreachable = r#"failed calling webhook "policy.example": no endpoints available"#;
        for (code, message) in [
            (403, quota),
            (422, "nodePort: Invalid value: 30072: provided port is already allocated"),
            (400, "admission webhook denied the request"),
            (500, unreachable),
        ] {
            let Failure::Refused(trouble) = failure(&refused(code, message)) else {
                panic!("{code} {message} passes");
            };
            assert_eq!(trouble.reason, "WriteFailed");
            let told =
                format!("cannot write the Secret a/b, the API server refuses it: {message}; ");
            assert!(trouble.detail.starts_with(&told), "{}", trouble.detail);
        }
        let ends = "unable to create new content in namespace a because it is being terminated";
        for (code, message) in [
            (401, "Unauthorized"),
            (403, ends),
            (404, "not found"),
            (409, "conflict"),
            (429, "too many requests"),
            (500, "etcdserver: no leader"),
            (503, "unavailable"),
        ] {
            assert_eq!(failure(&refused(code, message)), Failure::Passing, "{code} {message}");
        }
    }
}
