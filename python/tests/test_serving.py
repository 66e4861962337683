"""What a served handler gets, and what of its answers reaches the node."""

from __future__ import annotations

import asyncio
import json
import socket
import stat
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

import restpipe
from conftest import LONG, App, Serve, rfc3339
from restpipe import Context, PostData, StreamedPostData

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Echo(restpipe.EventHandler):
    def get_echo(
        self, ctx: Context, post_data: PostData, *args: str, **query: str
    ) -> dict[str, Any]:
        return {
            "peer": ctx.peer,
            "noun": ctx.noun,
            "verb": ctx.verb,
            "trace": ctx.trace,
            "trace_id": ctx.trace_id,
            "deadline": ctx.deadline.isoformat(),
            "left": ctx.time_left(),
            "headers": dict(ctx.headers),
            "args": args,
            "query": query,
            "pairs": ctx.query,
            "none": tuple(post_data) == ("", ""),
        }

    post_echo = get_echo

    def post_body(self, ctx: Context, post_data: PostData) -> Any:
        mime, data = post_data
        assert isinstance(data, bytes)
        return mime or "none/none", 0, data

    def get_time_utc(self, ctx: Context, post_data: PostData) -> str:
        return "by time/utc"

    @restpipe.noun("time_utc")
    def get_the_other(self, ctx: Context, post_data: PostData) -> str:
        return "by time_utc"

    def get_bytes(self, ctx: Context, post_data: PostData) -> bytes:
        return b"\x00\xff"

    def get_text(self, ctx: Context, post_data: PostData) -> tuple[str, int, str]:
        return "text/plain", 0, "grün"

    def get_nothing(self, ctx: Context, post_data: PostData) -> None:
        return None

    def delete_it(self, ctx: Context, post_data: PostData) -> tuple[str, int, bytes]:
        return "", 204, b""

    async def get_async(self, ctx: Context, post_data: PostData, x: str = "?") -> list[str]:
        await asyncio.sleep(0)
        return ["async", x]

    def get_code(self, ctx: Context, post_data: PostData, code: str) -> tuple[str, int, Any]:
        return "application/json", int(code), {"own": code}


@pytest.fixture
def echo(serve: Serve) -> App:
    return serve(Echo)


def test_a_handler_learns_who_asks_for_what_until_when(echo: App) -> None:
    deadline = rfc3339(30)
    sent = {"traceparent": TRACE, "X-Own": "1", "RestPipe-Deadline": deadline}
    got = echo.ask("/echo?a=1&b=&a=2", peer="fileserver", headers=sent).json()
    assert (got["peer"], got["noun"], got["verb"]) == ("fileserver", "echo", "GET")
    assert (got["trace"], got["trace_id"]) == (TRACE, "0af7651916cd43dd8448eb211c80319c")
    assert datetime.fromisoformat(got["deadline"]).isoformat(timespec="milliseconds") == (
        deadline.replace("Z", "+00:00")
    )
    assert 20 < got["left"] <= 30
    assert got["headers"]["x-own"] == "1"
    assert "restpipe-from" not in got["headers"]
    assert got["query"] == {"a": "2", "b": ""}
    assert got["pairs"] == [["a", "1"], ["b", ""], ["a", "2"]]
    assert got["none"] is True


def test_an_event_without_a_deadline_gets_the_default_one(echo: App) -> None:
    got = echo.ask("/echo").json()
    left = datetime.fromisoformat(got["deadline"]) - datetime.now(timezone.utc)
    assert timedelta(seconds=50) < left <= timedelta(seconds=60)


@pytest.mark.parametrize(
    ("path", "noun", "args"),
    [
        ("/echo", "echo", []),
        ("/echo/", "echo", [""]),
        ("/echo/hello%20/world", "echo", ["hello ", "world"]),
        ("/echo/a%2Fb/%2525", "echo", ["a/b", "%25"]),
        ("/echo//x/", "echo", ["", "x", ""]),
        ("/echo/gr%C3%BCn+%26", "echo", ["grün+&"]),
    ],
)
def test_arguments_arrive_as_they_were_meant(
    echo: App, path: str, noun: str, args: list[str]
) -> None:
    assert echo.ask(path, noun).json()["args"] == args


def test_a_noun_with_a_slash_and_one_with_an_underscore_are_two(echo: App) -> None:
    assert echo.ask("/time/utc", "time/utc").json() == "by time/utc"
    assert echo.ask("/time_utc", "time_utc").json() == "by time_utc"


