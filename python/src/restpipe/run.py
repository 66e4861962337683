"""One event: its body is read, its method run, and whatever happens becomes an answer."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from .answer import Answer, chunk_of, of_exception, of_result
from .context import PostData, StreamedPostData
from .errors import (
    BadBodyError,
    CallerGoneError,
    Exc,
    WrongAnswerError,
    refused,
)
from .limits import ANSWER_MARGIN_S, ANSWER_MARGIN_SHARE, Settings
from .request import Call
from .stream import CHUNK, ERROR, AsyncPieces, BodyReader, Handoff, Piece, Receiver
from .stream import step as next_piece
from .stream import step_async as next_piece_async
from .threads import Job, Threads

_log = logging.getLogger("restpipe")

RUNNING: contextvars.ContextVar[str] = contextvars.ContextVar("restpipe_running", default="")
"""The method that runs, for what it prints."""

Post = PostData | StreamedPostData


class Run:
    """The running of one event's method."""

    def __init__(
        self, call: Call, receiver: Receiver, settings: Settings, threads: Threads, check: bool
    ) -> None:
        self._call = call
        self._receiver = receiver
        self._settings = settings
        self._threads = threads
        self._check = check
        self._loop = asyncio.get_running_loop()
        self._outcome: asyncio.Future[Answer] = self._loop.create_future()
        self._given_up = False
        self._job: Job | None = None
        self._task: asyncio.Task[None] | None = None
        self.ended: asyncio.Future[None] | None = None
        """Done when the method has ended, which may be long after its answer; None: not begun."""

    async def answer(self) -> Answer:
        """Run the method; raises RefusedError and CallerGoneError."""
        post = await self._body()
        self._begin(post)
        ctx = self._call.ctx
        left = ctx.time_left()
        limit = left - min(ANSWER_MARGIN_S, left * ANSWER_MARGIN_SHARE)
        try:
            await self._wait(time.monotonic() + limit)
        except BaseException:
            self._give_up()
            raise
        if self._outcome.done():
            return self._outcome.result()
        not_run = self._give_up()
        if self._receiver.gone():
            raise CallerGoneError("the caller left before the answer")
        raise self._hung(not_run)

    async def _wait(self, until: float) -> None:
        while not self._outcome.done() and not self._receiver.gone():
            left = until - time.monotonic()
            if left <= 0:
                return
            waited: set[asyncio.Future[Any]] = {self._outcome}
            watched = self._receiver.watch()
            # A chunk that its reader has not taken yet is no reason to wake up.
            if not watched.done():
                waited.add(watched)
            await asyncio.wait(waited, timeout=left, return_when=asyncio.FIRST_COMPLETED)

    def _give_up(self) -> bool:
        """Wait no more; tells whether the method was never begun."""
        self._given_up = True
        self._call.ctx.cancel()
        if self._outcome.done():
            self._discard(self._outcome.result())
        if self._task is not None:
            self._task.cancel()
        not_run = self._job is not None and self._job.take()
        if not_run:
            self._set_ended()
        elif self.ended is not None and not self.ended.done():
            self.ended.add_done_callback(self._log_late_end)
        return not_run

    def _hung(self, not_run: bool) -> Exception:
        name, count = self._call.route.name, self._threads.size
        if not_run:
            message = (
                f"{name} was not run: all {count} handler threads were busy until the deadline; "
                "try again, or serve with more --threads"
            )
            return refused(503, message, "Busy", retry_after=1)
        message = f"{name} gave no answer before the deadline and is given up"
        if self._job is not None:
            message += f"; it may still run, and holds 1 of {count} threads until it ends"
        return refused(504, message, "DeadlineExceededError", code=251)

    def _log_late_end(self, _: Any) -> None:
        late = -self._call.ctx.time_left()
        _log.info("%s, given up before, has ended %.1f s late", self._call.route.name, late)

    # --- the body ---

    async def _body(self) -> Post:
        call = self._call
        if call.route.streamed:
            reader = BodyReader(self._receiver, self._loop, self._settings.stream_stall_s)
            return StreamedPostData(call.mime, reader)
        limit = self._settings.max_body_bytes
        too_large = refused(
            413,
            f"the body is larger than the {limit} bytes that {call.route.name} takes whole: send "
            "less, raise --max-body, or mark the method with @restpipe.streamed",
            "BodyTooLarge",
        )
        if (call.length or 0) > limit:
            raise too_large
        body, more = bytearray(), True
        while more:
            try:
                message = await self._receiver.take(call.ctx.time_left())
            except asyncio.TimeoutError:
                text = f"the body was not whole before the deadline; {call.route.name} was not run"
                raise refused(504, text, "DeadlineExceededError") from None
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > limit:
                raise too_large
        return PostData(call.mime, bytes(body) if body else "")

    # --- the method ---

    def _begin(self, post: Post) -> None:
        self.ended = self._loop.create_future()
        if self._call.route.is_async:
            self._task = asyncio.ensure_future(self._run_async(post))
            self._task.add_done_callback(self._task_done)
        else:
            self._job = self._threads.submit(lambda: self._run_in_thread(post))

    def _invoke(self, post: Post) -> Any:
        call = self._call
        RUNNING.set(call.route.name)
        if self._check and isinstance(post, PostData) and self._plain():
            post.check()
        return call.route.method(call.ctx, post, *call.args, **call.query)

    def _plain(self) -> bool:
        return self._call.ctx.headers.get("content-encoding", "identity") == "identity"

    def _run_in_thread(self, post: Post) -> None:
        try:
            try:
                result = self._invoke(post)
                if inspect.iscoroutine(result):
                    result.close()
                    raise WrongAnswerError(
                        f"{self._call.route.name} returned a coroutine: declare it with async def"
                    )
                answer = of_result(self._call.route.name, result)
            except BaseException as error:  # SystemExit, too, is the caller's answer
                self._deliver(self._failed(error))
                return
            if isinstance(answer.body, Iterator):
                self._pump(answer, answer.body, self._deliver)
            else:
                self._deliver(answer)
        finally:
            self._soon(self._set_ended)

    async def _run_async(self, post: Post) -> None:
        try:
            result = self._invoke(post)
            if inspect.isawaitable(result):
                result = await result
            answer = of_result(self._call.route.name, result)
        except BaseException as error:  # SystemExit would end the loop
            if isinstance(error, asyncio.CancelledError) and self._given_up:
                raise
            self._settle(self._failed(error))
            return
        if isinstance(answer.body, AsyncIterator):
            await self._start_async(answer, answer.body)
        elif isinstance(answer.body, Iterator):
            body = answer.body
            self._threads.submit(lambda: self._pump(answer, body, self._deliver))
        else:
            self._settle(answer)

    async def _start_async(self, answer: Answer, iterator: AsyncIterator[Any]) -> None:
        first = self._checked(await next_piece_async(iterator))
        pieces = AsyncPieces(iterator, first)
        if first[0] == ERROR:
            await pieces.close()
            self._settle(self._failed(first[1]))
        else:
            answer.body = pieces
            self._settle(answer)

    def _pump(
        self, answer: Answer, iterator: Iterator[Any], deliver: Callable[[Answer], None]
    ) -> None:
        """Pass on what an iterator yields, in a thread: the first piece decides the status."""
        RUNNING.set(self._call.route.name)
        piece = self._checked(next_piece(iterator))
        try:
            if piece[0] == ERROR:
                deliver(self._failed(piece[1]))
                return
            answer.body = handoff = Handoff(self._loop)
            deliver(answer)
            handoff.put(piece)
            while piece[0] == CHUNK:
                piece = self._checked(next_piece(iterator))
                handoff.put(piece)
        except CallerGoneError:
            pass
        finally:
            _close(iterator)

    def _checked(self, piece: Piece) -> Piece:
        if piece[0] != CHUNK:
            return piece
        try:
            return CHUNK, chunk_of(self._call.route.name, piece[1])
        except WrongAnswerError as error:
            return ERROR, error

    def _failed(self, error: BaseException) -> Answer:
        name = self._call.route.name
        if isinstance(error, BadBodyError):
            return of_exception(Exc.of(error), status=400, code=400)
        exc = Exc.of(error)
        if isinstance(error, SystemExit | KeyboardInterrupt):
            said = f"sys.exit({error.code!r:.60})" if isinstance(error, SystemExit) else "an end"
            message = f"{name} called for {said}; the app goes on: return or raise instead"
            exc = Exc(message, exc.class_name, exc.traceback)
        return of_exception(exc, tracebacks=self._settings.tracebacks)

    # --- from the thread, or the task, to whoever waits ---

    def _deliver(self, answer: Answer) -> None:
        self._soon(lambda: self._settle(answer))

    def _soon(self, work: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(work)
        except RuntimeError:
            _log.info("%s ended after the app", self._call.route.name)

    def _settle(self, answer: Answer) -> None:
        if self._given_up:
            self._discard(answer)
        elif not self._outcome.done():
            self._outcome.set_result(answer)

    def _discard(self, answer: Answer) -> None:
        if isinstance(answer.body, Handoff | AsyncPieces):
            # Kept by the loop until it ends; `close` is bounded.
            task = asyncio.ensure_future(answer.body.close())
            _closing.add(task)
            task.add_done_callback(_closing.discard)

    def _task_done(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            _log.error("an error of the package itself: report it", exc_info=task.exception())
        self._set_ended()

    def _set_ended(self) -> None:
        if self.ended is not None and not self.ended.done():
            self.ended.set_result(None)


_closing: set[asyncio.Future[None]] = set()


def _close(iterator: Iterator[Any]) -> None:
    close = getattr(iterator, "close", None)
    if close is None:
        return
    try:
        close()
    except BaseException:
        _log.warning("an iterator raised while it was closed", exc_info=True)
