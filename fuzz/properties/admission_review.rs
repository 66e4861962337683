//! Any bytes as the body of a request to the webhook.

use std::sync::LazyLock;

use json_patch::{Patch, PatchOperation};
use restpipe_operator::inject::{InjectOptions, Links, Role, Standing, inject};
use restpipe_operator::webhook::review::{Decision, review};
use serde_json::{Value, json};

/// Bytes of an answer beside what it takes from its question.
const ROOM: usize = 64 * 1024;

/// Bytes for each container: it gets a variable, which is some 120 bytes of patch, and these are
/// sent as base64. A container can be as short as `{}`.
const FOR_A_CONTAINER: usize = 256;

/// Each standing, by the first letter of the name.
struct ByName;

impl Links for ByName {
    fn standing(&self, _role: Role, _namespace: &str, name: &str) -> Standing {
        match name.as_bytes().first() {
            Some(b'a') => Standing::Absent,
            Some(b'n') => Standing::NotWatched,
            Some(b'r') => Standing::NotAccepted { reason: "R".into(), message: "m".repeat(999) },
            Some(b'u') => Standing::Unknown,
            _ => Standing::Good,
        }
    }
}

static OPTIONS: LazyLock<InjectOptions> = LazyLock::new(|| {
    InjectOptions::new("restpipe:1", None, ["10m", "32Mi", "128Mi"]).expect("good options")
});

/// Whether all of `before` is in `after`; lists keep their order. Null is what is not there.
pub(crate) fn kept(before: &Value, after: &Value) -> bool {
    match (before, after) {
        (Value::Null, _) => true,
        (Value::Object(before), Value::Object(after)) => before
            .iter()
            // The mark is the webhook's own.
            .filter(|(key, _)| *key != "restpipe.io/injected")
            .all(|(key, value)| after.get(key).is_some_and(|found| kept(value, found))),
        (Value::Array(before), Value::Array(after)) => {
            let mut rest = after.iter();
            before.iter().all(|value| rest.any(|found| kept(value, found)))
        }
        (before, after) => before == after,
    }
}

/// The pod as it is, but that a sidecar that it comes with is the first of its init containers.
pub(crate) fn sidecar_first(pod: &Value) -> Value {
    let mut pod = pod.clone();
    if let Some(all) = pod.pointer_mut("/spec/initContainers").and_then(Value::as_array_mut)
        && let Some(place) = all.iter().position(|container| container["name"] == "restpipe")
    {
        all[..=place].rotate_right(1);
    }
    pod
}

/// Whether it adds, and beside that moves at most one init container, to the front.
fn takes_nothing_away(patch: &Patch) -> bool {
    let list = "/spec/initContainers/";
    let mut moves = 0;
    patch.0.iter().all(|operation| match operation {
        PatchOperation::Add(_) => true,
        PatchOperation::Move(one) => {
            moves += 1;
            let (from, to) = (one.from.as_str(), one.path.as_str());
            moves == 1 && from.starts_with(list) && to.strip_prefix(list) == Some("0")
        }
        _ => false,
    })
}

fn containers(pod: &Value) -> usize {
    let count = |list: &str| pod["spec"][list].as_array().map_or(0, Vec::len);
    count("containers") + count("initContainers")
}

pub(crate) fn check(body: &[u8]) {
    let Ok(answer) = review(body, &ByName, &OPTIONS) else { return };
    // Parts that nobody looks at are passed over, and may hold texts that are none.
    let Ok(sent) = serde_json::from_slice::<Value>(body) else { return };
    let review: Value = serde_json::from_slice(&answer.body).expect("JSON");
    assert_eq!(review["apiVersion"], "admission.k8s.io/v1");
    assert_eq!(review["kind"], "AdmissionReview");
    let (response, pod) = (&review["response"], &sent["request"]["object"]);
    assert_eq!(response["uid"], sent["request"]["uid"]);
    assert_eq!(response["allowed"] == json!(false), response["status"]["message"].is_string());
    let most = 4 * body.len() + FOR_A_CONTAINER * containers(pod) + ROOM;
    assert!(answer.body.len() < most, "{} bytes, {most} at most", answer.body.len());

    if let Decision::Injected(_) = answer.decision {
        let first = inject(pod, "", &ByName, &OPTIONS).expect("it was injected before");
        assert!(takes_nothing_away(&first.patch), "{:?}", first.patch);
        let mut once = pod.clone();
        json_patch::patch(&mut once, &first.patch).expect("the patch fits");
        assert!(kept(&sidecar_first(pod), &once), "{pod:#}\n{once:#}");
        assert_eq!(once["spec"]["initContainers"][0]["name"], "restpipe");
        let second = inject(&once, "", &ByName, &OPTIONS).expect("injected again");
        assert!(second.patch.0.is_empty(), "{:?}", second.patch);
    }
}
