"""Handlers and bodies that misbehave: a clear answer to the caller, a clear line in the log."""

from __future__ import annotations

import asyncio
import http.client
import logging
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import restpipe
from conftest import LONG, App, Serve, Told
from restpipe import Context, PostData


class OwnError(Exception):
    pass


class SilentError(Exception):
    def __str__(self) -> str:
        raise ValueError("not even this")


class Bad(restpipe.EventHandler):
    def get_value(self, ctx: Context, post_data: PostData) -> None:
        raise ValueError("the shelf is empty")

    async def get_own(self, ctx: Context, post_data: PostData) -> None:
        raise OwnError("grün\nred")

    def get_silent(self, ctx: Context, post_data: PostData) -> None:
        raise SilentError

    def get_stop(self, ctx: Context, post_data: PostData) -> None:
        raise StopIteration(3)

    def get_exit(self, ctx: Context, post_data: PostData) -> None:
        sys.exit(3)

    async def put_exit(self, ctx: Context, post_data: PostData) -> None:
        await asyncio.sleep(0)
        raise SystemExit

    def get_interrupt(self, ctx: Context, post_data: PostData) -> None:
        raise KeyboardInterrupt

    async def get_cancelled(self, ctx: Context, post_data: PostData) -> None:
        raise asyncio.CancelledError

    def get_object(self, ctx: Context, post_data: PostData) -> object:
        return object()

    def get_nan(self, ctx: Context, post_data: PostData) -> float:
        return float("nan")

    def get_circle(self, ctx: Context, post_data: PostData) -> list[Any]:
        circle: list[Any] = []
        circle.append(circle)
        return circle

    def get_pair(self, ctx: Context, post_data: PostData) -> tuple[str, str]:
        return "text/plain", "x"

    def get_mime(self, ctx: Context, post_data: PostData) -> tuple[Any, int, str]:
        return "text/html\r\nSet-Cookie: a=b", 0, "x"

    def get_code(self, ctx: Context, post_data: PostData) -> tuple[str, Any, str]:
        return "text/plain", "0", "x"

    def get_huge(self, ctx: Context, post_data: PostData) -> tuple[str, int, str]:
        return "text/plain", 10**12, "x"

    def get_dict(self, ctx: Context, post_data: PostData) -> tuple[str, int, Any]:
        return "text/plain", 0, {"a": 1}

    def get_charset(self, ctx: Context, post_data: PostData) -> tuple[str, int, str]:
        return "text/plain; charset=ascii", 0, "grün"

    def get_coroutine(self, ctx: Context, post_data: PostData) -> Any:
        return self.get_own(ctx, post_data)

    def get_early(self, ctx: Context, post_data: PostData) -> Iterator[bytes]:
        raise ValueError("before the first piece")
        yield b""

    async def put_early(self, ctx: Context, post_data: PostData) -> AsyncIterator[bytes]:
        raise ValueError("before the first piece")
        yield b""

    def get_words(self, ctx: Context, post_data: PostData) -> Iterator[Any]:
        yield "text"

    def get_late(self, ctx: Context, post_data: PostData) -> Iterator[bytes]:
        yield b"some"
        raise ValueError("in the middle")

    async def put_late(self, ctx: Context, post_data: PostData) -> AsyncIterator[bytes]:
        yield b"some"
        raise ValueError("in the middle")

    def post_late(self, ctx: Context, post_data: PostData) -> Iterator[Any]:
        yield b"some"
        yield 7

    def delete_late(self, ctx: Context, post_data: PostData) -> Iterator[Any]:
        yield b"some"
        sys.exit("in the middle")

    def get_print(self, ctx: Context, post_data: PostData) -> str:
        print("to nobody")
        return "fine"

    def post_json(self, ctx: Context, post_data: PostData) -> Any:
        return post_data.json()

    def post_any(self, ctx: Context, post_data: PostData) -> int:
        return len(post_data.raw)


@pytest.fixture
def bad(serve: Serve) -> App:
    return serve(Bad)


def fields(caplog: pytest.LogCaptureFixture, level: int = logging.ERROR) -> list[dict[str, Any]]:
    return [getattr(record, "fields", {}) for record in caplog.records if record.levelno >= level]


