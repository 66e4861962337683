//! One AdmissionReview: from the bytes of the request to those of the answer. Pure; any bytes may
//! come, for whoever is in the pod network can send some.

use k8s_openapi::ByteString;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::inject::{InjectOptions, Injection, Links, Node, Refusal, inject, plain, shown};

/// The version of admission that is spoken.
const API_VERSION: &str = "admission.k8s.io/v1";

/// Values in a request: a pod of 100 containers with 100 variables each has some 40,000. In memory
/// a value takes up to 80 times its bytes, so the size of a request alone bounds little.
const MAX_VALUES: usize = 100_000;

/// The status that a refused pod's author sees, as of any other forbidden thing.
const FORBIDDEN: u16 = 403;

/// Bytes are no request that could be answered. Whoever sent them has to change them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadReview {
    /// Nothing was sent.
    #[error("the body is empty: send an AdmissionReview of {API_VERSION}")]
    Empty,
    /// Not JSON, or not of this shape.
    #[error("the body is no AdmissionReview: {0}")]
    NotAReview(String),
    /// Far more than a pod has.
    #[error("the body has more than {MAX_VALUES} values, no pod does")]
    TooManyValues,
    /// Another version, or another kind.
    #[error(
        "the body is {kind} of {version}: this webhook speaks AdmissionReview of {API_VERSION}, name v1 in admissionReviewVersions"
    )]
    WrongVersion {
        /// Its kind, quoted.
        kind: String,
        /// Its version, quoted.
        version: String,
    },
    /// A part without which there is no answer.
    #[error("the AdmissionReview has no {0}")]
    Missing(&'static str),
    /// What was decided cannot be written as JSON.
    #[error("the answer cannot be written: {0}")]
    Unwritable(String),
}

/// What was decided about a pod.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// It gets something.
    Injected(Node),
    /// Nothing is to be done.
    Skipped,
    /// It is not let in.
    Refused(Refusal),
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The AdmissionReview to send.
    pub body: Vec<u8>,
    /// What it says.
    pub decision: Decision,
    /// The pod's namespace, fit for a log.
    pub namespace: String,
    /// The pod's name, or what its name will start with; fit for a log.
    pub pod: String,
    /// Whether it is a trial.
    pub dry_run: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review {
    api_version: Option<String>,
    kind: Option<String>,
    request: Option<Request>,
}

/// What is looked at in a request; serde passes over the rest without building it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    #[serde(default)]
    uid: String,
    kind: Option<Kind>,
    sub_resource: Option<String>,
    namespace: Option<String>,
    operation: Option<String>,
    object: Option<Value>,
    dry_run: Option<bool>,
}

#[derive(Deserialize)]
struct Kind {
    #[serde(default)]
    group: String,
    #[serde(default)]
    version: String,
    #[serde(default)]
    kind: String,
}

impl Request {
    /// Whether it is about a pod that is being made. The webhook's configuration asks for no
    /// others; one that was changed may.
    fn is_new_pod(&self) -> Result<bool, BadReview> {
        let kind = self.kind.as_ref().ok_or(BadReview::Missing("request.kind"))?;
        let operation = self.operation.as_ref().ok_or(BadReview::Missing("request.operation"))?;
        let whole = self.sub_resource.as_deref().unwrap_or_default().is_empty();
        let pod = kind.group.is_empty() && kind.version == "v1" && kind.kind == "Pod";
        Ok(pod && whole && operation == "CREATE")
    }
}

/// Answers the AdmissionReview in `body`.
///
/// # Errors
/// If it is none: there is nobody to tell then but the sender.
pub fn review(body: &[u8], look: &dyn Links, options: &InjectOptions) -> Result<Answer, BadReview> {
    let request = read(body)?;
    let namespace = request.namespace.as_deref().unwrap_or_default();
    let (decision, response) = if request.is_new_pod()? {
        let pod = request.object.as_ref().filter(|object| !object.is_null());
        let pod = pod.ok_or(BadReview::Missing("request.object"))?;
        decide(&request.uid, inject(pod, namespace, look, options))?
    } else {
        (Decision::Skipped, json!({ "uid": request.uid, "allowed": true }))
    };
    let review =
        json!({ "apiVersion": API_VERSION, "kind": "AdmissionReview", "response": response });
    Ok(Answer {
        body: serde_json::to_vec(&review).map_err(unwritable)?,
        decision,
        namespace: plain(namespace),
        pod: plain(pod_name(request.object.as_ref())),
        dry_run: request.dry_run.unwrap_or_default(),
    })
}

fn read(body: &[u8]) -> Result<Request, BadReview> {
    if body.trim_ascii().is_empty() {
        return Err(BadReview::Empty);
    }
    if values_in(body) > MAX_VALUES {
        return Err(BadReview::TooManyValues);
    }
    // serde_json's limit of 128 levels keeps deep nesting off the stack.
    let review: Review =
        serde_json::from_slice(body).map_err(|error| BadReview::NotAReview(error.to_string()))?;
    let (kind, version) = (review.kind.unwrap_or_default(), review.api_version.unwrap_or_default());
    if kind != "AdmissionReview" || version != API_VERSION {
        return Err(BadReview::WrongVersion { kind: shown(&kind), version: shown(&version) });
    }
    let request = review.request.ok_or(BadReview::Missing("request"))?;
    if request.uid.is_empty() {
        return Err(BadReview::Missing("request.uid"));
    }
    Ok(request)
}

/// How many values `body` has at most, if it is JSON: each but the first follows one of `[{,:`.
fn values_in(body: &[u8]) -> usize {
    let (mut values, mut in_text, mut escaped) = (1, false, false);
    for &byte in body {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'[' | b'{' | b',' if !in_text => values += 1,
            _ => {}
        }
    }
    values
}

fn decide(uid: &str, outcome: Result<Injection, Refusal>) -> Result<(Decision, Value), BadReview> {
    let injection = match outcome {
        Ok(injection) => injection,
        Err(refusal) => {
            let status = json!({
                "status": "Failure",
                "code": FORBIDDEN,
                "reason": "Forbidden",
                "message": refusal.to_string(),
            });
            let response = json!({ "uid": uid, "allowed": false, "status": status });
            return Ok((Decision::Refused(refusal), response));
        }
    };
    let mut response = json!({ "uid": uid, "allowed": true });
    if !injection.warnings.is_empty() {
        response["warnings"] = json!(injection.warnings);
    }
    match injection.node {
        Some(node) if !injection.patch.0.is_empty() => {
            let patch = serde_json::to_vec(&injection.patch).map_err(unwritable)?;
            response["patchType"] = json!("JSONPatch");
            // Writes base64.
            response["patch"] = serde_json::to_value(ByteString(patch)).map_err(unwritable)?;
            Ok((Decision::Injected(node), response))
        }
        _ => Ok((Decision::Skipped, response)),
    }
}

fn unwritable(error: serde_json::Error) -> BadReview {
    BadReview::Unwritable(error.to_string())
}

/// Pods of a ReplicaSet or Job have no name yet.
fn pod_name(pod: Option<&Value>) -> &str {
    let metadata = pod.and_then(|pod| pod.get("metadata"));
    let field = |name: &str| metadata?.get(name)?.as_str().filter(|text| !text.is_empty());
    field("name").or_else(|| field("generateName")).unwrap_or_default()
}
