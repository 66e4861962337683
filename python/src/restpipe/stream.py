"""Bodies that pass in pieces, between the loop and a handler's thread."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import Future
from typing import Any, TypeVar

from .errors import CallerGoneError, DeadlineExceededError
from .limits import HOOK_TIMEOUT_S, STREAM_QUEUE_CHUNKS

_log = logging.getLogger("restpipe")
_T = TypeVar("_T")
Receive = Callable[[], Awaitable[Any]]

CHUNK, END, ERROR = "chunk", "end", "error"
Piece = tuple[str, Any]
"""A chunk, the end, or the exception that a handler's iterator raised."""


def on_loop(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, _T]) -> Future[_T]:
    """Run a coroutine on the loop, from a thread; raises CallerGoneError once it is closed."""
    try:
        return asyncio.run_coroutine_threadsafe(work, loop)
    except RuntimeError:
        work.close()
        raise CallerGoneError("the app is stopping") from None


def step(iterator: Iterator[Any]) -> Piece:
    """Take the next piece of a handler's iterator, whatever it raises."""
    try:
        return CHUNK, next(iterator)
    except StopIteration:
        return END, None
    except BaseException as error:  # also SystemExit: the app goes on
        return ERROR, error


async def step_async(iterator: AsyncIterator[Any]) -> Piece:
    """Take the next piece of a handler's async iterator, whatever it raises."""
    try:
        return CHUNK, await iterator.__anext__()
    except StopAsyncIteration:
        return END, None
    except asyncio.CancelledError:
        raise
    except BaseException as error:  # SystemExit would end the loop
        return ERROR, error


class Handoff:
    """Pieces of an answer on their way from a thread to the loop; the thread waits for room."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._queue: asyncio.Queue[Piece] = asyncio.Queue(STREAM_QUEUE_CHUNKS)
        self._closed = threading.Event()

    def put(self, piece: Piece) -> None:
        """Hand over a piece, from the thread; raises CallerGoneError if nobody takes it."""
        if not self._closed.is_set():
            # Ends when there is room, and `close` makes room.
            on_loop(self._loop, self._queue.put(piece)).result()
        if self._closed.is_set():
            raise CallerGoneError("nobody takes the rest of the answer")

    async def get(self) -> Piece:
        """Take a piece, on the loop."""
        return await self._queue.get()

    async def close(self) -> None:
        """Take no more, on the loop."""
        self._closed.set()
        while not self._queue.empty():
            self._queue.get_nowait()


class AsyncPieces:
    """Pieces of an async iterator, of which one was taken already."""

    def __init__(self, iterator: AsyncIterator[Any], first: Piece) -> None:
        self._iterator = iterator
        self._first: Piece | None = first

    async def get(self) -> Piece:
        """Take a piece."""
        first, self._first = self._first, None
        return first or await step_async(self._iterator)

    async def close(self) -> None:
        """Take no more, and let the iterator's `finally` run."""
        close = getattr(self._iterator, "aclose", None)
        if close is None:
            return
        try:
            await asyncio.wait_for(_guarded(close()), HOOK_TIMEOUT_S)
        except asyncio.TimeoutError:
            _log.warning("the end of an async iterator hangs: look at its finally")


async def _guarded(work: Awaitable[Any]) -> None:
    try:
        await work
    except asyncio.CancelledError:
        raise
    except BaseException:  # SystemExit would end the loop
        _log.warning("an async iterator raised while it was closed", exc_info=True)


class Receiver:
    """The messages of a request, of which the next can be watched without being taken."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._next: asyncio.Task[Any] | None = None

    def watch(self) -> asyncio.Task[Any]:
        """Begin to wait for the next message, which is still there for `take`."""
        if self._next is None:
            self._next = asyncio.ensure_future(self._one())
        return self._next

    async def take(self, timeout: float) -> Any:
        """Take the next message; raises CallerGoneError and asyncio.TimeoutError."""
        task = self.watch()
        done, _ = await asyncio.wait({task}, timeout=max(timeout, 0))
        if not done:
            raise asyncio.TimeoutError
        if self.gone():
            raise CallerGoneError("the caller left before its request was whole")
        self._next = None
        return task.result()

    def gone(self) -> bool:
        """Tell whether the caller has left."""
        task = self._next
        if task is None or not task.done():
            return False
        return bool(task.cancelled() or task.result()["type"] == "http.disconnect")

    def close(self) -> None:
        """Wait for nothing any more."""
        if self._next is not None:
            self._next.cancel()

    async def _one(self) -> Any:
        try:
            return await self._receive()
        except OSError:
            return {"type": "http.disconnect"}


class BodyReader:
    """The body of an event, chunk by chunk, with back-pressure to whoever sends it."""

    def __init__(self, receiver: Receiver, loop: asyncio.AbstractEventLoop, stall_s: float) -> None:
        self._receiver = receiver
        self._loop = loop
        self._stall_s = stall_s
        self._ended = False

    def __iter__(self) -> Iterator[bytes]:
        while (chunk := on_loop(self._loop, self._take()).result()) is not None:
            yield chunk

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._chunks()

    async def _chunks(self) -> AsyncIterator[bytes]:
        while (chunk := await self._take()) is not None:
            yield chunk

    async def _take(self) -> bytes | None:
        chunk = b""
        while not chunk and not self._ended:
            try:
                message = await self._receiver.take(self._stall_s)
            except asyncio.TimeoutError:
                raise DeadlineExceededError(
                    f"no more of the body came for {self._stall_s:g} s: the sender stalls"
                ) from None
            chunk = message.get("body", b"")
            self._ended = not message.get("more_body", False)
        return bytes(chunk) or None
