//! Whatever somebody in the pod network sends to the webhook.

use std::io::Write;

use restpipe_cluster_tests::{Operator, run};
use serde_json::{Value, json};

use crate::shared;

/// The longest body that is read, bytes, is below this.
const TOO_LONG: usize = 10 * 1024 * 1024 + 1;

/// Sends a body to the webhook as the API server would; status and answer.
fn send(operator: &Operator, path: &str, body: &[u8]) -> (u16, String) {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(body).expect("it is written");
    let data = format!("@{}", file.path().display());
    let host = format!("{}.{}.svc", operator.release.part("webhook"), operator.release.namespace);
    let to = format!("{host}:443:{}", operator.proxy.address);
    let ca = operator.volume.path().join("ca.crt").display().to_string();
    let url = format!("https://{host}{path}");
    let args = [
        "-sS",
        "-m",
        "20",
        "--cacert",
        &ca,
        "--connect-to",
        &to,
        "-H",
        "Content-Type: application/json",
        "-H",
        "Expect:",
        "--data-binary",
        &data,
        "-w",
        "\n%{http_code}",
        &url,
    ];
    let ran = run("curl", &args, &[]);
    let (answer, code) = ran.output.rsplit_once('\n').unwrap_or(("", "0"));
    let code = code.parse().unwrap_or_default();
    assert_ne!(code, 0, "no answer: {}", ran.errors);
    (code, answer.to_owned())
}

fn review(request: Value) -> Value {
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request})
}

fn request() -> Value {
    json!({
        "uid": "u",
        "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "operation": "CREATE",
        "namespace": "default",
        "object": {
            "metadata": {"name": "web", "annotations": {"restpipe.io/link": "files"}},
            "spec": {"containers": [{"name": "app", "image": "app"}]},
        },
    })
}

#[test]
fn what_is_no_review_is_answered_with_400_and_the_reason() {
    let operator = shared();
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let mut no_uid = request();
    no_uid["uid"] = json!("");
    let mut no_object = request();
    no_object["object"] = Value::Null;
    let old = json!({"apiVersion": "admission.k8s.io/v1beta1", "kind": "AdmissionReview", "request": request()});
    for (body, reason) in [
        (String::new(), "the body is empty"),
        ("\n \t".to_owned(), "the body is empty"),
        ("hello".to_owned(), "the body is no AdmissionReview"),
        ("\u{0}".to_owned(), "the body is no AdmissionReview"),
        ("[]".to_owned(), "the body is no AdmissionReview"),
        ("{}".to_owned(), "this webhook speaks AdmissionReview of admission.k8s.io/v1"),
        (deep, "the body is no AdmissionReview"),
        (old.to_string(), "name v1 in admissionReviewVersions"),
        (review(Value::Null).to_string(), "the AdmissionReview has no request"),
        (review(no_uid).to_string(), "the AdmissionReview has no request.uid"),
        (review(no_object).to_string(), "the AdmissionReview has no request.object"),
    ] {
        let (code, answer) = send(&operator, "/inject", body.as_bytes());
        let shown: String = body.chars().take(60).collect();
        assert_eq!(code, 400, "{shown}: {answer}");
        assert!(answer.contains(reason), "{shown}: {answer}");
    }
    // And it goes on.
    let (code, answer) = send(&operator, "/inject", review(request()).to_string().as_bytes());
    assert_eq!(code, 200, "{answer}");
}

#[test]
fn what_is_not_a_new_pod_is_let_in_as_it_is() {
    let operator = shared();
    let changed = |field: &str, value: Value| {
        let mut request = request();
        request[field] = value;
        review(request).to_string()
    };
    for body in [
        changed("operation", json!("UPDATE")),
        changed("operation", json!("DELETE")),
        changed("kind", json!({"group": "", "version": "v1", "kind": "Service"})),
        changed("subResource", json!("ephemeralcontainers")),
    ] {
        let (code, answer) = send(&operator, "/inject", body.as_bytes());
        assert_eq!(code, 200, "{answer}");
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        assert_eq!(answer["response"], json!({"uid": "u", "allowed": true}));
    }
}

#[test]
fn a_body_without_end_is_not_read_to_the_end() {
    let operator = shared();
    let (code, answer) = send(&operator, "/inject", &vec![b' '; TOO_LONG]);
    assert_eq!(code, 413, "{answer}");
    let (code, _) = send(&operator, "/elsewhere", b"{}");
    assert_eq!(code, 404);
    let (code, _) = send(&operator, "/inject", review(request()).to_string().as_bytes());
    assert_eq!(code, 200);
}
