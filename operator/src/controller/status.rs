//! Writing statuses.
//!
//! A status is applied, as Secrets and Services are. What others have put beside our fields stays
//! then, though people read all of it as our word. Where the answer shows such, the object's next
//! write puts our status in the place of all that is there; it has to wait its second as every
//! other.

use std::sync::Arc;

use k8s_openapi::NamespaceResourceScope;
use kube::api::{Patch, PatchParams};
use kube::core::object::HasStatus;
use kube::{Api, Resource, ResourceExt};
use restpipe_api::names::FIELD_MANAGER;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::context::Context;
use super::error::Error;
use super::triggers::Triggers;
use super::views::same_status;
use super::world::key_of;
use super::written::{Statuses, Written};
use crate::readable::{Readable, readable};

/// The object as our last write has left it, if the watch does not show that yet.
pub(super) fn fresh<K>(object: Arc<K>, statuses: &Statuses<K::Status>) -> Arc<K>
where
    K: Resource + HasStatus + Clone,
    K::Status: Clone + PartialEq,
{
    let uid = object.uid().unwrap_or_default();
    let version = object.resource_version();
    match statuses.later_than(&key_of(&*object), &uid, version.as_deref()) {
        Some(written) => {
            let mut object = Arc::unwrap_or_clone(object);
            *object.status_mut() = written.status;
            object.meta_mut().resource_version = written.version;
            Arc::new(object)
        }
        None => object,
    }
}

impl Context {
    /// Writes a status, unless the object has it. Where something of others is left beside it, the
    /// object's turn comes once more.
    pub(super) async fn write_status<K, S>(
        &self,
        object: &K,
        wanted: &S,
        statuses: &Statuses<S>,
        triggers: &Triggers,
    ) -> Result<(), Error>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + HasStatus<Status = S>
            + DeserializeOwned,
        S: Clone + PartialEq + Serialize,
    {
        if same_status(object.status(), wanted)? {
            return Ok(());
        }
        self.gate.check()?;
        let key = key_of(object);
        let uid = object.uid().unwrap_or_default();
        let in_place = statuses.has_left(&key, &uid, object.status());
        let api = readable(Api::<K>::namespaced(self.clients.working.clone(), &key.namespace));
        let written = write(&api, object, wanted, in_place).await?;
        self.metrics.wrote("status");
        let left = written.left;
        statuses.wrote(&key, &uid, written);
        if left {
            // And not by the time that this reconcile gives: one that fails waits up to a minute.
            triggers.ask(&key);
        }
        Ok(())
    }
}

/// Writes our fields, or a status `in_place` of all that is there.
async fn write<K, S>(
    api: &Api<Readable<K>>,
    object: &K,
    wanted: &S,
    in_place: bool,
) -> Result<Written<S>, Error>
where
    K: Resource<DynamicType = ()> + HasStatus<Status = S> + DeserializeOwned,
    S: Clone + PartialEq + Serialize,
{
    let name = object.name_any();
    let status = serde_json::to_value(wanted)?;
    let params =
        PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..Default::default() };
    let applied = if in_place {
        None
    } else {
        let fields = Patch::Apply(our_fields(object, &status));
        match api.patch_status(&name, &params.clone().force(), &fields).await {
            // Together with what others have put there it may be too much, of conditions above all.
            // Then nothing was written, and waiting changes nothing.
            Err(error) if is_invalid(&error) => None,
            answer => Some(answer),
        }
    };
    let in_place = applied.is_none();
    let answer = match applied {
        Some(answer) => answer,
        None => {
            let all = Patch::Json::<()>(in_place_of_status(object.uid(), &status)?);
            api.patch_status(&name, &params, &all).await
        }
    };
    let doing = || format!("cannot write the status of the {} {}", K::kind(&()), key_of(object));
    let Readable(now) = answer.map_err(|source| Error::Api { doing: doing(), source })?;
    // What differs even so was put in on the way, by an admission webhook: writing it again and
    // again would be of no use.
    let left = !in_place && !same_status(now.status(), wanted)?;
    Ok(Written { version: now.resource_version(), status: now.status().cloned(), left })
}

/// A status to apply, to the very version that it was planned from, and so to no other object of
/// its name: unlike for whole objects, the API server does not look at a UID here.
fn our_fields<K>(object: &K, status: &Value) -> Value
where
    K: Resource<DynamicType = ()>,
{
    json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": {"name": object.name_any(), "resourceVersion": object.resource_version()},
        "status": status,
    })
}

