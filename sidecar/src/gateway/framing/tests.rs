//! Where requests end, in any parts; hyper is the judge.

use std::cell::RefCell;
use std::convert::Infallible;

use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use tokio::io::AsyncReadExt as _;
use tokio_util::io::StreamReader;

use super::*;

/// What of `bytes`, which come in parts of `part` bytes, is read before the
/// line that is refused, if one is.
fn read_up_to_doubt(bytes: &[u8], part: usize) -> Option<&[u8]> {
    let mut framing = Framing::default();
    bytes.chunks(part).enumerate().find_map(|(nth, chunk)| {
        let doubt = framing.follow(chunk).err()?;
        Some(&bytes[..=nth * part + doubt.at])
    })
}

#[test]
fn lengths_beside_chunks_or_said_twice_and_bare_line_ends_are_doubtful_where_they_stand() {
    let long = " ".repeat(MAX_FRAMING_LINE);
    let zeros = "0".repeat(MAX_FRAMING_LINE);
    for (good, doubtful, rest) in [
        ("", "\n", ""),
        ("\r\n", "\n", ""),
        ("", "GET / HTTP/1.1\n", "\r\n"),
        ("GET / HTTP/1.1\r\n", "A: b\n", "\r\n"),
        ("GET / HTTP/1.1\r\nA: b\r\n", "\n", "GET / HTTP/1.1\r\n\r\n"),
        ("GET / HTTP/1.1\r\ncontent-length:5\r\n", "CONTENT-LENGTH: 5\r\n", "\r\nhello"),
        ("GET / HTTP/1.1\r\nContent-Length: 5\r\nA: b\r\n", "Content-Length: 6\r\n", "\r\n"),
        ("GET / HTTP/1.1\r\nContent-Length: 0\r\n", "Transfer-encoding: chunked\r\n", "\r\n"),
        ("GET / HTTP/1.1\r\ntransfer-encoding:chunked\r\n", "Content-Length: 0\r\n", "\r\n"),
        ("GET / HTTP/1.1\r\n", "Content-Length: 5, 5\r\n", "\r\nhello"),
        ("GET / HTTP/1.1\r\n", "Content-Length:\r\n", "\r\n"),
        ("GET / HTTP/1.1\r\n", &format!("Content-Length:{long}5\r\n"), "\r\nhello"),
        ("P / HTTP/1.1\r\nContent-Length: 2\r\n\r\n\n\n", "\n", "\n"),
        ("P / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n\n\r\n", "1\n", "\r\n"),
        ("P / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", "zz\r\n", "\r\n"),
        ("P / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", &format!("{zeros}\r\n"), "\r\n"),
        ("P / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", "A: b\n", "\r\n\r\n"),
        ("P / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", "1;\n", "=b\r\n"),
    ] {
        let all = [good, doubtful, rest].concat();
        for part in 1..=all.len() {
            let read = read_up_to_doubt(all.as_bytes(), part);
            assert_eq!(read, Some([good, doubtful].concat().as_bytes()), "{all:?} in {part}s");
        }
    }
}

#[test]
fn what_is_refused_ends_in_what_no_parser_takes_for_a_head() {
    let head = "GET / HTTP/1.1\r\nHost: a\n\r\nGET / HTTP/1.1\r\n\r\n";
    let mut read = Vec::new();
    block_on(Strict::new(head.as_bytes()).read_to_end(&mut read)).expect("all is read");
    assert_eq!(read, b"GET / HTTP/1.1\r\nHost: a\0\r\n\r\n");
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(future)
}

/// The targets and bodies of the requests that hyper takes.
async fn taken(io: impl AsyncRead + AsyncWrite + Unpin) -> Vec<(String, Bytes)> {
    let taken = RefCell::new(Vec::new());
    let service = service_fn(async |request: Request<Incoming>| {
        let target = request.uri().to_string();
        if let Ok(body) = request.into_body().collect().await {
            taken.borrow_mut().push((target, body.to_bytes()));
        }
        let mut response = Response::new(Empty::<Bytes>::new());
        // To CONNECT another answer would end HTTP.
        *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        Ok::<_, Infallible>(response)
    });
    // An error is an end like any other here, and the end of what is sent no
    // reason to leave requests unanswered.
    let _ =
        http1::Builder::new().half_close(true).serve_connection(TokioIo::new(io), service).await;
    taken.into_inner()
}