@pytest.mark.parametrize(
    ("verb", "noun", "name", "message"),
    [
        ("GET", "value", "ValueError", "the shelf is empty"),
        ("GET", "own", f"{OwnError.__module__}.OwnError", "grün\nred"),
        ("GET", "silent", f"{OwnError.__module__}.SilentError", "__str__ raised"),
        ("GET", "stop", "StopIteration", "3"),
        ("GET", "exit", "SystemExit", "get_exit called for sys.exit(3); the app goes on"),
        ("PUT", "exit", "SystemExit", "put_exit called for sys.exit(None)"),
        ("GET", "interrupt", "KeyboardInterrupt", "the app goes on"),
        ("GET", "cancelled", "asyncio.exceptions.CancelledError", ""),
        ("GET", "object", "WrongAnswerError", "get_object returned an object that JSON cannot say"),
        ("GET", "nan", "WrongAnswerError", "finite numbers"),
        ("GET", "circle", "WrongAnswerError", "get_circle returned a list"),
        ("GET", "pair", "WrongAnswerError", "a tuple of 2: return data, or exactly (mime, code,"),
        ("GET", "mime", "WrongAnswerError", "the MIME type"),
        ("GET", "code", "WrongAnswerError", "the code '0'"),
        ("GET", "huge", "WrongAnswerError", "the code 1000000000000"),
        ("GET", "dict", "WrongAnswerError", "a dict as text/plain: only JSON is encoded"),
        ("GET", "charset", "WrongAnswerError", "cannot be written in ascii"),
        ("GET", "coroutine", "WrongAnswerError", "declare it with async def"),
        ("GET", "early", "ValueError", "before the first piece"),
        ("PUT", "early", "ValueError", "before the first piece"),
        ("GET", "words", "WrongAnswerError", "yielded a str: each piece"),
    ],
)
def test_a_handler_that_fails_is_251_with_the_exception_and_a_log_line(
    bad: App, caplog: pytest.LogCaptureFixture, verb: str, noun: str, name: str, message: str
) -> None:
    got = bad.ask(f"/{noun}", verb=verb)
    assert (got.status, got.code) == (500, 251)
    assert got.headers["content-type"] == "application/json"
    assert got.exception["class"] == name
    assert message in got.exception["message"]
    assert got.exception["traceback"] == "", "tracebacks stay here unless allowed"
    (line,) = fields(caplog)
    assert (line["verb"], line["noun"], line["peer"], line["code"]) == (verb, noun, "hub", 251)
    assert line["class"] == name
    assert "Traceback" in line["traceback"] or name in line["traceback"]
    assert bad.ask("/print").json() == "fine", "the app goes on"


def test_tracebacks_cross_the_pipe_where_it_is_allowed(serve: Serve) -> None:
    got = serve(Bad, tracebacks=True).ask("/value").exception
    assert "in get_value" in got["traceback"]
    assert got["traceback"].endswith("ValueError: the shelf is empty\n")