def test_a_person_may_ask_the_app_past_any_node(echo: App) -> None:
    assert echo.raw("/time/utc", {}).json() == "by time/utc"
    got = echo.raw("/echo/a/b", {}).json()
    assert (got["peer"], got["args"]) == ("", ["a", "b"])
    assert echo.raw("/unknown/here", {}).status == 404


def test_a_body_arrives_with_its_type_as_it_was_sent(echo: App) -> None:
    sent = bytes(range(256)) * 1000
    got = echo.ask("/body", verb="POST", body=sent, headers={"content-type": "image/png; q=1"})
    assert (got.body, got.headers["content-type"]) == (sent, "image/png; q=1")


def test_a_body_in_pieces_arrives_whole(echo: App) -> None:
    got = echo.ask("/body", verb="POST", body=iter([b"one ", b"two"]))
    assert got.body == b"one two"


def test_data_is_json_unless_it_is_bytes(echo: App) -> None:
    for path, mime, body in [
        ("/bytes", "application/octet-stream", b"\x00\xff"),
        ("/text", "text/plain; charset=utf-8", "grün".encode()),
        ("/nothing", "application/json", b"null"),
        ("/async/1", "application/json", b'["async", "1"]'),
    ]:
        got = echo.ask(path)
        assert (got.status, got.code, got.headers["content-type"], got.body) == (200, 0, mime, body)


def test_no_content_has_no_content(echo: App) -> None:
    got = echo.ask("/it", verb="DELETE", noun="it")
    assert (got.status, got.code, got.body) == (204, 0, b"")
    assert got.headers["content-length"] is None


@pytest.mark.parametrize(
    ("own", "status", "code"),
    [(0, 200, 0), (201, 201, 0), (404, 404, 404), (503, 503, 503), (7, 500, 7), (251, 500, 251)],
)
def test_a_handlers_code_decides_status_and_return_code(
    echo: App, own: int, status: int, code: int
) -> None:
    got = echo.ask(f"/code/{own}")
    assert (got.status, got.code, got.json()) == (status, code, {"own": str(own)})


def test_head_is_answered_by_get_without_the_body(echo: App) -> None:
    got = echo.ask("/bytes", verb="HEAD")
    assert (got.status, got.code, got.headers["content-length"], got.body) == (200, 0, "2", b"")


def test_unknown_nouns_are_255_and_say_what_there_is(serve: Serve, echo: App) -> None:
    class Slash(restpipe.EventHandler):
        def get_time_utc(self, ctx: Context, post_data: PostData) -> str:
            return "x"

    slash = serve(Slash)
    for app, verb, noun, said in [
        (echo, "GET", "no/such", "there is no method get_no_such"),
        (echo, "PUT", "echo", "the noun echo has no handler for PUT, only for GET, POST"),
        (echo, "GET", "a-b", "no method has @restpipe.noun('a-b')"),
        (slash, "GET", "time_utc", "get_time_utc answers time/utc; ask for that"),
    ]:
        got = app.ask(f"/{noun}", noun, verb=verb)
        assert (got.status, got.code) == (404, 255)
        assert said in got.exception["message"]
        assert got.exception["class"] == "NoHandler"


@pytest.mark.parametrize(
    ("path", "headers", "said"),
    [
        ("/async/1/2", {}, "get_async takes (x: 'str' = '?'), but got 2 in the path"),
        ("/code", {}, "missing a required argument: 'code'"),
        ("/bytes?x=1", {}, "unexpected keyword argument 'x'"),
        ("/echo?ctx=1", {}, "multiple values for argument 'ctx'"),
        ("/echo/%ff", {}, "not UTF-8"),
        ("/echo?x=%ff", {}, "the query cannot be read"),
        ("/echo", {"RestPipe-Deadline": "soon"}, "is no RFC 3339 time"),
    ],
)
def test_events_that_no_method_takes_are_the_callers_mistake(
    echo: App, path: str, headers: dict[str, str], said: str
) -> None:
    got = echo.ask(path, headers=headers)
    assert (got.status, got.code) == (400, 400)
    assert said in got.exception["message"]


def test_a_noun_that_is_not_the_paths_is_refused(echo: App) -> None:
    assert "RestPipe-Noun" in echo.ask("/echo/x", "ech").exception["message"]


def test_verbs_beyond_the_six_are_refused(echo: App) -> None:
    got = echo.ask("/echo", verb="OPTIONS")
    assert (got.status, got.code) == (405, 405)


