"""Serving a handler for a node's `--app`, by uvicorn."""

from __future__ import annotations

import ipaddress
import logging
import os
import signal
import socket
import threading
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

import uvicorn

from .address import SOCKET_MODE, Address, bound, remove
from .answer import of_exception
from .asgi import ASGIApp, BrokenOffError, HandlerApp, Receive, Send, to_handler
from .errors import Exc, HandlerError
from .events import ConnectionStateEvents
from .feed import Feed
from .handler import EventHandler
from .limits import (
    BACKLOG,
    DEFAULT_ADDRESS,
    KEEP_ALIVE_S,
    MAX_CONNECTIONS,
    MAX_HEAD_BYTES,
    Settings,
)

_log = logging.getLogger("restpipe")


class Server:
    """Serves a handler over loopback or a unix socket."""

    def __init__(
        self,
        handler: EventHandler | type[EventHandler],
        address: str = DEFAULT_ADDRESS,
        *,
        settings: Settings | None = None,
        gateway: str | None = None,
        listeners: Iterable[ConnectionStateEvents] = (),
        socket_mode: int = SOCKET_MODE,
    ) -> None:
        """Check the handler and bind the address; `listeners` get connection events as well."""
        settings = settings or Settings()
        feed = Feed(gateway)
        for listener in listeners:
            feed.give(listener)
        app = HandlerApp(to_handler(handler), settings, [feed])
        self._socket = Address.parse(address).bind(socket_mode)
        self.address = str(bound(self._socket))
        """Where it is served, with the port that the system chose for port 0."""
        self.started = threading.Event()
        """Set once it takes connections."""
        logging.getLogger("uvicorn.error").addFilter(_own_breaks)
        self._inode = 0
        path = self._path()
        if path:
            self._inode = os.stat(path).st_ino  # noqa: PTH116 - the inode is what matters
        self._server = _Uvicorn(
            uvicorn.Config(
                app if path else only_local(app),
                access_log=False,
                backlog=BACKLOG,
                h11_max_incomplete_event_size=MAX_HEAD_BYTES,
                http="h11",
                lifespan="on",
                limit_concurrency=MAX_CONNECTIONS,
                log_config=None,
                loop="asyncio",
                proxy_headers=False,
                server_header=False,
                timeout_graceful_shutdown=settings.drain_s,
                timeout_keep_alive=KEEP_ALIVE_S,
                ws="none",
            ),
            self._on_started,
        )

    def run(self) -> int:
        """Serve until SIGTERM, SIGINT or `stop`; gives the exit code of the process."""
        path, before = self._path(), {}
        if threading.current_thread() is threading.main_thread():
            # uvicorn has handlers of its own while it serves and sends itself
            # the signal again after: that must not be what ends the process.
            for kind in (signal.SIGTERM, signal.SIGINT):
                before[kind] = signal.signal(kind, lambda *_: self.stop())
        try:
            self._server.run(sockets=[self._socket])
        except SystemExit:
            return 1
        finally:
            for kind, handler in before.items():
                signal.signal(kind, handler)
            self._socket.close()
            if path:
                remove(self._socket, path, self._inode)
            served = self.started.is_set()
            if served:
                _log.info("stopped")
            # Nobody waits in vain for a start that failed.
            self.started.set()
        # Older versions of uvicorn do not exit where the start hook has failed.
        return 0 if served else 1

    def stop(self) -> None:
        """Take no more events and end once those in work are done; from any thread."""
        self._server.should_exit = True

    def _on_started(self) -> None:
        _log.info("serving events on %s", self.address, extra={"fields": {"app": self.address}})
        self.started.set()

    def _path(self) -> str:
        return self.address.removeprefix("unix:") if self.address.startswith("unix:") else ""


class _OwnBreaks(logging.Filter):
    """Leaves out the server's report of an answer broken off on purpose, told already."""

    def filter(self, record: logging.LogRecord) -> bool:
        kind = record.exc_info[0] if record.exc_info else None
        return kind is None or not issubclass(kind, BrokenOffError)


_own_breaks = _OwnBreaks()


class _Uvicorn(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, on_started: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_started = on_started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_started()


def only_local(app: ASGIApp) -> ASGIApp:
    """Keep web pages out: a browser on this machine reaches loopback, too."""

    async def guarded(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
            cause = _foreign(headers)
            if cause:
                _log.warning("event refused: %s", cause)
                await _refuse(cause, send)
                return
        await app(scope, receive, send)

    return guarded


def _foreign(headers: dict[bytes, str]) -> str:
    host = headers.get(b"host", "localhost")
    name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
    if name.lower() != "localhost" and not _is_loopback(name.strip("[]")):
        return f"the Host {host!r:.100} is not this machine: use 127.0.0.1 or localhost"
    # Only a node sets RestPipe-Noun; a page of another site cannot without asking first.
    if b"restpipe-noun" not in headers and (
        b"origin" in headers
        or headers.get(b"sec-fetch-site", "none") not in ("none", "same-origin")
    ):
        return "it comes from a web page: ask through a node's gateway"
    return ""


def _is_loopback(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


async def _refuse(cause: str, send: Callable[[Any], Awaitable[None]]) -> None:
    answer = of_exception(Exc(cause, "Forbidden"), status=403, code=403)
    headers = [
        (b"content-type", answer.mime.encode()),
        (b"x-event-return-code", b"403"),
    ]
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})


def serve(
    handler: EventHandler | type[EventHandler],
    address: str = DEFAULT_ADDRESS,
    *,
    settings: Settings | None = None,
    gateway: str | None = None,
) -> int:
    """Serve a handler until SIGTERM; gives the exit code of the process."""
    return Server(handler, address, settings=settings, gateway=gateway).run()


__all__ = ["HandlerError", "Server", "serve"]
