"""The ASGI app that answers events with the methods of a handler."""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from .answer import Answer, Pieces, of_exception
from .errors import CallerGoneError, Exc, HandlerError, RefusedError, refused
from .feed import Feed
from .handler import EventHandler
from .limits import HOOK_TIMEOUT_S, SEND_STALL_S, Settings
from .request import Call, parse
from .routes import Routes
from .run import Run
from .stream import CHUNK, ERROR, Receiver
from .threads import Threads

_log = logging.getLogger("restpipe")

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]


class BrokenOffError(Exception):
    """A streamed answer that failed after its head was sent.

    It leaves the app on purpose: the server then closes the connection
    without the end of the body, which the node reports to the caller.
    """


def asgi_app(
    handler: EventHandler | type[EventHandler],
    *,
    settings: Settings | None = None,
    gateway: str | None = None,
) -> ASGIApp:
    """Make an ASGI app of a handler, for a server of your own.

    Bind that server to loopback or a unix socket: whoever reaches it can
    claim to be any peer. The start, stop and connection hooks need a server
    that speaks ASGI's lifespan. `gateway` is where connection events come
    from: `RESTPIPE_URL` unless given.
    """
    return HandlerApp(to_handler(handler), settings or Settings(), [Feed(gateway)])


def to_handler(handler: EventHandler | type[EventHandler]) -> EventHandler:
    """Make the handler if a class was given, and check that it is one."""
    made = handler() if isinstance(handler, type) else handler
    if not isinstance(made, EventHandler):
        raise HandlerError(
            f"{type(made).__qualname__} is no restpipe.EventHandler: let it inherit from that"
        )
    return made