def test_a_unix_socket_serves_too_and_is_its_owners_alone(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    app = serve(Echo, f"unix:{path}")
    assert app.ask("/time/utc", "time/utc").json() == "by time/utc"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_socket_left_behind_is_replaced_and_one_in_use_is_not(
    serve: Serve, tmp_path: Path
) -> None:
    path = tmp_path / "app.sock"
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))
    left.close()
    app = serve(Echo, f"unix:{path}")
    with pytest.raises(restpipe.HandlerError, match="something listens there"):
        restpipe.Server(Echo, f"unix:{path}")
    assert app.ask("/bytes").body == b"\x00\xff"
    (tmp_path / "file").write_text("precious")
    with pytest.raises(restpipe.HandlerError, match="a file that is no socket"):
        restpipe.Server(Echo, f"unix:{tmp_path / 'file'}")


@pytest.mark.parametrize(
    "address", ["0.0.0.0:8080", "http://example.com:80", "unix:rel", "http://127.0.0.1", "x:y:z"]
)
def test_only_loopback_and_unix_sockets_are_served(address: str) -> None:
    with pytest.raises(restpipe.HandlerError, match=r"give (http://)?127\.0\.0\.1|give unix:/path"):
        restpipe.Server(Echo, address)


def test_a_web_page_does_not_reach_the_handlers(echo: App) -> None:
    assert echo.ask("/echo", headers={"Host": "evil.example"}).status == 403
    assert echo.raw("/echo", {"Origin": "http://evil.example"}).status == 403
    assert echo.raw("/echo", {"Sec-Fetch-Site": "cross-site"}).status == 403
    assert echo.ask("/echo", headers={"Origin": "http://localhost:7070"}).status == 200


def test_a_connection_is_kept_for_the_next_event(echo: App) -> None:
    with echo.connect() as made:
        for _ in range(3):
            made.sendall(b"GET /bytes HTTP/1.1\r\nhost: localhost\r\nrestpipe-noun: bytes\r\n\r\n")
            got = b""
            while not got.endswith(b"\x00\xff"):
                got += made.recv(4096)
            assert got.startswith(b"HTTP/1.1 200")


class Streams(restpipe.EventHandler):
    def __init__(self) -> None:
        self.go = threading.Event()
        self.closed = threading.Event()

    def get_slowly(self, ctx: Context, post_data: PostData) -> Iterator[bytes]:
        yield b"first"
        assert self.go.wait(LONG)
        yield b"second"

    async def get_async(self, ctx: Context, post_data: PostData) -> AsyncIterator[bytes]:
        for part in (b"a", b"b", b"c"):
            await asyncio.sleep(0)
            yield part

    async def get_mixed(self, ctx: Context, post_data: PostData) -> tuple[str, int, Any]:
        return "text/csv", 0, iter([b"1,", bytearray(b"2"), memoryview(b"\n")])

    def get_none(self, ctx: Context, post_data: PostData) -> Iterator[bytes]:
        return iter(())

    def get_endless(self, ctx: Context, post_data: PostData) -> Iterator[bytes]:
        try:
            while True:
                yield bytes(65536)
        finally:
            self.closed.set()

    @restpipe.streamed
    def post_count(self, ctx: Context, post_data: StreamedPostData) -> dict[str, int]:
        return {"bytes": sum(len(chunk) for chunk in post_data.data)}

    @restpipe.streamed
    async def put_count(self, ctx: Context, post_data: StreamedPostData) -> dict[str, int]:
        count = 0
        async for chunk in post_data.data:
            count += len(chunk)
        return {"bytes": count}

    @restpipe.streamed
    def post_upper(self, ctx: Context, post_data: StreamedPostData) -> Iterator[bytes]:
        for chunk in post_data.data:
            yield chunk.upper()


def test_a_streamed_answer_is_sent_as_it_is_made(serve: Serve) -> None:
    handler = Streams()
    app = serve(handler)
    with app.connect() as made:
        made.sendall(b"GET /slowly HTTP/1.1\r\nhost: localhost\r\nrestpipe-noun: slowly\r\n\r\n")
        got = b""
        while b"first" not in got:
            got += made.recv(4096)
        assert b"second" not in got
        handler.go.set()
        while not got.endswith(b"0\r\n\r\n"):
            got += made.recv(4096)
        assert b"second" in got


def test_all_kinds_of_iterators_are_streamed(serve: Serve) -> None:
    app = serve(Streams)
    assert app.ask("/async").body == b"abc"
    mixed = app.ask("/mixed")
    assert (mixed.body, mixed.headers["content-type"]) == (b"1,2\n", "text/csv")
    assert app.ask("/none").body == b""


