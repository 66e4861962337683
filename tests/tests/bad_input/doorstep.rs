//! P1 to P3: connections that never become a pipe.

use std::io;
use std::time::{Duration, Instant};

use restpipe_identity::ALPN;
use restpipe_tests::binary::{SOON, eventually, run};
use restpipe_tests::forged::{Fault, Forged, forge};
use restpipe_tests::site::{CLIENT, text};
use restpipe_tests::wire::{Wire, local};
use rustls::AlertDescription as Alert;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::stage::Stage;

const FAILED: &str = "restpipe_handshakes_failed_total";

/// So long a handshake may take. In figures, as the page says it: what the node
/// goes by must not change unseen.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// Bytes for whoever is at the port; the alert that comes back; the label.
type Knock = (&'static str, Vec<u8>, Option<Alert>, &'static str);

/// A ClientHello of TLS 1.2 as a library of ten years ago sends it.
fn tls_1_2_hello() -> Vec<u8> {
    let mut extensions = Vec::new();
    // supported_groups: x25519, P-256. signature_algorithms: ECDSA and RSA.
    extensions.extend([0, 10, 0, 6, 0, 4, 0, 0x1d, 0, 0x17]);
    extensions.extend([0, 13, 0, 6, 0, 4, 4, 3, 8, 4]);
    let mut hello = vec![3, 3];
    hello.extend([7; 32]);
    // No session; two suites of ECDHE; no compression.
    hello.extend([0, 0, 4, 0xc0, 0x2b, 0xc0, 0x2f, 1, 0]);
    hello.extend((extensions.len() as u16).to_be_bytes());
    hello.extend(extensions);
    let mut message = vec![1, 0];
    message.extend((hello.len() as u16).to_be_bytes());
    message.extend(hello);
    record(0x16, &message)
}

/// A record of TLS.
fn record(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![kind, 3, 1];
    out.extend((payload.len() as u16).to_be_bytes());
    out.extend(payload);
    out
}

/// Bytes that look like none, the same in each run.
fn noise(len: usize) -> Vec<u8> {
    let mut seed = 0x9e37_79b9_u32;
    let mut next = || {
        seed ^= seed << 13;
        seed ^= seed >> 17;
        seed ^= seed << 5;
        (seed >> 8) as u8
    };
    (0..len).map(|_| next()).collect()
}

/// A fatal alert, not encrypted, as it stands on the wire.
fn on_wire(alert: Alert) -> Vec<u8> {
    vec![0x15, 3, 3, 0, 2, 2, u8::from(alert)]
}

