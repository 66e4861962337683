//! Any bytes as the body of a request to the webhook.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use restpipe_operator::inject::{InjectOptions, Links, Role, Standing, inject};
use restpipe_operator::webhook::review::{Decision, review};
use serde_json::{Value, json};

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

fuzz_target!(|body: &[u8]| {
    let Ok(answer) = review(body, &ByName, &OPTIONS) else { return };
    // Parts that nobody looks at are passed over, and may hold texts that are none.
    let Ok(sent) = serde_json::from_slice::<Value>(body) else { return };
    let review: Value = serde_json::from_slice(&answer.body).expect("JSON");
    assert_eq!(review["apiVersion"], "admission.k8s.io/v1");
    assert_eq!(review["kind"], "AdmissionReview");
    let response = &review["response"];
    assert_eq!(response["uid"], sent["request"]["uid"]);
    assert_eq!(response["allowed"] == json!(false), response["status"]["message"].is_string());
    assert!(answer.body.len() < 4 * body.len() + 65_536);

    if let Decision::Injected(_) = answer.decision {
        let mut pod = sent["request"]["object"].clone();
        let first = inject(&pod, "", &ByName, &OPTIONS).expect("it was injected before");
        json_patch::patch(&mut pod, &first.patch).expect("the patch fits");
        let second = inject(&pod, "", &ByName, &OPTIONS).expect("injected again");
        assert!(second.patch.0.is_empty(), "{:?}", second.patch);
    }
});
