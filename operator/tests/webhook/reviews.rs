//! Questions of API servers, and odd ones, with their exact answers.

use k8s_openapi::ByteString;
use serde_json::{Value, json};

use crate::site::Site;

/// As API servers ask when a ReplicaSet makes a pod.
pub(crate) fn question(link: &str) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "0f8e",
            "kind": { "group": "", "version": "v1", "kind": "Pod" },
            "resource": { "group": "", "version": "v1", "resource": "pods" },
            "namespace": "shop",
            "operation": "CREATE",
            "userInfo": { "username": "system:serviceaccount:kube-system:replicaset-controller" },
            "object": {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": { "generateName": "app-", "annotations": { "restpipe.io/link": link } },
                "spec": { "containers": [{ "name": "app", "image": "app:1" }] },
            },
            "oldObject": null,
            "dryRun": false,
        },
    })
}

async fn ask(site: &Site, question: &Value) -> Value {
    let (status, body) = site.client().post(question.to_string().as_bytes()).await;
    assert_eq!(status, 200, "{body}");
    let answer: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(answer["apiVersion"], "admission.k8s.io/v1");
    assert_eq!(answer["kind"], "AdmissionReview");
    assert_eq!(answer["response"]["uid"], "0f8e");
    answer["response"].clone()
}

#[tokio::test]
async fn an_annotated_pod_gets_its_patch_and_a_trial_the_same_one() {
    let site = Site::start().await;
    let mut question = question("till");
    let response = ask(&site, &question).await;
    assert_eq!((&response["allowed"], &response["patchType"]), (&json!(true), &json!("JSONPatch")));

    let ByteString(patch) = serde_json::from_value(response["patch"].clone()).expect("base64");
    let patch: json_patch::Patch = serde_json::from_slice(&patch).expect("a patch");
    let mut pod = question["request"]["object"].clone();
    json_patch::patch(&mut pod, &patch).expect("it fits");
    assert_eq!(pod["spec"]["initContainers"][0]["name"], "restpipe");

    question["request"]["dryRun"] = json!(true);
    assert_eq!(ask(&site, &question).await, response);
    question["request"]["object"] = pod;
    assert_eq!(ask(&site, &question).await, json!({ "uid": "0f8e", "allowed": true }));
}

#[tokio::test]
async fn what_is_no_new_pod_is_let_through_without_a_patch() {
    let site = Site::start().await;
    for (field, value) in [
        ("operation", json!("UPDATE")),
        ("operation", json!("DELETE")),
        ("operation", json!("CONNECT")),
        ("operation", json!("")),
        ("kind", json!({ "group": "", "version": "v1", "kind": "Service" })),
        ("kind", json!({ "group": "example.com", "version": "v1", "kind": "Pod" })),
        ("kind", json!({})),
        ("subResource", json!("eviction")),
    ] {
        let mut question = question("till");
        question["request"][field] = value;
        assert_eq!(
            ask(&site, &question).await,
            json!({ "uid": "0f8e", "allowed": true }),
            "{field}"
        );
    }
    let mut question = question("till");
    question["request"]["object"]["metadata"]["annotations"] = json!(null);
    assert_eq!(ask(&site, &question).await, json!({ "uid": "0f8e", "allowed": true }));
}

#[tokio::test]
async fn a_pod_that_can_not_be_a_node_is_refused_with_cause_and_cure() {
    let site = Site::start().await;
    let mut question = question("till");
    question["request"]["object"]["spec"]["hostNetwork"] = json!(true);
    let response = ask(&site, &question).await;
    assert_eq!(response["allowed"], false);
    assert_eq!(response["status"]["code"], 403);
    let message = response["status"]["message"].as_str().expect("a message");
    assert!(message.starts_with("the pod has hostNetwork: "), "{message}");
    assert!(response.get("patch").is_none());
}

#[tokio::test]
async fn warnings_travel_with_the_patch() {
    let site = Site::start().await;
    let mut question = question("till");
    question["request"]["object"]["metadata"]["annotations"]["restpipe.io/lnik"] = json!("x");
    let response = ask(&site, &question).await;
    assert!(response["patch"].is_string());
    let warning = "annotation \"restpipe.io/lnik\" means nothing to RestPipe: is it misspelt?";
    assert_eq!(response["warnings"], json!([warning]));
}

#[tokio::test]
async fn what_happened_is_counted() {
    let site = Site::start().await;
    let mut refused = question("till");
    refused["request"]["object"]["spec"]["hostNetwork"] = json!(true);
    let mut skipped = question("till");
    skipped["request"]["operation"] = json!("UPDATE");
    for question in [&question("till"), &refused, &skipped] {
        ask(&site, question).await;
    }
    site.client().post(b"{").await;
    let metrics = site.metrics();
    for result in ["injected", "refused", "skipped", "error"] {
        let line = format!("restpipe_webhook_admissions_total{{result=\"{result}\"}} 1\n");
        assert!(metrics.contains(&line), "{result}: {metrics}");
    }
    assert!(metrics.contains("restpipe_webhook_admission_seconds_count 4\n"), "{metrics}");
}

#[tokio::test]
async fn a_review_that_panics_fails_alone() {
    let site = Site::start().await;
    let question = question("panic");
    let (status, body) = site.client().post(question.to_string().as_bytes()).await;
    assert_eq!((status, body.as_str()), (500, "the review failed, see the webhook's log\n"));
    ask(&site, &self::question("till")).await;
}