class HandlerApp:
    """A handler as an ASGI app."""

    def __init__(self, handler: EventHandler, settings: Settings, feeds: list[Feed]) -> None:
        self._handler = handler
        self._settings = settings
        self._routes = Routes(handler)
        self._threads = Threads(settings.threads)
        self._feeds = feeds
        for feed in feeds:
            feed.give(handler)
        self._running = 0

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Serve one event, or the life of the server."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            await _Exchange(scope, Receiver(receive), send).serve(self._answer)
        else:
            raise ValueError(f"RestPipe events are HTTP, not {scope['type']}")

    async def _answer(self, exchange: _Exchange) -> None:
        call = parse(exchange.scope, self._routes, self._settings.default_deadline_s)
        exchange.call = call
        if self._running >= self._settings.max_events:
            text = (
                f"{self._settings.max_events} events are in work already: try again, or serve "
                "with more --max-events"
            )
            raise refused(503, text, "Busy", retry_after=1)
        self._running += 1
        check = self._handler.check_bodies
        run = Run(call, exchange.receiver, self._settings, self._threads, check)
        try:
            answer = await run.answer()
            await exchange.send_answer(answer, self._settings.stream_stall_s)
        finally:
            # A method that outlives its answer still takes its place.
            if run.ended is None or run.ended.done():
                self._running -= 1
            else:
                run.ended.add_done_callback(self._left)

    def _left(self, _: Any) -> None:
        self._running -= 1

    # --- the server's life ---

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            await self._hook("start_hook")
        except Exception as error:  # whatever it is, the server must not start
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        loop = asyncio.get_running_loop()
        for feed in self._feeds:
            feed.start(loop)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        for feed in self._feeds:
            feed.stop()
        try:
            await self._hook("stop_hook")
        except Exception as error:
            _log.exception("%s", error)
        self._threads.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _hook(self, name: str) -> None:
        """Run a hook, in a thread of its own if it is not async; at most for HOOK_TIMEOUT_S."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Any] = loop.create_future()
        method = getattr(self._handler, name)
        where = f"{type(self._handler).__qualname__}.{name}"

        def settle(result: Any, error: BaseException | None) -> None:
            if not done.done():
                done.set_result((result, error))

        def work() -> None:
            try:
                result, error = method(), None
            except BaseException as raised:  # SystemExit in a thread is lost else
                result, error = None, raised
            loop.call_soon_threadsafe(settle, result, error)

        async def work_async() -> tuple[Any, BaseException | None]:
            try:
                return await method(), None
            except asyncio.CancelledError:
                raise
            except BaseException as raised:  # SystemExit would end the loop
                return None, raised

        if inspect.iscoroutinefunction(method):
            done = asyncio.ensure_future(work_async())
        else:
            threading.Thread(target=work, name=f"restpipe-{name}", daemon=True).start()
        try:
            _, error = await asyncio.wait_for(done, HOOK_TIMEOUT_S)
        except asyncio.TimeoutError:
            raise HandlerError(f"{where} took longer than {HOOK_TIMEOUT_S:g} s") from None
        if error is not None:
            exc = Exc.of(error)
            raise HandlerError(f"{where} raised {exc.class_name}: {exc.message}") from error


class _Exchange:
    """One request and its answer."""

    def __init__(self, scope: MutableMapping[str, Any], receiver: Receiver, send: Send) -> None:
        self.scope = scope
        self.receiver = receiver
        self.call: Call | None = None
        self._send = send
        self._started = time.monotonic()
        self._sent = 0

    async def serve(self, answer: Callable[[_Exchange], Awaitable[None]]) -> None:
        try:
            await answer(self)
        except RefusedError as error:
            failed = of_exception(
                error.exc, status=error.status, code=error.code, headers=error.headers
            )
            await self._send_whole(
                failed, b"" if not isinstance(failed.body, bytes) else failed.body
            )
        except CallerGoneError as error:
            self._log(logging.WARNING, f"not answered: {error}")
        except asyncio.CancelledError:
            self._log(logging.WARNING, "cut off: the app is stopping and its drain time is over")
            raise
        finally:
            self.receiver.close()

    async def send_answer(self, answer: Answer, stall_s: float) -> None:
        """Send an answer, whole or in pieces."""
        if isinstance(answer.body, bytes):
            await self._send_whole(answer, answer.body)
            return
        pieces: Any = answer.body
        try:
            await self._send_pieces(answer, pieces, stall_s)
        finally:
            if self.call is not None:
                self.call.ctx.cancel()
            await pieces.close()

    async def _send_whole(self, answer: Answer, body: bytes) -> None:
        if answer.status != 204:
            answer.headers.append(("content-length", str(len(body))))
        self._sent = len(body)
        # Before it is sent: who has the answer finds the line that explains it.
        self._done(answer)
        await self._send(self._head(answer))
        await self._send({"type": "http.response.body", "body": body})

    async def _send_pieces(self, answer: Answer, pieces: Pieces, stall_s: float) -> None:
        await self._send(self._head(answer))
        while True:
            kind, value = await self._next(pieces, stall_s)
            if kind == ERROR:
                text = f"broken off after {self._sent} bytes: the handler's iterator raised"
                self._log(logging.ERROR, text, Exc.of(value))
                raise BrokenOffError(text) from value
            body = {"type": "http.response.body", "body": b"", "more_body": False}
            if kind == CHUNK:
                body.update(body=value, more_body=True)
                self._sent += len(value)
            try:
                await asyncio.wait_for(self._send(body), SEND_STALL_S)
            except asyncio.TimeoutError:
                text = (
                    f"broken off after {self._sent} bytes: nobody took any for {SEND_STALL_S:g} s"
                )
                self._log(logging.WARNING, text)
                raise BrokenOffError(text) from None
            if kind != CHUNK:
                break
        self._done(answer)

    async def _next(self, pieces: Pieces, stall_s: float) -> tuple[str, Any]:
        """Take the next piece, unless the caller leaves or the handler stalls."""
        getting = asyncio.ensure_future(pieces.get())
        watched = self.receiver.watch()
        waited: set[asyncio.Future[Any]] = {getting}
        if not watched.done():
            waited.add(watched)
        try:
            await asyncio.wait(waited, timeout=stall_s, return_when=asyncio.FIRST_COMPLETED)
            if self.receiver.gone():
                raise CallerGoneError(f"the caller left after {self._sent} bytes of the answer")
            if not getting.done() and watched.done():
                # More of the request came, for whoever reads it.
                await asyncio.wait({getting}, timeout=stall_s)
            if getting.done():
                return getting.result()
        finally:
            getting.cancel()
        text = f"broken off after {self._sent} bytes: the iterator gave none for {stall_s:g} s"
        self._log(logging.ERROR, text)
        raise BrokenOffError(text)

    def _head(self, answer: Answer) -> Message:
        headers = [("x-event-return-code", str(answer.code)), *answer.headers]
        if answer.mime and answer.status != 204:
            headers.append(("content-type", answer.mime))
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        return {"type": "http.response.start", "status": answer.status, "headers": raw}

    def _done(self, answer: Answer) -> None:
        if answer.exc is None:
            self._log(logging.DEBUG, "answered", code=answer.code, status=answer.status)
            return
        level = logging.ERROR if answer.status >= 500 else logging.WARNING
        self._log(level, "failed", answer.exc, code=answer.code, status=answer.status)

    def _log(self, level: int, text: str, exc: Exc | None = None, **more: Any) -> None:
        ms = round((time.monotonic() - self._started) * 1000)
        fields: dict[str, Any] = {"verb": self.scope["method"]}
        if self.call is not None:
            fields.update(noun=self.call.ctx.noun, peer=self.call.ctx.peer)
            fields.update(trace=self.call.ctx.trace_id)
        else:
            fields.update(path=str(self.scope["path"])[:200])
        fields.update(more, bytes=self._sent, ms=ms)
        if exc is not None:
            fields.update({"class": exc.class_name, "message": exc.message})
            fields.update(traceback=exc.traceback)
        shown = {name: value for name, value in fields.items() if value != ""}
        _log.log(level, "event %s", text, extra={"fields": shown})
