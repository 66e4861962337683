"""Connection hooks, fed from a gateway's stream of events."""

from __future__ import annotations

import asyncio
import json
import logging
import queue
import threading
from collections.abc import Callable
from typing import Any

import pytest

import restpipe
from conftest import LONG, FakeGateway, Request, Serve, Told
from restpipe import ConnectionEvent, Context, Pipe, PostData
from restpipe.events import parse_time

Start = Callable[..., FakeGateway]

AT = "2026-11-22T17:00:00.123456789Z"


def line(kind: str, peer: str, **more: Any) -> bytes:
    data = json.dumps({"event": kind, "peer": peer, "at": AT, **more})
    return f"event: {kind}\ndata: {data}\n\n".encode()


class Hooked(restpipe.EventHandler):
    def __init__(self) -> None:
        self.heard: queue.SimpleQueue[tuple[str, ConnectionEvent]] = queue.SimpleQueue()

    def get_x(self, ctx: Context, post_data: PostData) -> None: ...

    def connection_success(self, event: ConnectionEvent) -> None:
        self.heard.put(("success", event))
        if event.peer == "bad":
            raise ValueError("a hook's own fault")
        if event.peer == "exit":
            raise SystemExit

    async def connection_lost(self, event: ConnectionEvent) -> None:
        await asyncio.sleep(0)
        self.heard.put(("lost", event))
        if event.peer == "bad":
            raise SystemExit

    def connection_fail(self, event: ConnectionEvent) -> None:
        self.heard.put(("fail", event))

    def connection_idle(self, event: ConnectionEvent) -> None:
        self.heard.put(("idle", event))


def stream(request: Request) -> None:
    request.handler.send_response(200)
    request.handler.send_header("content-type", "text/event-stream")
    request.handler.end_headers()


def test_hooks_hear_what_happens_to_pipes(serve: Serve, gateway: Start) -> None:
    done = threading.Event()

    def script(request: Request) -> None:
        assert (request.path, request.headers["accept"]) == ("/-/events", "text/event-stream")
        stream(request)
        request.write(b": from now on\n\n")
        request.write(line("connect", "fs", instance="pod-1", address="10.0.0.1:5"))
        request.write(b'event: disconnect\r\ndata: {\r\ndata: "peer": "fs"}\r\n\r\n')
        request.write(line("connect-fail", "hub", reason="tls") + line("idle", "fs"))
        done.wait(LONG)

    handler = Hooked()
    serve(handler, gateway=gateway(script).url)
    heard = [handler.heard.get(timeout=LONG) for _ in range(4)]
    done.set()
    assert [(name, event.kind, event.peer) for name, event in heard] == [
        ("success", "connect", "fs"),
        ("lost", "disconnect", "fs"),
        ("fail", "connect-fail", "hub"),
        ("idle", "idle", "fs"),
    ]
    first = heard[0][1]
    assert (first.instance, first.address, first.reason) == ("pod-1", "10.0.0.1:5", "")
    assert first.at is not None
    assert first.at.isoformat() == "2026-11-22T17:00:00.123456+00:00"
    assert heard[2][1].reason == "tls"
    assert first.data["event"] == "connect"


def test_a_stream_that_breaks_is_opened_again_and_bad_events_are_left_out(
    serve: Serve, gateway: Start, caplog: pytest.LogCaptureFixture
) -> None:
    done = threading.Event()
    calls: list[int] = []

    def script(request: Request) -> None:
        calls.append(1)
        if len(calls) == 1:
            request.answer(503, b"later")
            return
        stream(request)
        if len(calls) == 2:
            request.write(b"event: connect\ndata: no json\n\n" + line("unheard-of", "x"))
            request.write(b"event: connect\ndata: [1]\n\n" + line("connect", "first"))
            return
        request.write(line("connect", "second"))
        done.wait(LONG)

    handler = Hooked()
    serve(handler, gateway=gateway(script).url)
    assert [handler.heard.get(timeout=LONG)[1].peer for _ in range(2)] == ["first", "second"]
    done.set()
    assert "HTTP 503" in caplog.text
    assert caplog.text.count("cannot be read and is left out") == 2


def test_a_hook_that_fails_is_logged_and_the_next_is_called(
    serve: Serve, gateway: Start, told: Told
) -> None:
    done = threading.Event()

    def script(request: Request) -> None:
        stream(request)
        for kind, peer in (("connect", "bad"), ("connect", "exit"), ("disconnect", "bad")):
            request.write(line(kind, peer))
        request.write(line("idle", "good"))
        done.wait(LONG)

    handler = Hooked()
    serve(handler, gateway=gateway(script).url)
    heard = [handler.heard.get(timeout=LONG)[1].peer for _ in range(4)]
    done.set()
    assert heard == ["bad", "exit", "bad", "good"]
    assert told.wait_for("Hooked.connection_success raised ValueError: a hook's own fault")
    assert told.wait_for("Hooked.connection_lost raised SystemExit")


def test_a_handler_without_hooks_asks_no_gateway(serve: Serve, gateway: Start) -> None:
    class Plain(restpipe.EventHandler):
        def get_x(self, ctx: Context, post_data: PostData) -> str:
            return "x"

    made = gateway(lambda request: request.answer(500))
    app = serve(Plain, gateway=made.url)
    assert app.ask("/x").json() == "x"
    assert made.requests == []


def test_a_gateway_that_is_not_there_is_told_once(
    serve: Serve, told: Told, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("restpipe.feed.FEED_RETRY_MIN_S", 0.001)
    caplog.set_level(logging.DEBUG, "restpipe")
    serve(Hooked, gateway="http://127.0.0.1:9")
    records = [told.wait_for("no connection events") for _ in range(3)]
    assert [record.levelno for record in records] == [logging.WARNING, *[logging.DEBUG] * 2]
    assert "is the node running, and RESTPIPE_URL right?" in records[0].getMessage()


def test_a_program_may_read_the_events_itself(gateway: Start) -> None:
    def script(request: Request) -> None:
        stream(request)
        request.write(line("connect", "a") + line("disconnect", "a"))

    events = list(Pipe(gateway(script).url).events())
    assert [(event.kind, event.peer) for event in events] == [("connect", "a"), ("disconnect", "a")]


def test_an_endless_line_does_not_fill_the_memory(gateway: Start) -> None:
    def script(request: Request) -> None:
        stream(request)
        while True:
            request.write(b"x" * 65536)

    with pytest.raises(Exception, match="longer than 65536 bytes"):
        list(Pipe(gateway(script).url).events())


@pytest.mark.parametrize(
    ("text", "iso"),
    [
        ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05+00:00"),
        ("2026-01-02T03:04:05.7Z", "2026-01-02T03:04:05.700000+00:00"),
        ("2026-01-02T03:04:05.123+02:00", "2026-01-02T03:04:05.123000+02:00"),
    ],
)
def test_times_are_read_as_rfc_3339_writes_them(text: str, iso: str) -> None:
    assert parse_time(text).isoformat() == iso


@pytest.mark.parametrize("text", ["", "Z", "now", "2026-01-02", "2026-01-02T03:04:05", "5.xZ"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_time(text)
