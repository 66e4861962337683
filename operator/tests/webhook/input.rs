//! Bytes that no API server sends.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use restpipe_operator::webhook::MAX_BODY;

use crate::reviews::question;
use crate::site::Site;

/// More than the webhook's longest patience.
const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn bodies_that_are_no_review_get_400_and_a_sentence() {
    let site = Site::start().await;
    let client = site.client();
    let with = |field: &str, value| {
        let mut question = question("till");
        question["request"][field] = value;
        question.to_string()
    };
    let mut beta = question("till");
    beta["apiVersion"] = json!("admission.k8s.io/v1beta1");
    let mut no_request = question("till");
    no_request["request"] = json!(null);
    let deep = with("object", json!(0)).replace(":0", &format!(":{}", "[".repeat(10_000)));
    for (body, expected) in [
        (String::new(), "the body is empty: send an AdmissionReview of admission.k8s.io/v1\n"),
        (" \n".to_owned(), "the body is empty"),
        ("{".to_owned(), "the body is no AdmissionReview: EOF while parsing"),
        ("[]".to_owned(), "the body is no AdmissionReview: "),
        ("{}".to_owned(), "the body is \"\" of \"\": this webhook speaks AdmissionReview"),
        ("a=b".to_owned(), "the body is no AdmissionReview: expected value"),
        (deep, "the body is no AdmissionReview: recursion limit exceeded"),
        (beta.to_string(), "the body is \"AdmissionReview\" of \"admission.k8s.io/v1beta1\""),
        (no_request.to_string(), "the AdmissionReview has no request\n"),
        (with("uid", json!("")), "the AdmissionReview has no request.uid\n"),
        (with("uid", json!(7)), "the body is no AdmissionReview: invalid type"),
        (with("kind", json!(null)), "the AdmissionReview has no request.kind\n"),
        (with("operation", json!(null)), "the AdmissionReview has no request.operation\n"),
        (with("object", json!(null)), "the AdmissionReview has no request.object\n"),
        (format!("{}x", question("till")), "the body is no AdmissionReview: trailing characters"),
    ] {
        let (status, text) = client.post(body.as_bytes()).await;
        assert_eq!(status, 400, "{text}");
        assert!(text.starts_with(expected), "{text}\nshould start with\n{expected}");
    }
    let (status, _) = client.post(b"\xff\xfe\x00").await;
    assert_eq!(status, 400);
}

#[tokio::test]
async fn an_object_that_is_no_pod_is_refused_and_not_fatal() {
    let site = Site::start().await;
    for object in
        [json!([]), json!("x"), json!({ "metadata": 1 }), json!({ "metadata": {}, "spec": 1 })]
    {
        let mut question = question("till");
        question["request"]["object"] = object;
        let (status, body) = site.client().post(question.to_string().as_bytes()).await;
        assert_eq!(status, 200);
        assert!(body.contains("\"allowed\":false"), "{body}");
    }
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_before_it_is_read_or_while_it_is() {
    let site = Site::start().await;
    let client = site.client();
    let head =
        format!("POST /inject HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", MAX_BODY + 1);
    let (status, text) = client.send(head.as_bytes()).await;
    assert_eq!(
        (status, text.as_str()),
        (413, "the body is larger than 4194304 bytes, no pod is\n")
    );

    let mut stream = client.connect().await.expect("TLS");
    let head = "POST /inject HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await.expect("sent");
    let mebibyte = [b"100000\r\n", " ".repeat(1 << 20).as_bytes(), b"\r\n"].concat();
    let (mut read, mut write) = tokio::io::split(stream);
    let sending = tokio::spawn(async move { while write.write_all(&mebibyte).await.is_ok() {} });
    let mut answer = [0; 12];
    read.read_exact(&mut answer).await.expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 413");
    sending.abort();
}

#[tokio::test]
async fn a_body_of_more_values_than_a_pod_has_is_refused_and_commas_in_texts_are_none() {
    let site = Site::start().await;
    let client = site.client();
    let with = |value: Value| {
        let mut question = question("till");
        question["request"]["object"]["spec"]["future"] = value;
        question.to_string()
    };
    // In memory they would be far more than the body is.
    let (status, text) = client.post(with(vec![json!({}); 100_001].into()).as_bytes()).await;
    assert_eq!(
        (status, text.as_str()),
        (400, "the body has more than 100000 values, no pod does\n")
    );
    for value in [
        Value::from(vec![json!(0); 90_000]),
        // A quote that is escaped ends no text, and what is escaped itself escapes nothing.
        Value::from("\"[{,".repeat(100_001)),
        json!(["\\", "[{,".repeat(100_001)]),
    ] {
        let (status, text) = client.post(with(value).as_bytes()).await;
        assert_eq!(status, 200, "{text}");
        assert!(text.contains("\"patch\""), "{text}");
    }
}

#[tokio::test]
async fn other_paths_and_methods_are_told_so() {
    let site = Site::start().await;
    for (line, expected) in [
        ("GET /inject", 405),
        ("POST /", 404),
        ("POST /inject/", 404),
        ("GET /metrics", 404),
        ("PRI *", 0),
    ] {
        let request = format!("{line} HTTP/1.1\r\nhost: x\r\n\r\n");
        let (status, _) = site.client().send(request.as_bytes()).await;
        assert!(status == expected || (expected == 0 && status >= 400), "{line}: {status}");
    }
    let many = format!("POST /inject HTTP/1.1\r\nx: {}\r\n\r\n", "a".repeat(64 * 1024));
    assert!(matches!(site.client().send(many.as_bytes()).await.0, 0 | 431));
}

/// Sends `bytes`, then nothing, and waits for the webhook to end it.
async fn stalled(site: &Site, bytes: &[u8]) -> String {
    let mut stream = site.client().connect().await.expect("TLS");
    stream.write_all(bytes).await.expect("sent");
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    let _ = tokio::time::timeout(PATIENCE, read).await.expect("ended by the webhook");
    String::from_utf8(answer).expect("text")
}

#[tokio::test]
async fn who_is_slow_is_let_go_and_keeps_nobody_waiting() {
    let site = Site::start().await;
    let slow_handshake = async {
        let mut stream = TcpStream::connect(site.address).await.expect("connected");
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer);
        let _ = tokio::time::timeout(PATIENCE, read).await.expect("ended by the webhook");
    };
    let slow_head = stalled(&site, b"POST /inject HTTP/1.1\r\nhost:");
    let slow_body =
        stalled(&site, b"POST /inject HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{");
    let others = async {
        let started = Instant::now();
        let (status, _) = site.client().post(question("till").to_string().as_bytes()).await;
        (status, started.elapsed())
    };
    let ((), _, body, (status, time)) = tokio::join!(slow_handshake, slow_head, slow_body, others);
    assert!(body.starts_with("HTTP/1.1 408"), "{body}");
    assert_eq!(status, 200);
    assert!(time < Duration::from_secs(3), "{time:?}");
}

#[tokio::test]
async fn plain_http_and_rubbish_are_counted_and_harmless() {
    let site = Site::start().await;
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 600], b"\x16\x03\x01\xff\xff"] {
        let mut stream = TcpStream::connect(site.address).await.expect("connected");
        stream.write_all(bytes).await.expect("sent");
        stream.shutdown().await.expect("half closed");
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
    }
    let metrics = site.metrics();
    assert!(metrics.contains("restpipe_webhook_handshakes_failed_total 3\n"), "{metrics}");
    let (status, _) = site.client().post(question("till").to_string().as_bytes()).await;
    assert_eq!(status, 200);
}
