"""Connection hooks, fed from the gateway's stream `/-/events`."""

from __future__ import annotations

import asyncio
import inspect
import logging
import random
import socket
import threading
from collections.abc import Iterator

from .errors import Exc
from .events import HOOKS, ConnectionEvent, ConnectionStateEvents, listens
from .gateway import Gateway, Stream
from .limits import (
    FEED_CONNECT_S,
    FEED_RETRY_MAX_S,
    FEED_RETRY_MIN_S,
    FEED_SILENCE_S,
    HOOK_TIMEOUT_S,
    MAX_FEED_LINE_BYTES,
)

_log = logging.getLogger("restpipe")

PATH = "/-/events"


class FeedError(Exception):
    """The gateway's event stream cannot be read; said with its cause and cure."""


def read_events(stream: Stream) -> Iterator[ConnectionEvent]:
    """Read server-sent events until the stream ends; what is none of ours is skipped."""
    kind = ""
    data: list[str] = []
    while line := stream.readline(MAX_FEED_LINE_BYTES + 1):
        if len(line) > MAX_FEED_LINE_BYTES:
            raise FeedError(f"a line of {PATH} is longer than {MAX_FEED_LINE_BYTES} bytes")
        text = line.decode("utf-8", "replace").rstrip("\r\n")
        name, _, value = text.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            kind = value
        elif name == "data" and sum(map(len, data)) + len(value) <= MAX_FEED_LINE_BYTES:
            data.append(value)
        if text:
            continue
        if data:
            try:
                yield ConnectionEvent.parse(kind, "\n".join(data))
            except ValueError as error:
                _log.warning("an event of %s cannot be read and is left out: %s", PATH, error)
        kind, data = "", []


class Feed:
    """Calls the hooks of whoever it was given to, from a thread, one after the other."""

    def __init__(self, url: str | None = None) -> None:
        self._gateway = Gateway(url)
        self._hooks: list[ConnectionStateEvents] = []
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._told = False

    def give(self, hooks: ConnectionStateEvents) -> None:
        """Call these hooks, too, if any of them is overridden."""
        if listens(hooks):
            self._hooks.append(hooks)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin, if there is anybody to call."""
        self._loop = loop
        if self._hooks:
            threading.Thread(target=self._run, name="restpipe-events", daemon=True).start()

    def stop(self) -> None:
        """End, also in the middle of waiting for the gateway."""
        self._stopped.set()
        with self._lock:
            if self._socket is not None:
                try:
                    self._socket.shutdown(socket.SHUT_RDWR)
                except OSError:
                    _log.debug("the event stream was closed already")

    def _run(self) -> None:
        wait = FEED_RETRY_MIN_S
        while not self._stopped.is_set():
            try:
                for event in self._events():
                    wait = FEED_RETRY_MIN_S
                    self._call(event)
                cause = "it ended"
            except (OSError, FeedError) as error:
                cause = str(error) or type(error).__name__
            except Exception:
                _log.exception("an error of the package itself: report it")
                cause = "see the line before"
            if self._stopped.is_set():
                return
            # Told once for each time it breaks, not for each try.
            _log.log(
                logging.DEBUG if self._told else logging.WARNING,
                "no connection events: %s: %s; trying again: is the node running, and RESTPIPE_URL "
                "right?",
                f"{self._gateway.url}{PATH}",
                cause,
            )
            self._told = True
            self._stopped.wait(wait * (0.5 + random.random() / 2))  # noqa: S311 - no secret
            wait = min(wait * 2, FEED_RETRY_MAX_S)

    def _events(self) -> Iterator[ConnectionEvent]:
        headers = {"accept": "text/event-stream"}
        stream = self._gateway.open("GET", PATH, headers, None, FEED_CONNECT_S)
        try:
            if stream.status != 200:
                raise FeedError(f"HTTP {stream.status}: this node may be older than the package")
            stream.socket.settimeout(FEED_SILENCE_S)
            with self._lock:
                if self._stopped.is_set():
                    return
                self._socket = stream.socket
            self._told = False
            _log.debug("reading connection events from %s", self._gateway.url)
            yield from read_events(stream)
        finally:
            with self._lock:
                self._socket = None
            stream.close()

    def _call(self, event: ConnectionEvent) -> None:
        name = HOOKS.get(event.kind)
        if name is None:
            _log.debug("a connection event of the unknown kind %r is left out", event.kind)
            return
        for hooks in self._hooks:
            method = getattr(hooks, name)
            try:
                result = method(event)
                if inspect.iscoroutine(result):
                    self._finish(result)
            except BaseException as error:
                exc = Exc.of(error)
                where = f"{type(hooks).__qualname__}.{name}"
                _log.exception("%s raised %s: %s", where, exc.class_name, exc.message)

    def _finish(self, hook: object) -> None:
        async def guarded() -> BaseException | None:
            try:
                await hook  # type: ignore[misc]
            except asyncio.CancelledError:
                raise
            except BaseException as error:  # SystemExit would end the loop
                return error
            return None

        assert self._loop is not None  # noqa: S101 - start was called
        running = asyncio.run_coroutine_threadsafe(guarded(), self._loop)
        try:
            error = running.result(HOOK_TIMEOUT_S)
        except BaseException:
            running.cancel()
            raise
        if error is not None:
            raise error