/// A stream on which `bytes` come in parts of `part` bytes.
fn parts(bytes: &[u8], part: usize) -> impl AsyncRead + AsyncWrite + Unpin {
    let parts = bytes.chunks(part).map(|part| Ok::<_, io::Error>(Bytes::copy_from_slice(part)));
    tokio::io::join(StreamReader::new(stream::iter(parts.collect::<Vec<_>>())), tokio::io::sink())
}

const GOOD: &[&str] = &[
    "GET /a HTTP/1.1\r\nHost: a\r\n\r\n",
    "\r\n\r\nPOST /b HTTP/1.1\r\ncontent-length:  3 \r\nA: b\r\n\r\nab\n",
    "POST /c HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
    "POST /d HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\na\r\n\r\n1\r\n\n\r\n0\r\n\r\n",
    "POST /e HTTP/1.1\r\nTE: a\r\nTRANSFER-ENCODING:gzip, chunked\r\nA: b\r\n\r\n\
         00a ;b=\"c\"\r\n0123456789\r\n0\t\r\nContent-Length: 9\r\nB: c\r\n\r\n",
    "POST /f HTTP/1.1\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "CONNECT a:1 HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc",
    "GET /g HTTP/1.1\r\nUpgrade: b\r\nConnection: upgrade\r\n\r\n",
    "HEAD /h HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\na",
];

const PIECES: &[&str] = &[
    "POST /p HTTP/1.1\r\n",
    "GET /q HTTP/1.0\r\n",
    "Content-Length: 3\r\n",
    "Content-Length: 2",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: identity\r\n",
    "Connection: close\r\n",
    "A: b",
    "0\r\n",
    "3\r\n",
    "abc",
    "\r\n",
    "\r",
    "\n",
    " ",
    ";",
    "\0",
];

/// Requests, most of them good, and pieces of some.
fn requests() -> impl Strategy<Value = String> {
    let some = prop_oneof![3 => select(GOOD), 2 => select(PIECES)];
    vec(some, 0..8).prop_map(|all| all.concat())
}

#[test]
fn good_requests_are_all_taken_one_behind_the_other_in_any_parts() {
    let all = GOOD.concat();
    for part in 1..all.len() {
        let taken = block_on(taken(Strict::new(parts(all.as_bytes(), part))));
        let targets: Vec<&str> = taken.iter().map(|(target, _)| target.as_str()).collect();
        assert_eq!(targets, ["/a", "/b", "/c", "/d", "/e", "/f", "a:1", "/g", "/h"], "in {part}s");
    }
}

proptest! {
    #[test]
    fn hyper_takes_the_same_requests_up_to_the_first_doubtful_one(
        requests in requests(),
        part in 1..100_usize,
    ) {
        let loosely = block_on(taken(parts(requests.as_bytes(), part)));
        let strictly = block_on(taken(Strict::new(parts(requests.as_bytes(), part))));
        prop_assert!(loosely.starts_with(&strictly), "{strictly:?} {loosely:?}");
        if read_up_to_doubt(requests.as_bytes(), part).is_none() {
            prop_assert_eq!(strictly, loosely);
        }
    }

    #[test]
    fn behind_any_bytes_a_doubtful_request_is_never_taken(
        requests in requests(),
        doubtful in select(&[
            "GET /doubtful HTTP/1.1\n\r\n",
            "GET /doubtful HTTP/1.1\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n",
            "GET /doubtful HTTP/1.1\r\nContent-Length: 5\r\n\
             Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ][..]),
        part in 1..100_usize,
    ) {
        let all = requests + doubtful;
        let taken = block_on(taken(Strict::new(parts(all.as_bytes(), part))));
        prop_assert!(taken.iter().all(|(target, _)| target != "/doubtful"), "{taken:?}");
    }

    #[test]
    fn any_bytes_are_judged_alike_in_any_parts(
        bytes in vec(select(b"\r\n: 0a;\0".as_slice()), 0..300),
        part in 1..300_usize,
    ) {
        prop_assert_eq!(read_up_to_doubt(&bytes, part), read_up_to_doubt(&bytes, bytes.len().max(1)));
    }
}
