"""The tiny client: what it sends, what it gives back, and what it says when it cannot."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import LONG, FakeGateway, Request
from restpipe import Pipe, PipeFailError
from restpipe.pipe import event_path

Start = Callable[..., FakeGateway]


def ok(request: Request) -> None:
    request.answer(200, b'{"a": 1}', X_Event_Return_Code="0", X_Event_Outcome="executed")


@pytest.mark.parametrize(
    ("noun", "args", "query", "path"),
    [
        ("time", [], None, "/time"),
        ("time/utc", [], None, "/time/utc"),
        ("cat", ["hello ", "world"], None, "/cat//hello%20/world"),
        ("cat", ["a/b", "%2F", "", "ü?#&+"], None, "/cat//a%2Fb/%252F//%C3%BC%3F%23%26%2B"),
        ("cat", ["", "x"], None, "/cat///x"),
        ("cat", [1, 2.5], {"q": "a b&c", "n": [1, 2]}, "/cat//1/2.5?q=a%20b%26c&n=1&n=2"),
        ("a b/c?", [], [("x", "1"), ("x", "ü")], "/a%20b/c%3F?x=1&x=%C3%BC"),
        ("cat", ["..."], {}, "/cat//..."),
    ],
)
def test_paths_are_written_as_the_gateway_reads_them(
    noun: str, args: list[Any], query: Any, path: str
) -> None:
    assert event_path(noun, args, query) == path


@pytest.mark.parametrize(
    ("noun", "args", "said"),
    [
        ("", [], "an empty segment of the noun"),
        ("/time", [], "without a slash at its begin or end"),
        ("..", [], "refused by every gateway"),
        ("cat", [".."], "'..' as argument is refused by every gateway"),
        ("cat", ["a\0"], "refused by every gateway"),
        ("cat", [""], "a single empty argument cannot be told from none"),
        ("cat", "word", "give a list"),
    ],
)
def test_what_no_gateway_takes_is_refused_before_it_is_sent(
    noun: str, args: Any, said: str
) -> None:
    with pytest.raises((ValueError, TypeError), match=said):
        event_path(noun, args)


def test_a_call_is_one_line(gateway: Start) -> None:
    made = gateway(ok)
    reply = Pipe(made.url).server.get("time/utc", args=["a/b"], timeout=5, wait=2)
    assert reply.json() == {"a": 1}
    assert (reply.status, reply.code, reply.outcome, reply.retriable) == (200, 0, "executed", False)
    (asked,) = made.requests
    assert (asked.verb, asked.path) == ("GET", "/server/time/utc//a%2Fb")
    assert asked.headers["RestPipe-Timeout"] == "5000ms"
    assert asked.headers["prefer"] == "wait=2"


def test_clients_are_asked_by_hostname_from_a_server(gateway: Start, tmp_path: Path) -> None:
    made = gateway(ok, tmp_path / "gateway.sock")
    pipe = Pipe(made.url)
    pipe.client("fileserver").delete("file", ["x"])
    pipe.client("::1").patch("file")
    assert [(r.verb, r.path) for r in made.requests] == [
        ("DELETE", "/client/fileserver/file//x"),
        ("PATCH", "/client/%3A%3A1/file"),
    ]


def test_the_environment_says_where_the_gateway_is(
    gateway: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = gateway(ok)
    monkeypatch.setenv("RESTPIPE_URL", made.url)
    assert Pipe().server.head("time").read() == b""
    assert made.requests[0].verb == "HEAD"


@pytest.mark.parametrize(
    ("options", "mime", "body"),
    [
        ({"json": {"a": "ü"}}, "application/json", json.dumps({"a": "ü"}).encode()),
        ({"json": 0}, "application/json", b"0"),
        ({"data": "ü"}, "text/plain; charset=utf-8", "ü".encode()),
        ({"data": b"\x00"}, "application/octet-stream", b"\x00"),
        ({"data": io.BytesIO(b"file")}, "application/octet-stream", b"file"),
        ({"data": iter([b"a", b"b"]), "mime": "text/csv"}, "text/csv", b"ab"),
    ],
)
def test_bodies_are_sent_with_their_type(
    gateway: Start, options: dict[str, Any], mime: str, body: bytes
) -> None:
    made = gateway(ok)
    Pipe(made.url).server.post("x", **options)
    assert (made.requests[0].headers["content-type"], made.requests[0].body) == (mime, body)


@pytest.mark.parametrize(
    "options",
    [{"json": 1, "data": b"x"}, {"data": io.StringIO("x")}, {"timeout": 0}, {"json": float("nan")}],
)
def test_what_makes_no_sense_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError)):
        Pipe("http://127.0.0.1:9").server.post("x", **options)


@pytest.mark.parametrize("url", ["https://127.0.0.1:1", "127.0.0.1:7070", "unix:rel", "http://h:x"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"give http://127\.0\.0\.1:7070 or unix:/path"):
        Pipe(url)


def test_an_answer_is_read_as_it_comes(gateway: Start) -> None:
    go = threading.Event()

    def slowly(request: Request) -> None:
        request.handler.send_response(200)
        request.handler.send_header("transfer-encoding", "chunked")
        request.handler.end_headers()
        request.write(b"5\r\nfirst\r\n")
        assert go.wait(LONG)
        request.write(b"6\r\nsecond\r\n0\r\n\r\n")

    chunks = Pipe(gateway(slowly).url).server.get("x").iter_bytes()
    assert next(chunks) == b"first"
    go.set()
    assert list(chunks) == [b"second"]


@pytest.mark.parametrize(
    "head", [b"content-length: 9\r\n\r\nsome", b"transfer-encoding: chunked\r\n\r\n4\r\nsome\r\n"]
)
def test_an_answer_that_is_broken_off_is_never_silently_short(gateway: Start, head: bytes) -> None:
    def short(request: Request) -> None:
        request.write(b"HTTP/1.1 200 OK\r\nX-Event-Outcome: executed\r\n" + head)

    with pytest.raises(PipeFailError, match="broken off after 4 bytes") as caught:
        Pipe(gateway(short).url).server.get("x").read()
    error = caught.value
    assert (error.code, error.outcome, error.reason) == (502, "executed", "broken-off")


def test_failures_are_raised_unless_asked_otherwise(gateway: Start) -> None:
    made = gateway(lambda r: r.answer(404, b"{}", X_Event_Return_Code="255"))
    with pytest.raises(PipeFailError) as caught:
        Pipe(made.url).server.get("x")
    assert caught.value.code == 255
    for reply in (
        Pipe(made.url, check=False).server.get("x"),
        Pipe(made.url).server.get("x", check=False),
    ):
        assert (reply.status, reply.code) == (404, 255)


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "unix:/nowhere/at.sock"])
def test_a_gateway_that_is_not_there_means_not_sent(url: str) -> None:
    with pytest.raises(PipeFailError, match="start the node, or set RESTPIPE_URL") as caught:
        Pipe(url).server.post("x")
    error = caught.value
    assert (error.outcome, error.retriable, error.reason) == ("not-sent", True, "no-gateway")


@pytest.mark.parametrize(("verb", "retriable"), [("get", True), ("post", False)])
def test_a_gateway_that_breaks_off_means_unknown(
    gateway: Start, verb: str, retriable: bool
) -> None:
    target = Pipe(gateway(lambda request: None).url).server
    with pytest.raises(PipeFailError, match="broke off before it answered") as caught:
        getattr(target, verb)("x")
    assert (caught.value.outcome, caught.value.retriable) == ("unknown", retriable)


def test_a_gateway_that_is_silent_is_given_up(
    gateway: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("restpipe.pipe.CALL_GRACE_S", 0.1)
    done = threading.Event()

    def silent(request: Request) -> None:
        done.wait(LONG)

    made = gateway(silent)
    with pytest.raises(PipeFailError, match=r"no answer within 0\.2 s") as caught:
        Pipe(made.url, timeout=0.1).server.get("x")
    done.set()
    assert (caught.value.code, caught.value.outcome) == (504, "unknown")


def test_an_answer_larger_than_wanted_is_refused(gateway: Start) -> None:
    reply = Pipe(gateway(lambda r: r.answer(200, bytes(100_000))).url).server.get("x")
    with pytest.raises(ValueError, match="read it with iter_bytes"):
        reply.read(limit=99_999)


def test_an_early_answer_to_a_large_body_is_heard(gateway: Start) -> None:
    def early(request: Request) -> None:
        request.answer(413, b'{"detail": "too large"}')

    made = gateway(early)
    with pytest.raises(PipeFailError) as caught:
        Pipe(made.url).server.put("x", data=bytes(8_000_000))
    assert caught.value.code == 413