/// A patch that puts `status` in the place of whatever status there is, of the object with that UID
/// and of no other that has its name.
fn in_place_of_status(
    uid: Option<String>,
    status: &Value,
) -> Result<json_patch::Patch, serde_json::Error> {
    serde_json::from_value(json!([
        {"op": "test", "path": "/metadata/uid", "value": uid},
        {"op": "add", "path": "/status", "value": status},
    ]))
}

/// Whether the API server refuses what the object would be.
fn is_invalid(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 422)
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Mutex;

    use http::header::CONTENT_TYPE;
    use http::{Request, Response};
    use http_body_util::BodyExt as _;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
    use kube::Client;
    use kube::client::Body;
    use restpipe_api::{RestPipeLink, RestPipeLinkStatus};

    use super::*;

    const APPLY: &str = "application/apply-patch+yaml";
    const JSON_PATCH: &str = "application/json-patch+json";

    /// What an API server was asked for: the kind of the patch, the query, the patch.
    type Asked = Arc<Mutex<Vec<(String, String, Value)>>>;

    /// An API server that has these answers, one after another.
    fn api(answers: Vec<(u16, Value)>) -> (Api<Readable<RestPipeLink>>, Asked) {
        let asked = Asked::default();
        let noted = Arc::clone(&asked);
        let answers = Arc::new(Mutex::new(VecDeque::from(answers)));
        let service = tower::service_fn(move |request: Request<Body>| {
            let (noted, answers) = (Arc::clone(&noted), Arc::clone(&answers));
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await?.to_bytes();
                let patch: Value = serde_json::from_slice(&body)?;
                let kind = head.headers[CONTENT_TYPE].to_str()?.to_owned();
                let query = head.uri.query().unwrap_or_default().to_owned();
                noted.lock().expect("nobody panicked").push((kind, query, patch));
                let next = answers.lock().expect("nobody panicked").pop_front();
                let (code, answer) = next.ok_or("there is no other answer")?;
                let answer = Body::from(answer.to_string().into_bytes());
                Ok::<_, tower::BoxError>(Response::builder().status(code).body(answer)?)
            }
        });
        (readable(Api::namespaced(Client::new(service, "shop"), "shop")), asked)
    }

    fn kinds(asked: &Asked) -> Vec<String> {
        let asked = asked.lock().expect("nobody panicked");
        asked.iter().map(|(kind, _, _)| kind.clone()).collect()
    }

    fn object(version: &str, status: &Value) -> Value {
        json!({
            "apiVersion": "restpipe.io/v1alpha1",
            "kind": "RestPipeLink",
            "metadata": {
                "name": "files", "namespace": "shop", "uid": "u", "resourceVersion": version,
            },
            "spec": {"server": {"name": "hub"}},
            "status": status,
        })
    }

    fn link(version: &str, status: &Value) -> RestPipeLink {
        serde_json::from_value(object(version, status)).expect("a link")
    }

    fn refusal(code: u16) -> (u16, Value) {
        let reason = json!({"kind": "Status", "status": "Failure", "message": "no", "code": code});
        (code, reason)
    }

    /// A status as it is planned, and as the API server has it.
    fn wanted() -> (RestPipeLinkStatus, Value) {
        let status = RestPipeLinkStatus {
            hostname: Some("files".into()),
            conditions: vec![Condition {
                type_: "Ready".into(),
                status: "True".into(),
                reason: "Ready".into(),
                message: String::new(),
                observed_generation: None,
                last_transition_time: Time("2026-11-22T08:00:00.75Z".parse().expect("a time")),
            }],
            ..Default::default()
        };
        let stored = json!({
            "hostname": "files",
            "conditions": [{
                "type": "Ready", "status": "True", "reason": "Ready", "message": "",
                "lastTransitionTime": "2026-11-22T08:00:00Z",
            }],
        });
        (status, stored)
    }

    #[tokio::test]
    async fn a_status_is_applied_and_the_same_in_the_words_of_the_api_server_leaves_nothing() {
        let (status, stored) = wanted();
        let (links, asked) = api(vec![(200, object("8", &stored))]);
        let before = link("7", &json!({"hostname": "of before"}));
        let written = write(&links, &before, &status, false).await.expect("an answer");
        assert_eq!((written.version.as_deref(), written.left), (Some("8"), false));
        assert_eq!(kinds(&asked), [APPLY]);
        let asked = asked.lock().expect("nobody panicked");
        let (_, query, patch) = &asked[0];
        assert!(query.contains("force=true"), "{query}");
        assert!(query.contains("fieldManager=restpipe-operator"), "{query}");
        assert_eq!(patch["metadata"], json!({"name": "files", "resourceVersion": "7"}));
        assert_eq!(patch["status"], stored);
    }

    #[tokio::test]
    async fn what_an_apply_leaves_of_others_is_known_and_goes_with_the_next_write() {
        let (status, stored) = wanted();
        let mut forged = stored.clone();
        forged["server"] = json!("elsewhere/evil");
        let (links, asked) = api(vec![(200, object("8", &forged)), (200, object("9", &stored))]);
        let written = write(&links, &link("7", &forged), &status, false).await.expect("an answer");
        assert!(written.left);
        let there = written.status.and_then(|status| status.server);
        assert_eq!(there.as_deref(), Some("elsewhere/evil"));
        let written = write(&links, &link("8", &forged), &status, true).await.expect("an answer");
        assert_eq!((written.version.as_deref(), written.left), (Some("9"), false));
        assert_eq!(kinds(&asked), [APPLY, JSON_PATCH]);
    }

    #[tokio::test]
    async fn what_comes_back_with_every_write_is_not_written_for_ever() {
        let (status, mut stored) = wanted();
        stored["server"] = json!("as/policy-has-it");
        let (links, _) = api(vec![(200, object("9", &stored))]);
        let written = write(&links, &link("8", &stored), &status, true).await.expect("an answer");
        assert!(!written.left);
        assert!(written.status.is_some_and(|status| status.server.is_some()));
    }

    #[tokio::test]
    async fn a_status_that_is_invalid_with_what_others_have_put_there_takes_its_place_at_once() {
        let (status, stored) = wanted();
        let (links, asked) = api(vec![refusal(422), (200, object("8", &stored))]);
        let written = write(&links, &link("7", &stored), &status, false).await.expect("an answer");
        assert!(!written.left);
        assert_eq!(kinds(&asked), [APPLY, JSON_PATCH]);
        // Whatever else is wrong with an apply would be wrong with the other one too.
        for code in [403, 404, 409, 500] {
            let (links, asked) = api(vec![refusal(code)]);
            let refused = write(&links, &link("7", &stored), &status, false).await;
            assert!(refused.is_err(), "{code}");
            assert_eq!(kinds(&asked), [APPLY], "{code}");
        }
    }

    #[test]
    fn what_others_have_put_beside_is_removed_with_the_same_write() {
        let wanted = json!({"a": 2, "identity": {"serial": "y"}, "new": {"b": []}});
        let patch = in_place_of_status(Some("u".into()), &wanted).expect("a patch");
        for found in [
            json!({"metadata": {"uid": "u"}, "spec": 1}),
            json!({"metadata": {"uid": "u"}, "spec": 1, "status": {
                "a": 1, "connections": [1], "identity": {"serial": "x", "name": "n"},
            }}),
        ] {
            let mut object = found;
            json_patch::patch(&mut object, &patch).expect("it fits");
            let after = json!({"metadata": {"uid": "u"}, "spec": 1, "status": wanted});
            assert_eq!(object, after);
        }
        let mut other = json!({"metadata": {"uid": "of another of that name"}});
        assert!(json_patch::patch(&mut other, &patch).is_err());
    }

    #[test]
    fn an_object_is_as_our_last_write_has_left_it_until_the_watch_shows_something_later() {
        let statuses = Statuses::default();
        let (status, stored) = wanted();
        let key = key_of(&link("8", &stored));
        let written = Written { version: Some("8".into()), status: Some(status), left: false };
        statuses.wrote(&key, "u", written);
        let seen = |version: &str| {
            let link = fresh(Arc::new(link(version, &json!({"hostname": "seen"}))), &statuses);
            let hostname = link.status.as_ref().and_then(|status| status.hostname.clone());
            (hostname.unwrap_or_default(), link.resource_version().unwrap_or_default())
        };
        assert_eq!(seen("7"), ("files".into(), "8".into()));
        assert_eq!(seen("9"), ("seen".into(), "9".into()));
    }
}
