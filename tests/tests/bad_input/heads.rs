//! P8, P9, P10 and P16: what is asked.

use bytes::BytesMut;
use restpipe_pipe::pb::{Header, RequestHead, Verb};
use restpipe_proto::{Flags, Kind, head};
use restpipe_tests::wire::frame;

use crate::stage::Stage;
use crate::table::{End, Row, row};

/// The noun of all that is refused: the app never hears it.
const NEVER: &str = "never";

/// Tags of the fields of a request's head that are played with.
const VERB: u8 = 0x08;
const NOUN: u8 = 0x12;

/// A request on stream 1 whose head holds these bytes.
fn raw(head: &[u8]) -> BytesMut {
    let mut payload = BytesMut::new();
    prost_len(&mut payload, head.len());
    payload.extend_from_slice(head);
    payload.extend_from_slice(b"body");
    frame(Kind::Req, Flags::END, 1, payload.freeze())
}

/// A length as protobuf writes one of up to 14 bits.
fn prost_len(out: &mut BytesMut, len: usize) {
    match len {
        0..0x80 => out.extend_from_slice(&[len as u8]),
        _ => out.extend_from_slice(&[len as u8 | 0x80, (len >> 7) as u8]),
    }
}

/// A good head with these bytes behind it.
fn and(more: &[u8]) -> BytesMut {
    let good = head::to_bytes(&good(NEVER));
    raw(&[&good[..], more].concat())
}

fn good(noun: &str) -> RequestHead {
    RequestHead { verb: Verb::Post.into(), noun: noun.to_owned(), ..RequestHead::default() }
}

/// A request on stream 1.
fn asks(head: RequestHead) -> BytesMut {
    raw(&head::to_bytes(&head))
}

/// A field of bytes.
fn field(tag: u8, value: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::from(&[tag][..]);
    prost_len(&mut out, value.len());
    out.extend_from_slice(value);
    out.to_vec()
}

fn p8() -> Vec<Row> {
    let req = |payload: &'static [u8]| frame(Kind::Req, Flags::END, 1, payload);
    let nested = [0x7b; 200];
    let mut deep = vec![];
    for _ in 0..200 {
        // A message in a message in a header, which is known to have none.
        deep = field(0x0a, &deep);
    }
    let deep = field(0x32, &deep);
    let twice = [field(NOUN, b"a"), field(NOUN, b"p8")].concat();
    let verb = [VERB, Verb::Post as u8];
    let unknown = [0xf8, 0x07, 1, 0xfa, 0x07, 2, b'x', b'y', 0xfd, 0x07, 1, 2, 3, 4];
    vec![
        row("P8: no varint in front of the head", req(&[0xff; 11]), End::Refused(1, "length")),
        row("P8: a head longer than its frame", req(&[5, 1]), End::Refused(1, "length")),
        row("P8: a varint without an end", and(&[VERB, 0xff]), End::Refused(1, "varint")),
        row(
            "P8: a varint of eleven bytes",
            and(&[[VERB].as_slice(), &[0xff; 11]].concat()),
            End::Refused(1, "varint"),
        ),
        row("P8: a number where a text is due", and(&[0x10, 1]), End::Refused(1, "wire type")),
        row(
            "P8: a text where a number is due",
            and(&[0x0a, 1, b'x']),
            End::Refused(1, "wire type"),
        ),
        row("P8: wire type 7", and(&[0x17, 1]), End::Refused(1, "wire type")),
        row("P8: field 0", and(&[0x00, 1]), End::Refused(1, "tag")),
        row(
            "P8: a text that is longer than the head",
            and(&[NOUN, 9, b'x']),
            End::Refused(1, "cannot be decoded"),
        ),
        row("P8: 200 groups, one in another", and(&nested), End::Refused(1, "cannot be decoded")),
        row(
            "P8: the end of a group that never began",
            and(&[0x0c]),
            End::Refused(1, "cannot be decoded"),
        ),
        row("P8: 200 messages, one in another", and(&deep), End::Refused(1, "cannot be decoded")),
        row(
            "P8: a field twice, of which the last counts",
            raw(&[&verb[..], &twice].concat()),
            End::Answered(1, "body"),
        ),
        row(
            "P8: fields that nobody knows",
            raw(&[&verb[..], &field(NOUN, b"p8"), &unknown].concat()),
            End::Answered(1, "body"),
        ),
        row("P8: an empty head", raw(&[]), End::Refused(1, "verb")),
        row("P8: no payload at all", req(&[]), End::Refused(1, "length")),
        row(
            "P8: 257 headers",
            asks(RequestHead { headers: vec![header("x", "1"); 257], ..good(NEVER) }),
            End::Refused(1, "256 headers"),
        ),
        row(
            "P8: 1,025 arguments",
            asks(RequestHead { args: vec![String::new(); 1_025], ..good(NEVER) }),
            End::Refused(1, "1024 arguments"),
        ),
        row(
            "P8: a header with a line in its value",
            asks(RequestHead { headers: vec![header("x", "a\r\nb: c")], ..good(NEVER) }),
            End::Refused(1, "value of x"),
        ),
        row(
            "P8: a header with a space in its name",
            asks(RequestHead { headers: vec![header("x y", "1")], ..good(NEVER) }),
            End::Refused(1, "header's name"),
        ),
        row(
            "P8: a content type with a line in it",
            asks(RequestHead { mime: "a/b\r\nx: y".to_owned(), ..good(NEVER) }),
            End::Refused(1, "content type"),
        ),
    ]
}