@pytest.mark.parametrize("verb", ["GET", "PUT", "POST", "DELETE"])
def test_a_stream_that_fails_after_its_head_is_broken_off_and_never_silently_short(
    bad: App, caplog: pytest.LogCaptureFixture, verb: str
) -> None:
    with pytest.raises(http.client.IncompleteRead):
        bad.ask("/late", verb=verb)
    (line,) = fields(caplog)
    assert (line["bytes"], line["noun"]) == (4, "late")
    assert line["class"] in ("ValueError", "WrongAnswerError", "SystemExit")
    assert any("broken off after 4 bytes" in record.getMessage() for record in caplog.records)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_handler_that_hangs_is_given_up_at_the_deadline(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    go, seen, ended = threading.Event(), threading.Event(), threading.Event()

    class Hangs(restpipe.EventHandler):
        def get_hang(self, ctx: Context, post_data: PostData) -> str:
            assert go.wait(LONG)
            if ctx.cancelled and ctx.time_left() < 1:
                seen.set()
            return "too late"

        async def put_hang(self, ctx: Context, post_data: PostData) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        def get_ok(self, ctx: Context, post_data: PostData) -> str:
            return "ok"

    app = serve(Hangs, threads=1, max_events=3)
    caplog.set_level(logging.INFO)
    got = app.ask("/hang", deadline_s=0.3)
    assert (got.status, got.code) == (504, 251)
    assert got.exception["class"] == "DeadlineExceededError"
    assert "get_hang gave no answer before the deadline" in got.exception["message"]
    assert "holds 1 of 1 threads" in got.exception["message"]
    got = app.ask("/hang", verb="PUT", deadline_s=0.3)
    assert (got.status, got.code) == (504, 251)
    assert ended.wait(LONG), "an async handler is cancelled"
    got = app.ask("/ok", deadline_s=0.3)
    assert (got.status, got.code, got.headers["retry-after"]) == (503, 503, "1")
    assert "get_ok was not run: all 1 handler threads were busy" in got.exception["message"]
    go.set()
    assert seen.wait(LONG), "a handler can see that nobody waits"
    assert app.ask("/ok").json() == "ok"
    assert len(fields(caplog)) == 3


def test_a_deadline_that_is_over_runs_nothing(serve: Serve) -> None:
    ran = threading.Event()

    class Notes(restpipe.EventHandler):
        def get_x(self, ctx: Context, post_data: PostData) -> None:
            ran.set()

    got = serve(Notes).ask("/x", deadline_s=-1)
    assert (got.status, got.code) == (504, 504)
    assert "it was not run" in got.exception["message"]
    assert not ran.is_set()


def test_a_stream_that_hangs_is_broken_off(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    go = threading.Event()

    class Stalls(restpipe.EventHandler):
        def get_x(self, ctx: Context, post_data: PostData) -> Iterator[bytes]:
            yield b"some"
            go.wait(LONG)

    app = serve(Stalls, stream_stall_s=0.2)
    with pytest.raises(http.client.IncompleteRead):
        app.ask("/x")
    go.set()
    assert any("the iterator gave none for 0.2 s" in r.getMessage() for r in caplog.records)


def test_a_caller_that_leaves_ends_the_handlers_wait(serve: Serve, told: Told) -> None:
    inside, ended = threading.Event(), threading.Event()

    class Waits(restpipe.EventHandler):
        async def get_x(self, ctx: Context, post_data: PostData) -> None:
            inside.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

    app = serve(Waits)
    with app.connect() as made:
        made.sendall(b"GET /x HTTP/1.1\r\nhost: localhost\r\nrestpipe-noun: x\r\n\r\n")
        assert inside.wait(LONG)
    assert ended.wait(LONG)
    assert told.wait_for("not answered: the caller left before the answer")


def test_a_body_that_breaks_off_runs_nothing(serve: Serve, told: Told) -> None:
    ran = threading.Event()

    class Notes(restpipe.EventHandler):
        def post_x(self, ctx: Context, post_data: PostData) -> None:
            ran.set()

    app = serve(Notes)
    with app.connect() as made:
        made.sendall(
            b"POST /x HTTP/1.1\r\nhost: localhost\r\nrestpipe-noun: x\r\n"
            b"content-length: 9\r\n\r\nab"
        )
    assert told.wait_for("the caller left before its request was whole")
    assert not ran.is_set()


@pytest.mark.parametrize(
    ("mime", "body", "said"),
    [
        ("application/json", b"a=1", "the body is not JSON (Expecting value"),
        ("application/json", b'"\xff"', "the body is not utf-8"),
        ("application/problem+json; charset=utf-8", b"{", "the body is not JSON"),
        ("application/json", b"[" * 200_000, "nested too deeply"),
        ("text/plain; charset=utf-8", b"\xff", "the body is not utf-8"),
        ("text/plain; charset=klingon", b"x", "the charset 'klingon', which does not exist"),
    ],
)
def test_a_body_that_is_not_what_it_says_is_400_before_the_handler_runs(
    bad: App, caplog: pytest.LogCaptureFixture, mime: str, body: bytes, said: str
) -> None:
    got = bad.ask("/any", verb="POST", body=body, headers={"content-type": mime})
    assert (got.status, got.code) == (400, 400)
    assert got.exception["class"] == "BadBodyError"
    assert said in got.exception["message"]
    (line,) = fields(caplog, logging.WARNING)
    assert line["class"] == "BadBodyError"


def test_a_handler_may_take_bodies_unchecked_and_check_them_itself(serve: Serve) -> None:
    class Trusting(Bad):
        check_bodies = False

    app = serve(Trusting)
    sent = {"content-type": "application/json"}
    assert app.ask("/any", verb="POST", body=b"a=1", headers=sent).json() == 3
    got = app.ask("/json", verb="POST", body=b"a=1", headers=sent)
    assert (got.status, got.code, got.exception["class"]) == (400, 400, "BadBodyError")


def test_an_encoded_body_is_left_to_the_handler(bad: App) -> None:
    sent = {"content-type": "application/json", "content-encoding": "gzip"}
    assert bad.ask("/any", verb="POST", body=b"\x1f\x8b", headers=sent).json() == 2


@pytest.mark.parametrize("body", [bytes(1001), [bytes(600), bytes(600)]])
def test_a_body_too_large_to_be_taken_whole_is_413(serve: Serve, body: Any) -> None:
    sent = body if isinstance(body, bytes) else iter(body)
    app = serve(Bad, max_body_bytes=1000)
    got = app.ask("/any", verb="POST", body=sent)
    assert (got.status, got.code) == (413, 413)
    assert "@restpipe.streamed" in got.exception["message"]
    assert app.ask("/any", verb="POST", body=bytes(1000)).json() == 1000


def test_many_failing_handlers_leave_nothing_behind(serve: Serve) -> None:
    app = serve(Bad, threads=4, max_events=16)
    nouns = ["value", "own", "exit", "object", "early", "words"] * 20
    with ThreadPoolExecutor(8) as pool:
        codes = {got.code for got in pool.map(lambda noun: app.ask(f"/{noun}"), nouns)}
    assert codes == {251}
    assert app.ask("/print").json() == "fine"


def test_a_start_hook_that_fails_stops_the_start(caplog: pytest.LogCaptureFixture) -> None:
    class Fails(restpipe.EventHandler):
        def start_hook(self) -> None:
            raise OSError("no disk")

        def get_x(self, ctx: Context, post_data: PostData) -> None: ...

    server = restpipe.Server(Fails, "127.0.0.1:0")
    assert server.run() == 1
    assert "Fails.start_hook raised OSError: no disk" in caplog.text