def test_a_body_is_streamed_to_a_handler_that_asks_for_it(serve: Serve) -> None:
    app = serve(Streams, max_body_bytes=1000)
    big = [bytes(100_000)] * 50
    assert app.ask("/count", verb="POST", body=iter(big)).json() == {"bytes": 5_000_000}
    assert app.ask("/count", verb="PUT", body=iter(big)).json() == {"bytes": 5_000_000}


def test_a_body_streams_in_while_its_answer_streams_out(serve: Serve) -> None:
    app = serve(Streams)
    with app.connect() as made:
        made.sendall(
            b"POST /upper HTTP/1.1\r\nhost: localhost\r\nrestpipe-noun: upper\r\n"
            b"transfer-encoding: chunked\r\n\r\n"
        )
        got = b""
        for word in (b"one", b"two"):
            made.sendall(b"3\r\n" + word + b"\r\n")
            while word.upper() not in got:
                got += made.recv(4096)
        made.sendall(b"0\r\n\r\n")
        while not got.endswith(b"0\r\n\r\n"):
            got += made.recv(4096)


def test_a_stream_nobody_takes_any_more_is_closed(serve: Serve) -> None:
    handler = Streams()
    app = serve(handler)
    with app.connect() as made:
        made.sendall(b"GET /endless HTTP/1.1\r\nhost: localhost\r\nrestpipe-noun: endless\r\n\r\n")
        assert made.recv(4096)
    assert handler.closed.wait(LONG)


def test_handlers_run_side_by_side(serve: Serve) -> None:
    both = threading.Barrier(4)

    class Together(restpipe.EventHandler):
        def get_meet(self, ctx: Context, post_data: PostData) -> int:
            return both.wait(LONG)

    app = serve(Together, threads=4)
    with ThreadPoolExecutor(4) as pool:
        got = [a.json() for a in pool.map(lambda _: app.ask("/meet"), range(4))]
    assert sorted(got) == [0, 1, 2, 3]


def test_more_events_than_allowed_are_turned_away_at_once(serve: Serve) -> None:
    inside, go = threading.Event(), threading.Event()

    class Slow(restpipe.EventHandler):
        def get_slow(self, ctx: Context, post_data: PostData) -> str:
            inside.set()
            assert go.wait(LONG)
            return "done"

    app = serve(Slow, max_events=1)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(app.ask, "/slow")
        assert inside.wait(LONG)
        second = app.ask("/slow")
        assert (second.status, second.code, second.headers["retry-after"]) == (503, 503, "1")
        assert second.exception["class"] == "Busy"
        go.set()
        assert first.result(LONG).json() == "done"
    assert app.ask("/slow").json() == "done"


def test_a_stop_lets_events_in_work_end(serve: Serve) -> None:
    inside, go, stopped = threading.Event(), threading.Event(), threading.Event()

    class Slow(restpipe.EventHandler):
        def get_slow(self, ctx: Context, post_data: PostData) -> str:
            inside.set()
            assert go.wait(LONG)
            return "done"

        def stop_hook(self) -> None:
            stopped.set()

    app = serve(Slow)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(app.ask, "/slow")
        assert inside.wait(LONG)
        app.server.stop()
        assert not stopped.is_set()
        go.set()
        assert first.result(LONG).json() == "done"
    assert stopped.wait(LONG)


def test_hooks_run_before_the_first_event_and_after_the_last(serve: Serve) -> None:
    said: list[str] = []
    stopped = threading.Event()

    class Hooked(restpipe.EventHandler):
        async def start_hook(self) -> None:
            await asyncio.sleep(0)
            said.append("start")

        def get_x(self, ctx: Context, post_data: PostData) -> str:
            said.append("x")
            return "x"

        async def stop_hook(self) -> None:
            said.append("stop")
            stopped.set()

    app = serve(Hooked)
    app.ask("/x")
    app.server.stop()
    assert stopped.wait(LONG)
    assert said == ["start", "x", "stop"]


def test_the_asgi_app_works_in_somebody_elses_server_and_below_a_path() -> None:
    app = restpipe.asgi_app(Echo)
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/pipe/time/utc",
        "root_path": "/pipe",
        "query_string": b"",
        "headers": [],
    }
    asyncio.run(app(scope, receive, send))  # type: ignore[arg-type]
    assert (sent[0]["status"], json.loads(sent[1]["body"])) == (200, "by time/utc")
