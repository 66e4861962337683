//! P4 and P15: the first words, and who one is.

use std::time::Instant;

use restpipe_pipe::pb::{GoAwayReason, Hello};
use restpipe_proto::{Flags, Kind, head};
use restpipe_tests::binary::{SOON, eventually};
use restpipe_tests::http::get;
use restpipe_tests::site::CLIENT;
use restpipe_tests::wire::{WirePeer, frame, hello_of, local, ping};
use serde_json::Value;

use crate::stage::{GOOD, Stage, ask};
use crate::table::{End, ends_with, is_alive, row};

fn hello(min_version: u32, max_version: u32) -> Vec<u8> {
    let hello = Hello { min_version, max_version, ..hello_of("first") };
    frame(Kind::Hello, Flags::NONE, 0, head::to_bytes(&hello)).to_vec()
}

/// First words: the reason and a word of the goodbye, and the label.
type First = (&'static str, Vec<u8>, GoAwayReason, &'static str, &'static str);

fn first_words() -> Vec<First> {
    use GoAwayReason::{ProtocolError, Version};
    let broken = frame(Kind::Hello, Flags::NONE, 0, &[0xff, 0xff][..]).to_vec();
    vec![
        ("P4: a version of the future", hello(3, 4), Version, "versions 3 to 4", "version"),
        ("P4: a version of the past", hello(0, 1), Version, "versions 0 to 1", "version"),
        ("P4: no version", hello(0, 0), Version, "versions 0 to 0", "version"),
        ("P4: versions in the wrong order", hello(3, 2), Version, "versions 3 to 2", "version"),
        ("P8: a HELLO that cannot be read", broken, ProtocolError, "cannot be decoded", "protocol"),
        (
            "P4: another frame before HELLO",
            ping(1).to_vec(),
            ProtocolError,
            "before HELLO",
            "protocol",
        ),
        (
            "P1: HTTP inside of TLS",
            b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            ProtocolError,
            "bytes",
            "protocol",
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn first_words_that_are_no_hello_of_this_version_get_a_goodbye_that_says_so() {
    let stage = Stage::new();
    for (name, bytes, reason, words, label) in first_words() {
        eprintln!("{name}");
        let label = format!("reason=\"{label}\"");
        let failed = || stage.counted("restpipe_handshakes_failed_total", &label);
        let before = failed();
        let stream = stage.wire.connect(local(2)).await.expect("a socket");
        let mut peer = WirePeer::from(stage.wire.secure(stream).await.expect("TLS"));
        peer.send(&bytes).await.expect("it is open");
        let first = peer.next().await.expect("a frame").expect("a frame");
        assert_eq!(first.kind, Kind::Hello, "{name}: who is at the other end says so first");
        stage.within(SOON, ends_with(&mut peer, reason, words)).await;
        eventually(name, || failed() == before + 1.0);
    }
    let second = frame(Kind::Hello, Flags::NONE, 0, head::to_bytes(&hello_of("second")));
    stage.check(vec![row("P4: a second HELLO", second, End::Pipe("second HELLO"))]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_says_nothing_in_tls_is_let_go_after_two_seconds() {
    let stage = Stage::new();
    let began = Instant::now();
    let stream = stage.wire.connect(local(2)).await.expect("a socket");
    let mut peer = WirePeer::from(stage.wire.secure(stream).await.expect("TLS"));
    let first = peer.next().await.expect("a frame").expect("a frame");
    assert_eq!(first.kind, Kind::Hello);
    assert!(stage.within(SOON, peer.has_ended()).await);
    let took = began.elapsed();
    assert!((2..5).contains(&took.as_secs()), "P4: {took:?}");
    let failed = || stage.counted("restpipe_handshakes_failed_total", "reason=\"no-hello\"");
    eventually("it is counted", || failed() == 1.0);
}

fn peers(stage: &Stage) -> Vec<Value> {
    let peers = get(stage.server.gateway(), "/-/peers").json();
    peers["peers"].as_array().expect("a list").clone()
}

fn said(peer: &Value, what: &str) -> String {
    peer[what].as_str().expect("a text").to_owned()
}

/// HELLO has no hostname; what it can claim is another's place and process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_a_hello_claims_the_certificate_alone_says_who_one_is() {
    let stage = Stage::new();
    let good = peers(&stage).pop().expect("the good client");
    let boot_id: Vec<u8> = said(&good, "boot_id").as_bytes().chunks(2).map(hex_byte).collect();
    for (name, instance, boot_id) in [
        ("P15: another's hostname as instance", GOOD.to_owned(), vec![1; 16]),
        ("P15: another's instance", said(&good, "instance"), vec![1; 16]),
        ("P15: another's instance and process", said(&good, "instance"), boot_id),
    ] {
        eprintln!("{name}");
        // Features that nobody knows promise nothing, and no live epochs
        // would have an older pipe of this very process closed.
        let claim = Hello {
            instance,
            boot_id: boot_id.into(),
            epoch: u64::MAX,
            features: u64::MAX,
            software: format!("I am {GOOD}"),
            ..hello_of(GOOD)
        };
        let mut peer = stage.open(&stage.wire, &claim).await;
        is_alive(&mut peer).await;
        let mut names: Vec<_> = peers(&stage).iter().map(|peer| said(peer, "hostname")).collect();
        names.sort();
        assert_eq!(names, [CLIENT, GOOD], "{name}");
        let still = peers(&stage).into_iter().find(|peer| peer["hostname"] == GOOD);
        assert_eq!(still.map(|peer| said(&peer, "since")), Some(said(&good, "since")), "{name}");
        // What is asked of the good client goes to it, and not here.
        let answer = stage.within(SOON, ask(stage.server.gateway(), GOOD, "whose")).await;
        assert_eq!(answer.expect("a caller").expect("an answer").status, 404, "{name}");
        is_alive(&mut peer).await;
        drop(peer);
        stage.is_alone();
        stage.good.goes_on();
    }
}

fn hex_byte(digits: &[u8]) -> u8 {
    u8::from_str_radix(std::str::from_utf8(digits).expect("ASCII"), 16).expect("two hex digits")
}
