"""Two real nodes, this package beside both, and curl, requests and Pipe asking both ways."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import queue
import subprocess
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

import restpipe
from nodes import LONG, Identities, Node, find_binary, required, start_node
from restpipe import ConnectionEvent, Context, Pipe, PipeFailError, PostData, StreamedPostData

pytestmark = pytest.mark.nodes

MIB = 1024 * 1024


class Both(restpipe.EventHandler):
    """What both sides answer; each says which it is."""

    def __init__(self, side: str) -> None:
        self.side = side
        self.heard: queue.SimpleQueue[ConnectionEvent] = queue.SimpleQueue()
        self.ran = 0
        self.inside = threading.Event()
        self.go = threading.Event()
        self.cancelled = threading.Event()

    def get_time(self, ctx: Context, post_data: PostData) -> dict[str, float]:
        return {f"time_from_{self.side}": 1402897823.882672}

    def get_cat(self, ctx: Context, post_data: PostData, *args: str) -> dict[str, str]:
        return {f"result_from_{self.side}": "".join(args)}

    def get_who(self, ctx: Context, post_data: PostData, *args: str, **query: str) -> Any:
        return {
            "side": self.side,
            "peer": ctx.peer,
            "noun": ctx.noun,
            "args": args,
            "query": query,
            "left": ctx.time_left(),
            "trace_id": ctx.trace_id,
            "headers": dict(ctx.headers),
            "post": list(post_data) == ["", ""],
        }

    get_who_is_there = get_who

    @restpipe.noun("who_is_there")
    def get_another(self, ctx: Context, post_data: PostData) -> str:
        return "the noun with underscores"

    def post_echo(self, ctx: Context, post_data: PostData) -> Any:
        mime, data = post_data
        return mime, 0, data

    @restpipe.streamed
    def put_hash(self, ctx: Context, post_data: StreamedPostData) -> dict[str, Any]:
        count, sha = 0, hashlib.sha256()
        for chunk in post_data.data:
            count += len(chunk)
            sha.update(chunk)
        return {"bytes": count, "sha256": sha.hexdigest()}

    def get_big(self, ctx: Context, post_data: PostData, mib: str) -> Iterator[bytes]:
        for _ in range(int(mib)):
            yield bytes(MIB)

    async def get_slow_words(self, ctx: Context, post_data: PostData) -> AsyncIterator[bytes]:
        yield b"first "
        while not self.go.is_set():
            await asyncio.sleep(0.01)
        yield b"second"

    def get_fail(self, ctx: Context, post_data: PostData) -> None:
        print("this goes to the log")
        raise LookupError("no such shelf")

    def get_own_code(self, ctx: Context, post_data: PostData) -> tuple[str, int, str]:
        return "text/plain", 42, "own words"

    def get_missing(self, ctx: Context, post_data: PostData) -> tuple[str, int, Any]:
        return "application/json", 404, {"missing": "file"}

    def get_exit(self, ctx: Context, post_data: PostData) -> None:
        raise SystemExit(9)

    def get_broken(self, ctx: Context, post_data: PostData) -> Iterator[bytes]:
        yield b"x" * 100_000
        raise ValueError("the disk is gone")

    async def get_hang(self, ctx: Context, post_data: PostData) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()

    def connection_success(self, event: ConnectionEvent) -> None:
        self.heard.put(event)

    connection_lost = connection_success


@dataclass
class Pair:
    """A server node called hub and a client node called fileserver, each with its app."""

    identities: Identities
    hub: Node
    fileserver: Node
    hub_app: Both
    fileserver_app: Both
    hub_socket: Path
    fileserver_socket: Path

    def ways(self) -> list[tuple[str, str]]:
        """Where to ask, and whose handler answers."""
        return [
            (f"{self.fileserver.gateway}/server", "server"),
            (f"{self.hub.gateway}/client/fileserver", "client"),
        ]

    def targets(self) -> list[restpipe.Target]:
        return [Pipe(self.fileserver.gateway).server, Pipe(self.hub.gateway).client("fileserver")]


@pytest.fixture(scope="module")
def binary() -> Path:
    found = find_binary()
    if found is None:
        message = (
            "there is no restpipe node: build it with `cargo build`, or name it in RESTPIPE_BIN"
        )
        if required():
            pytest.fail(f"{message}; RESTPIPE_REQUIRE wants these tests")
        pytest.skip(f"NOT RUN: {message}")
    return found


@contextlib.contextmanager
def served(handler: Both, address: str, gateway: Path) -> Iterator[str]:
    app = restpipe.Server(handler, address, gateway=f"unix:{gateway}")
    thread = threading.Thread(target=app.run, daemon=True)
    thread.start()
    assert app.started.wait(LONG)
    try:
        yield app.address
    finally:
        app.stop()
        thread.join(LONG)


@pytest.fixture(scope="module")
def pair(binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    root = tmp_path_factory.mktemp("rp")
    identities = Identities(binary, root)
    hub_app, fileserver_app = Both("server"), Both("client")
    sockets = root / "hub-gateway.sock", root / "fs-gateway.sock"
    with contextlib.ExitStack() as stack:
        over_tcp = stack.enter_context(served(hub_app, "127.0.0.1:0", sockets[0]))
        over_unix = stack.enter_context(served(fileserver_app, f"unix:{root}/a.sock", sockets[1]))
        listen = ("--listen", "127.0.0.1:0", "--clients", "fileserver,appless,visitor")
        directory = identities.make("server", "hub")
        hub = start_node(binary, "server", directory, over_tcp, *listen, socket=sockets[0])
        stack.callback(hub.process.end)
        dial = ("--server", hub.pipe, "--server-name", "hub")
        directory = identities.make("client", "fileserver")
        fs = start_node(binary, "client", directory, over_unix, *dial, socket=sockets[1])
        stack.callback(fs.process.end)
        # A client's request waits for the pipe; the server knows the client after it.
        Pipe(fs.gateway).server.get("time", wait=20)
        yield Pair(identities, hub, fs, hub_app, fileserver_app, *sockets)


def curl(*args: str) -> subprocess.CompletedProcess[bytes]:
    command = ["curl", "--silent", "--show-error", "--noproxy", "*", "--max-time", "30", *args]
    return subprocess.run(command, capture_output=True, timeout=LONG + 5, check=False)


def session() -> requests.Session:
    made = requests.Session()
    made.trust_env = False
    return made


def test_the_originals_examples_work_by_curl_in_both_directions(pair: Pair) -> None:
    for url, side in pair.ways():
        time = json.loads(curl(f"{url}/time").stdout)
        assert time == {f"time_from_{side}": 1402897823.882672}
        cat = curl("-i", f"{url}/cat//hello%20/world").stdout.decode()
        assert f'{{"result_from_{side}": "hello world"}}' in cat
        assert "x-event-return-code: 0" in cat.lower()
        assert "x-event-outcome: executed" in cat.lower()


def test_the_handler_knows_the_verified_peer_and_nobody_can_pretend(pair: Pair) -> None:
    forged = {"RestPipe-From": "root", "RestPipe-Noun": "time", "X-Mine": "1"}
    for (url, side), peer in zip(pair.ways(), ("fileserver", "hub"), strict=True):
        sent = {**forged, "RestPipe-Timeout": "9s"}
        got = session().get(f"{url}/who//a%2Fb/?x=1&y=", headers=sent, timeout=LONG).json()
        assert (got["side"], got["peer"], got["noun"]) == (side, peer, "who")
        assert (got["args"], got["query"]) == (["a/b", ""], {"x": "1", "y": ""})
        assert (got["headers"]["x-mine"], got["post"]) == ("1", True)
        assert 0 < got["left"] <= 9.1
        assert len(got["trace_id"]) == 32


def test_arguments_survive_the_whole_way(pair: Pair) -> None:
    args = ["a/b", "", "%2F", "ü +&?#", "...", "~-_.", '"\\', "\n\t"]
    for target in pair.targets():
        assert target.get("who", args, {"q": "ü&="}).json()["args"] == args


def test_nouns_with_slashes_and_underscores_stay_apart(pair: Pair) -> None:
    for target in pair.targets():
        assert target.get("who/is/there").json()["noun"] == "who/is/there"
        assert target.get("who_is_there").json() == "the noun with underscores"


def test_a_body_goes_there_and_back_with_its_type(pair: Pair) -> None:
    for url, _ in pair.ways():
        sent = bytes(range(256)) * 4000
        got = session().post(
            f"{url}/echo", data=sent, headers={"content-type": "image/x-own"}, timeout=LONG
        )
        assert (got.content, got.headers["content-type"]) == (sent, "image/x-own")


def test_large_bodies_stream_both_ways(pair: Pair) -> None:
    for target in pair.targets():
        sha = hashlib.sha256(bytes(MIB) * 40).hexdigest()
        got = target.put("hash", data=(bytes(MIB) for _ in range(40))).json()
        assert got == {"bytes": 40 * MIB, "sha256": sha}
        with target.get("big", [40]) as reply:
            assert sum(len(chunk) for chunk in reply.iter_bytes()) == 40 * MIB


def test_a_streamed_answer_arrives_as_it_is_made(pair: Pair) -> None:
    for target, app in zip(pair.targets(), (pair.hub_app, pair.fileserver_app), strict=True):
        app.go.clear()
        with target.get("slow/words") as reply:
            chunks = reply.iter_bytes()
            assert next(chunks) == b"first "
            app.go.set()
            assert b"".join(chunks) == b"second"


@pytest.mark.parametrize(
    ("noun", "code", "status", "name", "message"),
    [
        ("fail", 251, 500, "LookupError", "no such shelf"),
        ("exit", 251, 500, "SystemExit", "get_exit called for sys.exit(9)"),
        ("nothing/such", 255, 404, "NoHandler", "there is no method get_nothing_such"),
        ("own/code", 42, 500, "", "own words"),
        ("missing", 404, 404, "", '{"missing": "file"}'),
    ],
)
def test_failures_of_the_handler_are_raised_with_requests(
    pair: Pair, noun: str, code: int, status: int, name: str, message: str
) -> None:
    for url, _ in pair.ways():
        response = session().get(f"{url}/{noun}", timeout=LONG)
        with pytest.raises(PipeFailError) as caught:
            restpipe.raise_for_exception(response)
        error = caught.value
        assert (error.code, error.status, error.class_name) == (code, status, name)
        assert message in error.message
        assert (error.outcome, error.traceback) == ("executed", "")


def test_an_iterator_that_raises_breaks_the_answer_off_for_everybody(pair: Pair) -> None:
    for url, _ in pair.ways():
        done = curl(f"{url}/broken")
        assert done.returncode != 0, "curl must notice"
        with pytest.raises(requests.exceptions.RequestException):
            session().get(f"{url}/broken", timeout=LONG)
    for target in pair.targets():
        with pytest.raises(PipeFailError, match="broken off"):
            target.get("broken").read()


def test_a_handler_that_hangs_is_given_up_at_the_callers_deadline(pair: Pair) -> None:
    for target, app in zip(pair.targets(), (pair.hub_app, pair.fileserver_app), strict=True):
        app.cancelled.clear()
        with pytest.raises(PipeFailError) as caught:
            target.get("hang", timeout=1)
        assert caught.value.status == 504
        assert app.cancelled.wait(LONG), "the handler is told"
        assert caught.value.class_name in ("DeadlineExceededError", "PeerTimeout")


def test_a_caller_that_hangs_up_ends_the_handler(pair: Pair) -> None:
    for (url, _), app in zip(pair.ways(), (pair.hub_app, pair.fileserver_app), strict=True):
        app.cancelled.clear()
        assert curl("--max-time", "0.5", f"{url}/hang").returncode == 28
        assert app.cancelled.wait(LONG)


def test_a_body_that_is_not_what_it_says_is_refused(pair: Pair) -> None:
    for url, _ in pair.ways():
        got = session().post(
            f"{url}/echo", data=b"{", headers={"content-type": "application/json"}, timeout=LONG
        )
        with pytest.raises(PipeFailError, match="the body is not JSON"):
            restpipe.raise_for_exception(got)
        assert got.status_code == 400


def test_the_gateways_unix_socket_serves_the_same(pair: Pair) -> None:
    assert Pipe(f"unix:{pair.fileserver_socket}").server.get("who").json()["side"] == "server"
    hub = Pipe(f"unix:{pair.hub_socket}")
    assert hub.client("fileserver").get("who").json()["side"] == "client"


def test_many_events_at_once_all_get_their_own_answer(pair: Pair) -> None:
    def ask(number: int) -> bool:
        target = pair.targets()[number % 2]
        got: list[str] = target.get("who", [number, "x"]).json()["args"]
        return got == [str(number), "x"]

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(ask, range(200)))


def test_a_peer_that_never_was_is_not_sent_to(pair: Pair) -> None:
    with pytest.raises(PipeFailError) as caught:
        Pipe(pair.hub.gateway).client("nobody").get("time", wait=0)
    error = caught.value
    assert (error.status, error.outcome, error.retriable) == (404, "not-sent", False)
    assert error.reason == "unknown-peer"


def test_an_app_that_is_not_there_means_refused(binary: Path, pair: Pair, tmp_path: Path) -> None:
    directory = pair.identities.make("client", "appless")
    dial = ("--server", pair.hub.pipe, "--server-name", "hub")
    app = f"unix:{tmp_path}/no-app.sock"
    socket = tmp_path / "g.sock"
    node = start_node(binary, "client", directory, app, *dial, socket=socket)
    try:
        Pipe(node.gateway).server.get("time", wait=20)
        with pytest.raises(PipeFailError) as caught:
            Pipe(pair.hub.gateway, timeout=3).client("appless").post("x")
    finally:
        node.process.end()
    error = caught.value
    assert (error.status, error.outcome, error.retriable) == (503, "refused", True)
    assert error.reason == "app-refused"


def test_connection_hooks_hear_of_clients_that_come_and_go(
    binary: Path, pair: Pair, tmp_path: Path
) -> None:
    directory = pair.identities.make("client", "visitor")
    dial = ("--server", pair.hub.pipe, "--server-name", "hub")
    node = start_node(binary, "client", directory, None, *dial, socket=tmp_path / "g.sock")
    try:
        came = heard(pair.hub_app, "visitor")
        assert (came.kind, came.at is not None) == ("connect", True)
        assert came.address.startswith("127.0.0.1")
    finally:
        node.process.end(kill=True)
    assert heard(pair.hub_app, "visitor").kind == "disconnect"


def heard(app: Both, peer: str) -> ConnectionEvent:
    while True:
        event = app.heard.get(timeout=LONG)
        if event.peer == peer:
            return event