fn header(name: &str, value: &str) -> Header {
    Header { name: name.to_owned(), value: value.to_owned().into() }
}

fn p9() -> Vec<Row> {
    let noun = field(NOUN, NEVER.as_bytes());
    let verb = |bytes: &[u8]| raw(&[bytes, &noun].concat());
    let text = |text: &str| verb(&field(0x0a, text.as_bytes()));
    let no_verb = "the verb is none that this node knows";
    // On the wire a verb is a number; as a text it is of the wrong type.
    vec![
        row("P9: no verb", verb(&[]), End::Refused(1, no_verb)),
        row("P9: verb 0", verb(&[VERB, 0]), End::Refused(1, no_verb)),
        row("P9: verb 7, the first that is not known", verb(&[VERB, 7]), End::Refused(1, no_verb)),
        row(
            "P9: verb -1",
            verb(&[[VERB].as_slice(), &[0xff; 9], &[1]].concat()),
            End::Refused(1, no_verb),
        ),
        row("P9: TRACE as a text", text("TRACE"), End::Refused(1, "wire type")),
        row("P9: get as a text", text("get"), End::Refused(1, "wire type")),
        row("P9: an empty text", text(""), End::Refused(1, "wire type")),
        row("P9: a text of 10 kB", text(&"G".repeat(10_000)), End::Refused(1, "wire type")),
    ]
}

fn p10() -> Vec<Row> {
    let noun = |noun: &str| asks(good(noun));
    let bytes = |noun: &[u8]| raw(&[&[VERB, Verb::Post as u8], &field(NOUN, noun)[..]].concat());
    let arg = |arg: &str| asks(RequestHead { args: vec![arg.to_owned()], ..good(NEVER) });
    vec![
        row("P10: a noun that is no UTF-8", bytes(b"never\xff"), End::Refused(1, "UTF-8")),
        row(
            "P10: a dot in two bytes of overlong UTF-8",
            bytes(b"never\xc0\xae"),
            End::Refused(1, "UTF-8"),
        ),
        row("P10: half of a surrogate pair", bytes(b"never\xed\xa0\x80"), End::Refused(1, "UTF-8")),
        row("P10: a noun with NUL", noun("never\0"), End::Refused(1, "NUL")),
        row("P10: ..", noun(".."), End::Refused(1, "..")),
        row("P10: .. in the middle", noun("never/../x"), End::Refused(1, "..")),
        row("P10: .", noun("never/."), End::Refused(1, ".")),
        row("P10: no noun", noun(""), End::Refused(1, "noun")),
        row("P10: a slash at the end", noun("never/"), End::Refused(1, "empty")),
        row("P10: a slash at the beginning", noun("/never"), End::Refused(1, "empty")),
        row("P10: a noun of 9,000 bytes", noun(&NEVER.repeat(1_800)), End::Refused(1, "1024")),
        row("P10: a noun of 1,025 bytes", noun(&"n".repeat(1_025)), End::Refused(1, "1024")),
        row("P10: a noun of 1,024 bytes", noun(&"n".repeat(1_024)), End::Answered(1, "body")),
        row("P10: an argument with NUL", arg("a\0"), End::Refused(1, "NUL")),
        row("P10: .. as an argument", arg(".."), End::Refused(1, "..")),
        row("P10: a noun that is a path of Windows", noun("p10\\..\\x"), End::Answered(1, "body")),
    ]
}

fn p16() -> Vec<Row> {
    // 10 MB of zeros in a few bytes, were it taken for what it says.
    let packed = RequestHead { headers: vec![header("content-encoding", "gzip")], ..good("p16") };
    let field_100 = [0xa0, 0x06, 1];
    let good = head::to_bytes(&good("p16"));
    vec![
        row("P16: a body that says it is packed", asks(packed), End::Answered(1, "body")),
        row(
            "P16: a field that could mean compression",
            raw(&[&good[..], &field_100].concat()),
            End::Answered(1, "body"),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_make_no_sense_are_refused_one_by_one_and_run_nothing() {
    let stage = Stage::new();
    stage.check(p8()).await;
    stage.check(p9()).await;
    stage.check(p10()).await;
    stage.check(p16()).await;
    assert_eq!(stage.runs(NEVER), 0, "what is refused is never run");
}
