//! Parts that all objects of ours have.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::{Resource, ResourceExt};
use restpipe_api::names::{MANAGED_BY, PART_OF};

/// The type of all Secrets that hold a certificate and its key.
pub(super) const SECRET_TYPE: &str = "kubernetes.io/tls";

/// Whose object it is.
pub(super) struct Owner {
    pub(super) uid: String,
    pub(super) namespace: String,
    /// Label with the owner's name, which selectors use.
    label: (&'static str, String),
    reference: Option<OwnerReference>,
}

impl Owner {
    pub(super) fn of<K: Resource<DynamicType = ()>>(object: &K, label: &'static str) -> Self {
        Self {
            uid: object.uid().unwrap_or_default(),
            namespace: object.namespace().unwrap_or_default(),
            label: (label, object.name_any()),
            reference: object.controller_owner_ref(&()),
        }
    }

    /// Metadata of an object of that name in the owner's namespace.
    pub(super) fn meta(&self, name: String, annotations: BTreeMap<String, String>) -> ObjectMeta {
        ObjectMeta {
            name: Some(name),
            namespace: Some(self.namespace.clone()),
            labels: Some(self.labels()),
            annotations: (!annotations.is_empty()).then_some(annotations),
            owner_references: self.reference.clone().map(|one| vec![one]),
            ..ObjectMeta::default()
        }
    }

    pub(super) fn labels(&self) -> BTreeMap<String, String> {
        let (key, name) = &self.label;
        let mut labels = common_labels();
        labels.insert((*key).to_owned(), name.clone());
        labels
    }

    /// Its name, which stands in the label.
    pub(super) fn name(&self) -> &str {
        &self.label.1
    }
}

pub(super) fn common_labels() -> BTreeMap<String, String> {
    [MANAGED_BY, PART_OF].map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

/// A Secret with `data`.
pub(super) fn secret(metadata: ObjectMeta, type_: &str, data: BTreeMap<String, Vec<u8>>) -> Secret {
    Secret {
        metadata,
        type_: Some(type_.to_owned()),
        data: Some(data.into_iter().map(|(key, bytes)| (key, ByteString(bytes))).collect()),
        ..Secret::default()
    }
}
