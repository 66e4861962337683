//! An API server in memory: it keeps objects by their paths, and has no rules of its own.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use kube::Client;
use kube::client::Body;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

type Hook = Box<dyn FnOnce() + Send>;

/// Clones share the objects.
#[derive(Clone, Default)]
pub(super) struct Api(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Value>,
    version: u64,
    writes: Vec<String>,
    hook: Option<(&'static str, Hook)>,
}

impl Api {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no test panics while it holds this")
    }

    /// Who asks it.
    pub(super) fn client(&self) -> Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let api = api.clone();
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await?.to_bytes();
                let (status, answer) = api.answer(&head.method, head.uri.path(), &body)?;
                let mut response = Response::new(Body::from(answer.to_string().into_bytes()));
                *response.status_mut() = status;
                Ok::<_, tower::BoxError>(response)
            }
        });
        Client::new(service, "system")
    }

    /// Has an object at that path.
    pub(super) fn put(&self, path: &str, object: &impl Serialize) {
        let object = serde_json::to_value(object).expect("JSON");
        self.store(path.to_owned(), object);
    }

    /// The object at that path.
    pub(super) fn get<K: DeserializeOwned>(&self, path: &str) -> K {
        let object = self.state().objects.get(path).cloned().expect("it is there");
        serde_json::from_value(object).expect("it is of that kind")
    }

    /// Has no object any more at that path.
    pub(super) fn remove(&self, path: &str) {
        self.state().objects.remove(path);
    }

    /// Does something once, between the next write to a path that ends so and its answer.
    pub(super) fn at_write(&self, end: &'static str, hook: impl FnOnce() + Send + 'static) {
        self.state().hook = Some((end, Box::new(hook)));
    }

    /// Paths that were written to since the last call.
    pub(super) fn writes(&self) -> Vec<String> {
        std::mem::take(&mut self.state().writes)
    }

    fn answer(
        &self,
        method: &Method,
        path: &str,
        body: &[u8],
    ) -> serde_json::Result<(StatusCode, Value)> {
        let place = path.strip_suffix("/status").unwrap_or(path);
        let found = self.state().objects.get(place).cloned();
        if *method == Method::GET {
            return Ok(found.map_or_else(not_found, |object| (StatusCode::OK, object)));
        }
        if found.is_none() && place != path {
            return Ok(not_found());
        }
        let sent: Value = serde_json::from_slice(body)?;
        let (place, object) = if *method == Method::POST {
            let name = sent["metadata"]["name"].as_str().unwrap_or_default();
            (format!("{path}/{name}"), sent)
        } else if sent.is_array() {
            let Some(mut object) = found else { return Ok(not_found()) };
            let patch: json_patch::Patch = serde_json::from_value(sent)?;
            json_patch::patch(&mut object, &patch).expect("the patch fits");
            (place.to_owned(), object)
        } else {
            let mut object = found.unwrap_or_else(|| json!({}));
            json_patch::merge(&mut object, &sent);
            (place.to_owned(), object)
        };
        let stored = self.store(place, object);
        let hook = {
            let mut state = self.state();
            state.writes.push(path.to_owned());
            state.hook.take_if(|(end, _)| path.ends_with(*end))
        };
        if let Some((_, hook)) = hook {
            hook();
        }
        Ok((StatusCode::OK, stored))
    }

    fn store(&self, path: String, mut object: Value) -> Value {
        let mut state = self.state();
        state.version += 1;
        let metadata = &mut object["metadata"];
        if metadata["uid"].is_null() {
            metadata["uid"] = json!(format!("uid-{}", state.version));
        }
        metadata["resourceVersion"] = json!(state.version.to_string());
        state.objects.insert(path, object.clone());
        object
    }
}

fn not_found() -> (StatusCode, Value) {
    let status = json!({
        "apiVersion": "v1", "kind": "Status", "status": "Failure",
        "code": 404, "reason": "NotFound", "message": "there is none",
    });
    (StatusCode::NOT_FOUND, status)
}
