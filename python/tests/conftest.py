"""Handlers served in this process, gateways that answer as told, and how to talk to them."""

from __future__ import annotations

import contextlib
import http.client
import json
import logging
import queue
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

import restpipe
from restpipe.gateway import Gateway

LONG = 20.0
"""Seconds after which a test gives up on what should be there at once."""


@dataclass
class Answered:
    """What came back from an app."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def code(self) -> int:
        return int(self.headers["x-event-return-code"])

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def exception(self) -> dict[str, str]:
        found: dict[str, str] = self.json()["exception"]
        return found


@dataclass
class App:
    """A served handler, asked as a node asks."""

    server: restpipe.Server

    def ask(
        self,
        path: str,
        noun: str | None = None,
        *,
        verb: str = "GET",
        body: Any = None,
        peer: str = "hub",
        deadline_s: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answered:
        sent = {"RestPipe-From": peer, **(headers or {})}
        first = path[1:].partition("?")[0].partition("/")[0]
        sent["RestPipe-Noun"] = first if noun is None else noun
        if deadline_s is not None:
            sent["RestPipe-Deadline"] = rfc3339(deadline_s)
        return self.raw(path, sent, verb=verb, body=body)

    def raw(
        self, path: str, headers: Mapping[str, str], *, verb: str = "GET", body: Any = None
    ) -> Answered:
        stream = Gateway(self.server.address).open(verb, path, headers, body, LONG)
        try:
            got = b""
            while chunk := stream.read(65536):
                got += chunk
            return Answered(stream.status, stream.response.headers, got)
        finally:
            stream.close()

    def connect(self) -> socket.socket:
        address = self.server.address
        if address.startswith("unix:"):
            made = socket.socket(socket.AF_UNIX)
            made.settimeout(LONG)
            made.connect(address.removeprefix("unix:"))
            return made
        host, _, port = address.removeprefix("http://").rpartition(":")
        return socket.create_connection((host, int(port)), LONG)


def rfc3339(seconds_from_now: float) -> str:
    at = datetime.now(timezone.utc) + timedelta(seconds=seconds_from_now)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Told(logging.Handler):
    """What the package logs, to be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self._records: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()

    def emit(self, record: logging.LogRecord) -> None:
        self._records.put(record)

    def wait_for(self, word: str) -> logging.LogRecord:
        while word not in (record := self._records.get(timeout=LONG)).getMessage():
            pass
        return record


@pytest.fixture
def told() -> Iterator[Told]:
    handler, logger = Told(), logging.getLogger("restpipe")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


Serve = Callable[..., App]


@pytest.fixture
def serve() -> Iterator[Serve]:
    with contextlib.ExitStack() as stack:

        def start(
            handler: restpipe.EventHandler | type[restpipe.EventHandler],
            address: str = "127.0.0.1:0",
            gateway: str | None = None,
            **settings: Any,
        ) -> App:
            made = restpipe.Server(
                handler, address, settings=restpipe.Settings(**settings), gateway=gateway
            )
            thread = threading.Thread(target=made.run, daemon=True)
            thread.start()

            def stop() -> None:
                made.stop()
                thread.join(LONG)
                assert not thread.is_alive(), "the server did not stop"

            stack.callback(stop)
            assert made.started.wait(LONG)
            return App(made)

        yield start


Script = Callable[["Request"], None]


@dataclass
class Request:
    """What a fake gateway was asked, and the means to answer it."""

    verb: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    handler: BaseHTTPRequestHandler = field(repr=False)

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.handler.send_response(status)
        for name, value in headers.items():
            self.handler.send_header(name.replace("_", "-"), value)
        self.handler.send_header("content-length", str(len(body)))
        self.handler.end_headers()
        self.write(body)

    def write(self, data: bytes) -> None:
        self.handler.wfile.write(data)
        self.handler.wfile.flush()


@dataclass
class FakeGateway:
    url: str
    requests: list[Request] = field(default_factory=list)


@pytest.fixture
def gateway() -> Iterator[Callable[..., FakeGateway]]:
    """Make gateways that answer by a function."""
    with contextlib.ExitStack() as stack:

        def start(script: Script, path: Path | None = None) -> FakeGateway:
            made = FakeGateway("")

            class Handler(BaseHTTPRequestHandler):
                protocol_version = "HTTP/1.1"

                def handle_one_request(self) -> None:
                    self.raw_requestline = self.rfile.readline(65537)
                    if not self.raw_requestline or not self.parse_request():
                        self.close_connection = True
                        return
                    request = Request(
                        self.command, self.path, dict(self.headers.items()), self._body(), self
                    )
                    made.requests.append(request)
                    with contextlib.suppress(ConnectionError):
                        script(request)
                    self.close_connection = True

                def _body(self) -> bytes:
                    if self.headers.get("transfer-encoding") != "chunked":
                        return self.rfile.read(int(self.headers.get("content-length", "0")))
                    body = b""
                    while size := int(self.rfile.readline(), 16):
                        body += self.rfile.read(size)
                        self.rfile.readline()
                    self.rfile.readline()
                    return body

                def address_string(self) -> str:
                    return "here"

                def log_message(self, *_: Any) -> None:
                    pass

            server: socketserver.BaseServer
            if path is None:
                tcp = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
                made.url = f"http://127.0.0.1:{tcp.server_address[1]}"
                server = tcp
            else:
                server = socketserver.ThreadingUnixStreamServer(str(path), Handler)
                made.url = f"unix:{path}"
            server.daemon_threads = True
            server.block_on_close = False
            thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
            thread.start()
            stack.callback(thread.join, LONG)
            stack.callback(server.server_close)
            stack.callback(server.shutdown)
            return made

        yield start
