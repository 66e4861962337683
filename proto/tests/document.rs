//! The worked example in `docs/wire-protocol.md` is what the codec writes.
//! `UPDATE=1 cargo test -p restpipe-proto` writes it anew.

use std::fmt::Write;
use std::path::Path;

use bytes::{Bytes, BytesMut};
use prost::Message;
use restpipe_proto::pb::{Hello, Limits, ReplyHead, RequestHead, Verb};
use restpipe_proto::{Class, DEFAULT_MAX_STREAMS, Flags, Frame, HEADER_LEN, Kind, VERSION, head};

const BEGIN: &str = "<!-- example: written by proto/tests/document.rs -->\n```text\n";
const END: &str = "```\n<!-- end of example -->\n";

fn hello(instance: &str, boot: u8, epoch: u64) -> Bytes {
    head::to_bytes(&Hello {
        min_version: VERSION,
        max_version: VERSION,
        instance: instance.into(),
        boot_id: vec![boot; 16].into(),
        epoch,
        limits: Some(Limits { max_streams: DEFAULT_MAX_STREAMS }),
        heartbeat_ms: 5_000,
        software: "example 1".into(),
        ..Hello::default()
    })
}

fn with_head(message: &impl Message, body: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    head::put(&mut out, message).expect("small");
    out.extend_from_slice(body);
    out.freeze()
}

fn show(out: &mut String, title: &str, frame: &Frame) {
    let mut wire = BytesMut::new();
    frame.encode(&mut wire);
    let hex =
        |bytes: &[u8]| bytes.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
    let fields = [0..3, 3..4, 4..5, 5..6, 6..8, 8..16].map(|field| hex(&wire[field]));
    writeln!(out, "{title}\n  {}", fields.join(" ")).expect("a String grows");
    for line in wire[HEADER_LEN..].chunks(32) {
        writeln!(out, "  {}", hex(line)).expect("a String grows");
    }
}

fn example() -> String {
    let frame = |kind, stream, class, end, payload| Frame {
        kind,
        flags: Flags::end_if(end),
        class,
        stream,
        payload,
    };
    let asked = RequestHead {
        verb: Verb::Post.into(),
        noun: "cat".into(),
        args: vec!["hello ".into(), "world".into()],
        mime: "text/plain".into(),
        deadline_ms: 60_000,
        reply_credit: 262_144,
        ..RequestHead::default()
    };
    let answered = ReplyHead {
        status: 200,
        mime: "text/plain".into(),
        body_len: Some(11),
        ..ReplyHead::default()
    };
    let mut out = String::new();
    let control = Class::Control;
    let (near, far) = (hello("edge-1:7070", 0xa1, 1), hello("hub-0:7070", 0xb2, 0));
    show(&mut out, "dialler: HELLO", &frame(Kind::Hello, 0, control, false, near));
    show(&mut out, "acceptor: HELLO", &frame(Kind::Hello, 0, control, false, far));
    let payload = with_head(&asked, b"body");
    show(
        &mut out,
        "dialler: REQ, stream 1, END",
        &frame(Kind::Req, 1, Class::Interactive, true, payload),
    );
    let payload = with_head(&answered, b"hello world");
    show(
        &mut out,
        "acceptor: REP, stream 1, END",
        &frame(Kind::Rep, 1, Class::Interactive, true, payload),
    );
    out
}

#[test]
fn the_example_in_the_document_is_what_the_codec_writes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/wire-protocol.md");
    let text = std::fs::read_to_string(&path).expect("the document");
    let (before, rest) = text.split_once(BEGIN).expect("the example begins");
    let (committed, after) = rest.split_once(END).expect("the example ends");
    let fresh = example();
    if std::env::var_os("UPDATE").is_some() {
        let fresh = format!("{before}{BEGIN}{fresh}{END}{after}");
        return std::fs::write(&path, fresh).expect("the file can be written");
    }
    assert!(
        committed == fresh,
        "the example is not what the codec writes: run UPDATE=1 cargo test -p restpipe-proto"
    );
}
