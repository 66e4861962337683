//! The certificate changes while API servers ask.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use crate::reviews::question;
use crate::site::{Client, Files, Site, ca, leaf};

const HOUR: Duration = Duration::from_secs(3600);

const REQUESTS: usize = 1_000;
const CALLERS: usize = 4;
const ROTATIONS: usize = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_while_leafs_and_their_ca_are_rotated() {
    let mut site = Site::start().await;
    // As the controller does it: the bundle has the next CA before anything of it is served.
    let next = ca();
    let bundle = format!("{}{}", site.ca.cert_pem(), next.cert_pem());
    let (done, mut answers) = mpsc::channel(1);
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let (client, done) = (Client::new(site.address, &bundle), done.clone());
            let question = question("till").to_string();
            tokio::spawn(async move {
                for _ in 0..REQUESTS / CALLERS {
                    let (status, _) = client.post(question.as_bytes()).await;
                    done.send(status).await.expect("counted");
                }
            })
        })
        .collect();
    drop(done);
    let mut counted = 0;
    while let Some(status) = answers.recv().await {
        assert_eq!(status, 200);
        counted += 1;
        if counted % (REQUESTS / ROTATIONS) == 0 {
            let of = if counted < REQUESTS / 2 { &site.ca } else { &next };
            let issued = leaf(of, HOUR);
            site.files.put(&issued, &bundle);
            site.store.look(false);
        }
    }
    for caller in callers {
        caller.await.expect("no panic");
    }
    assert_eq!(counted, REQUESTS);
    let taken = format!("certificate_reloads_total{{result=\"ok\"}} {}\n", ROTATIONS + 1);
    assert!(site.metrics().contains(&taken), "{}", site.metrics());
    // The last one is of the new CA.
    assert!(site.client().connect().await.is_err());
    assert!(Client::new(site.address, next.cert_pem()).connect().await.is_ok());
}

#[tokio::test]
async fn files_that_are_not_good_are_said_once_and_the_old_certificate_stays() {
    let mut site = Site::start().await;
    let (good, other) = (leaf(&site.ca, HOUR), leaf(&site.ca, HOUR));
    let (ca_pem, stranger) = (site.ca.cert_pem().to_owned(), ca());
    let (cert, key) = (good.cert_pem.as_bytes(), good.key_pem.expose().as_bytes());
    let bad: [(&[u8], &[u8], &[u8]); 8] = [
        (cert, other.key_pem.expose().as_bytes(), ca_pem.as_bytes()),
        (&cert[..cert.len() / 2], key, ca_pem.as_bytes()),
        (cert, &key[..key.len() / 2], ca_pem.as_bytes()),
        (b"", key, ca_pem.as_bytes()),
        (cert, b"", ca_pem.as_bytes()),
        (cert, key, b""),
        (key, cert, ca_pem.as_bytes()),
        (cert, key, stranger.cert_pem().as_bytes()),
    ];
    for (count, (cert, key, ca)) in bad.into_iter().enumerate() {
        site.files.put_bytes(cert, key, ca);
        for _ in 0..3 {
            site.store.look(false);
        }
        let failed = format!("certificate_reloads_total{{result=\"failed\"}} {}\n", count + 1);
        assert!(site.metrics().contains(&failed), "{count}: {}", site.metrics());
        assert_eq!(site.certificate.check_ready(), Ok(()));
        assert!(site.client().connect().await.is_ok());
    }
    site.files.put(&good, &ca_pem);
    site.store.look(false);
    assert!(site.metrics().contains("certificate_reloads_total{result=\"ok\"} 2\n"));
}

#[tokio::test]
async fn a_webhook_without_a_certificate_is_not_ready_until_one_comes() {
    let mut site = Site::with(Files::empty(), ca()).await;
    let why = site.certificate.check_ready().expect_err("none");
    assert_eq!(why, "there is no certificate yet: the controller makes it");
    assert!(site.client().connect().await.is_err());

    let issued = leaf(&site.ca, HOUR);
    site.files.put(&issued, site.ca.cert_pem());
    site.store.look(false);
    assert_eq!(site.certificate.check_ready(), Ok(()));
    assert!(site.client().connect().await.is_ok());
}

#[tokio::test]
async fn what_runs_when_the_end_comes_is_answered() {
    let site = Site::start().await;
    let client = site.client();
    // A connection that has been made, and its request half sent.
    let mut stream = client.connect().await.expect("TLS");
    let body = question("till").to_string();
    let head =
        format!("POST /inject HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await.expect("sent");
    // The webhook has it once another, made later, has been answered.
    assert_eq!(client.post(body.as_bytes()).await.0, 200);
    site.stop.cancel();
    stream.write_all(body.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    site.running.await.expect("ended");
    assert!(client.connect().await.is_err());
}
