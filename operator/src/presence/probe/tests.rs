use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

/// A pod that gives `answer` to everybody who asks, and how often it was asked.
async fn pod(answer: Vec<u8>) -> (SocketAddr, Arc<std::sync::atomic::AtomicUsize>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let asked = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = asked.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            let answer = answer.clone();
            tokio::spawn(async move {
                let mut request = [0; 1024];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(&answer).await;
                // Until the other side has had enough.
                let _ = stream.read(&mut request).await;
            });
        }
    });
    (address, asked)
}

fn ok(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

async fn told(answer: Vec<u8>) -> Answer {
    Prober::default().probe_at(pod(answer).await.0).await
}

#[tokio::test]
async fn what_a_pod_tells_is_bounded_and_a_later_version_may_tell_more() {
    let status = serde_json::json!({
        "role": "client", "ready": false, "instance": "fs-1", "more": {"of": "it"},
        "identity": {"name": "fs.clients.hub.shop.restpipe", "serial": "0a", "trusts": ["ab"],
            "not_after": "2026-11-22T08:00:00Z"},
        "peers": [{"address": "10.0.0.1:7072", "state": "draining", "since": "2026-11-22T08:00:00Z"}],
        "last_failure": {"reason": "refused_unknown_ca", "at": "2026-11-22T07:00:00Z",
            "detail": format!("bad\u{1b}[31m\n{}", "x".repeat(4000))},
    });
    let seen = told(ok(&status.to_string())).await.expect("an answer");
    assert_eq!((seen.ready, seen.instance.as_str(), seen.serial.as_str()), (false, "fs-1", "0a"));
    assert!(seen.not_after.is_some() && seen.pipes.is_empty());
    let trouble = seen.state().expect_err("it is not connected");
    assert_eq!(trouble.reason, "UnknownCa");
    assert!(trouble.detail.starts_with("bad\\u{1b}[31m\\nxxx"), "{}", trouble.detail);
    assert!(trouble.detail.len() <= 1024);
}

#[tokio::test]
async fn a_pod_that_gives_no_good_answer_is_silent() {
    let long = format!(r#"{{"identity": {{"serial": "{}"}}}}"#, "x".repeat(MAX_BODY));
    let head = format!("HTTP/1.1 200 OK\r\nx-long: {}\r\n\r\n", "x".repeat(2 * MAX_HEAD));
    for (answer, words) in [
        (b"HTTP/1.1 302 Found\r\nlocation: http://10.0.0.1/\r\n\r\n".to_vec(), "it answers 302"),
        (ok("[]"), "it is no status of a node"),
        (ok(&long), "length limit exceeded"),
        (head.into_bytes(), "too large"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{".to_vec(), "no answer within 2s"),
        (b"SSH-2.0-OpenSSH_9.9\r\n".to_vec(), "invalid HTTP version"),
    ] {
        let trouble = told(answer).await.expect_err("no answer");
        assert_eq!(trouble.reason, "ClientSilent");
        let detail = trouble.detail;
        assert!(detail.contains(words) && detail.contains("NetworkPolicy"), "{words}: {detail}");
    }
}

#[tokio::test]
async fn an_answer_is_good_for_a_few_seconds() {
    let (address, asked) = pod(ok(r#"{"identity": {"serial": "0a"}}"#)).await;
    let prober = Prober::default();
    for _ in 0..3 {
        assert!(prober.probe_at(address).await.is_ok());
    }
    assert_eq!(asked.load(std::sync::atomic::Ordering::SeqCst), 1);
    prober.kept.lock().expect("a lock").clear();
    assert!(prober.clone().probe_at(address).await.is_ok());
    assert_eq!(asked.load(std::sync::atomic::Ordering::SeqCst), 2);
}

#[tokio::test]
async fn what_is_no_address_of_a_pod_is_not_asked() {
    for address in ["127.0.0.1", "::1", "169.254.169.254", "::ffff:127.0.0.1", "fe80::1", "0.0.0.0"]
    {
        let ip: IpAddr = address.parse().expect("an address");
        let trouble = Prober::default().probe(ip).await.expect_err("refused");
        assert!(trouble.detail.contains("no pod has such an address"), "{address}");
    }
    assert!(is_of_a_pod("10.1.2.3".parse().expect("an address")));
    assert!(is_of_a_pod("fd00::7".parse().expect("an address")));
}