fn no_tls() -> Vec<Knock> {
    let http = b"GET /server/time HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec();
    let long = record(0x16, &[1; 0xffff]);
    let noise_in_tls = record(0x16, &[&[1, 0, 1, 0xf4], &noise(500)[..]].concat());
    vec![
        ("P1: plain HTTP", http, Some(Alert::DecodeError), "not_tls"),
        ("P1: TLS 1.2", tls_1_2_hello(), Some(Alert::ProtocolVersion), "version"),
        ("P1: noise", noise(2_000), Some(Alert::DecodeError), "not_tls"),
        ("P1: zeros", vec![0; 100], Some(Alert::DecodeError), "not_tls"),
        ("P1: SSH", b"SSH-2.0-OpenSSH_9.6\r\n".to_vec(), Some(Alert::DecodeError), "not_tls"),
        ("P1: a ClientHello of noise", noise_in_tls, Some(Alert::DecodeError), "not_tls"),
        ("P1: a TLS record over its limit", long, Some(Alert::DecodeError), "not_tls"),
        (
            "P1: data before any handshake",
            record(0x17, &noise(50)),
            Some(Alert::UnexpectedMessage),
            "not_tls",
        ),
        ("P1: nothing, and the end", Vec::new(), None, "tls"),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_tls_1_3_is_told_so_in_tls_and_closed() {
    let stage = Stage::new();
    for (name, bytes, alert, label) in no_tls() {
        eprintln!("{name}");
        let reason = format!("reason=\"{label}\"");
        let before = stage.counted(FAILED, &reason);
        let mut stream = stage.wire.connect(local(2)).await.expect("a socket");
        // It may be closed before all is sent.
        let _ = stream.write_all(&bytes).await;
        if bytes.is_empty() {
            stream.shutdown().await.expect("it is open");
        }
        let mut said = Vec::new();
        // Who closes with bytes unread resets the connection.
        let _ = stage.within(HANDSHAKE, stream.read_to_end(&mut said)).await;
        assert_eq!(said, alert.map(on_wire).unwrap_or_default(), "{name}");
        eventually(name, || stage.counted(FAILED, &reason) == before + 1.0);
        stage.good.goes_on();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_says_nothing_or_half_a_hello_is_closed_after_five_seconds() {
    let stage = Stage::new();
    let hello = stage.wire.client_hello();
    let half = &hello[..hello.len() / 2];
    let began = Instant::now();
    let knocks =
        [("P1: nothing", &[][..]), ("P1: one byte", &half[..1]), ("P1: half a hello", half)];
    let mut streams = Vec::new();
    for (name, bytes) in knocks {
        let mut stream = stage.wire.connect(local(2)).await.expect("a socket");
        stream.write_all(bytes).await.expect("it is open");
        streams.push((name, stream));
    }
    for (name, mut stream) in streams {
        let mut said = Vec::new();
        let _ = stage.within(2 * HANDSHAKE, stream.read_to_end(&mut said)).await;
        assert_eq!(said, [0_u8; 0], "{name}");
        let took = began.elapsed();
        assert!((5..10).contains(&took.as_secs()), "{name}: {took:?}");
    }
    let timeouts = || stage.counted(FAILED, "reason=\"timeout\"");
    eventually("all three are counted", || timeouts() == 3.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_are_all_counted_and_few_of_them_logged() {
    const STRANGERS: usize = 60;
    let stage = Stage::new();
    for number in 0..STRANGERS {
        let mut stream = stage.wire.connect(local(2 + number)).await.expect("a socket");
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await.expect("it is open");
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }
    let counted = || stage.counted(FAILED, "reason=\"not_tls\"");
    eventually("P1: all are counted", || counted() == STRANGERS as f64);
    let lines = stage.server.log().lines();
    let said = lines.iter().filter(|line| line.contains("connection refused at the pipe"));
    // 10 lines in 10 s, and one such time may end and another begin.
    assert!((1..=20).contains(&said.count()), "{lines:#?}");
    stage.good.goes_on();
}

/// Why a server ends TLS, as the client hears it.
async fn refusal(wire: &Wire) -> Option<Alert> {
    let stream = wire.connect(local(2)).await.expect("a socket");
    // A client is done before the server has looked at its certificate.
    let error = match wire.secure(stream).await {
        Ok(mut stream) => match stream.read(&mut [0; 64]).await {
            Ok(0) => return None,
            Ok(_) => panic!("the server speaks to it"),
            Err(error) => error,
        },
        Err(error) => error,
    };
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::AlertReceived(alert)) => Some(*alert),
        None if error.kind() == io::ErrorKind::UnexpectedEof => None,
        _ => panic!("neither an alert nor an end: {error:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_shows_no_good_certificate_or_speaks_another_protocol_gets_no_pipe() {
    let stage = Stage::new();
    let (ca, site) = (stage.site.path("ca"), &stage.site);
    let own = Forged::read(&site.identity("client", CLIENT));
    let server = forge(&ca, "client", CLIENT, Fault::WrongRole);
    let foreign = |name: &str| {
        let (ca, dir) = (site.path(name), site.path(&format!("of-{name}")));
        let _ = run(["identity", "ca", "--dir", text(&ca), "--name", name]).output();
        site.issue(name, "client", CLIENT, &dir, &[]);
        Forged::read(&dir)
    };
    let (stranger, namesake) = (foreign("other"), foreign("RestPipe CA"));
    let (good, none): (&[&[u8]], &[&[u8]]) = (&[ALPN], &[]);
    let (http, old): (&[&[u8]], &[&[u8]]) = (&[b"h2", b"http/1.1"], &[b"restpipe/1"]);
    let certificate_required = Some(Alert::CertificateRequired);
    let no_protocol = Some(Alert::NoApplicationProtocol);
    for (name, shown, protocols, alert, label) in [
        ("P2: no certificate", None, good, certificate_required, "cert_required"),
        ("P2: of another CA", Some(&stranger), good, Some(Alert::UnknownCA), "unknown_ca"),
        (
            "P2: of another CA of the same name",
            Some(&namesake),
            good,
            Some(Alert::DecryptError),
            "unknown_ca",
        ),
        (
            "P2: for serverAuth only",
            Some(&server),
            good,
            Some(Alert::UnsupportedCertificate),
            "bad_eku",
        ),
        ("P3: ALPN of HTTP", Some(&own), http, no_protocol, "alpn"),
        ("P3: ALPN of another version", Some(&own), old, no_protocol, "alpn"),
        // rustls has no alert for this; the connection is closed.
        ("P3: no ALPN", Some(&own), none, None, "alpn"),
    ] {
        eprintln!("{name}");
        let reason = format!("reason=\"{label}\"");
        let before = stage.counted(FAILED, &reason);
        let wire = Wire::showing(&ca, stage.server.pipe(), shown, protocols);
        assert_eq!(stage.within(SOON, refusal(&wire)).await, alert, "{name}");
        eventually(name, || stage.counted(FAILED, &reason) == before + 1.0);
        stage.good.goes_on();
    }
    assert_eq!(stage.counted("restpipe_pipes", ""), 1.0, "the good client's");
}
