//! Reading objects of others, one of which must not be in the way of all.

use std::borrow::Cow;

use kube::api::ObjectMeta;
use kube::core::DynamicResourceScope;
use kube::runtime::watcher::Event;
use kube::{Api, Resource};
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, Error as _};
use serde_json::Value;

/// An object without its managed fields, which nobody here reads. Whoever may change an object may
/// give them times, and the API server takes times up to the end of the year 9999. Ours end a day
/// sooner (jiff), and one object that cannot be read fails the list of all.
#[derive(Clone, Debug)]
pub(crate) struct Readable<K>(pub(crate) K);

impl<'de, K: DeserializeOwned> Deserialize<'de> for Readable<K> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let mut object = Value::deserialize(from)?;
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("managedFields");
        }
        serde_json::from_value(object).map(Self).map_err(D::Error::custom)
    }
}

impl<K: Resource> Resource for Readable<K> {
    type DynamicType = K::DynamicType;
    /// Where the kind may be was known when its API was made, and is not asked again.
    type Scope = DynamicResourceScope;

    fn kind(of: &Self::DynamicType) -> Cow<'_, str> {
        K::kind(of)
    }

    fn group(of: &Self::DynamicType) -> Cow<'_, str> {
        K::group(of)
    }

    fn version(of: &Self::DynamicType) -> Cow<'_, str> {
        K::version(of)
    }

    fn plural(of: &Self::DynamicType) -> Cow<'_, str> {
        K::plural(of)
    }

    fn metadata_api() -> bool {
        K::metadata_api()
    }

    fn meta(&self) -> &ObjectMeta {
        self.0.meta()
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.0.meta_mut()
    }
}

/// The same API, whose objects are [`Readable`].
pub(crate) fn readable<K: Resource<DynamicType = ()>>(api: Api<K>) -> Api<Readable<K>> {
    let namespace = api.namespace().map(str::to_owned);
    let client = api.into_client();
    match namespace {
        Some(namespace) => Api::namespaced_with(client, &namespace, &()),
        None => Api::all_with(client, &()),
    }
}

/// An event of the object itself.
pub(crate) fn unwrapped<K>(event: Event<Readable<K>>) -> Event<K> {
    match event {
        Event::Apply(Readable(object)) => Event::Apply(object),
        Event::Delete(Readable(object)) => Event::Delete(object),
        Event::Init => Event::Init,
        Event::InitApply(Readable(object)) => Event::InitApply(object),
        Event::InitDone => Event::InitDone,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{Namespace, Pod, Secret};
    use kube::ResourceExt;
    use kube::core::{ObjectList, PartialObjectMeta};
    use serde_json::json;

    use super::*;

    #[test]
    fn a_time_of_managed_fields_does_not_keep_all_objects_from_being_read() {
        let pod = |name: &str, time: &str| {
            let fields = json!({"manager": "m", "operation": "Update", "apiVersion": "v1",
                "fieldsType": "FieldsV1", "fieldsV1": {}, "time": time});
            json!({"metadata": {"name": name, "labels": {"a": "b"}, "managedFields": [fields]},
                "spec": {"containers": [{"name": "app"}]}})
        };
        let items = [pod("good", "2026-01-01T00:00:00Z"), pod("bad", "9999-12-31T23:59:59Z")];
        let list = json!({"apiVersion": "v1", "kind": "PodList",
            "metadata": {"resourceVersion": "7"}, "items": items});
        let plain: Result<ObjectList<Pod>, _> = serde_json::from_value(list.clone());
        assert!(plain.is_err(), "there is no need for another type any more");
        let list: ObjectList<Readable<Pod>> = serde_json::from_value(list).expect("a list");
        let names: Vec<String> = list.items.iter().map(ResourceExt::name_any).collect();
        assert_eq!(names, ["good", "bad"]);
        let Readable(pod) = &list.items[1];
        assert_eq!(pod.labels()["a"], "b");
        assert_eq!(pod.spec.as_ref().map(|spec| spec.containers.len()), Some(1));
    }

    #[test]
    fn what_is_asked_for_is_the_same() {
        type Metadata = PartialObjectMeta<Secret>;
        assert!(Readable::<Metadata>::metadata_api(), "never the contents of Secrets");
        assert!(!Readable::<Pod>::metadata_api());
        for namespace in [None, Some("shop")] {
            let pods = Pod::url_path(&(), namespace);
            assert_eq!(Readable::<Pod>::url_path(&(), namespace), pods);
            let secrets = Metadata::url_path(&(), namespace);
            assert_eq!(Readable::<Metadata>::url_path(&(), namespace), secrets);
        }
        let namespaces = Namespace::url_path(&(), None);
        assert_eq!(Readable::<Namespace>::url_path(&(), None), namespaces);
    }
}
