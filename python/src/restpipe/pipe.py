"""A tiny client for the local gateway; needs nothing but the standard library."""

from __future__ import annotations

import http.client
import json as json_module
from collections.abc import Iterable, Iterator, Mapping, Sequence
from email.message import Message
from types import TracebackType
from typing import Any
from urllib.parse import quote, urlencode

from .context import charset_of
from .events import ConnectionEvent
from .feed import PATH as EVENTS_PATH
from .feed import read_events
from .gateway import Body, Gateway, NotReachedError, Stream, check_body
from .limits import (
    CALL_GRACE_S,
    CALL_TIMEOUT_S,
    CHUNK_BYTES,
    EAGER_BYTES,
    FEED_CONNECT_S,
    MAX_REPLY_BYTES,
)
from .response import (
    CODE_HEADER,
    OUTCOME_HEADER,
    RETRIABLE_HEADER,
    PipeFailError,
    raise_for_exception,
)

_AGAIN = frozenset({"GET", "HEAD", "PUT", "DELETE"})
"""Verbs that may run twice, as the gateway has it."""

Query = Mapping[str, Any] | Sequence[tuple[str, Any]]


class Pipe:
    """The pipe, as it is asked through the local gateway.

    `Pipe().server.get("time")` on a client node, or
    `Pipe().client("fileserver").get("cat", args=["a/b"])` on a server node.
    Each call has a connection of its own, so that a Pipe may be shared
    by threads.
    """

    def __init__(
        self, url: str | None = None, *, timeout: float = CALL_TIMEOUT_S, check: bool = True
    ) -> None:
        """Use the gateway at `url`, else at `RESTPIPE_URL`, else at its usual place.

        `timeout` is the deadline of each call in seconds. `check=False` gives
        back failed answers, for `raise_for_exception`, in place of raising.
        """
        self._gateway = Gateway(url)
        self.timeout = timeout
        self.check = check

    @property
    def server(self) -> Target:
        """The server, from a client node."""
        return Target(self, self._gateway, "/server")

    def client(self, hostname: str) -> Target:
        """Choose a client by its hostname or address, from a server node."""
        return Target(self, self._gateway, f"/client/{_segment(hostname, 'hostname')}")

    def events(self, *, silence: float | None = None) -> Iterator[ConnectionEvent]:
        """Yield connects and disconnects as they come, until the gateway ends the stream.

        `silence` is the seconds without any after which it gives up with a
        TimeoutError; unless given it waits for as long as the gateway is there.
        """
        headers = {"accept": "text/event-stream"}
        stream = _open(self._gateway, "GET", EVENTS_PATH, headers, None, FEED_CONNECT_S)
        try:
            raise_for_exception(Reply(stream, "GET"))
            stream.socket.settimeout(silence)
            yield from read_events(stream)
        finally:
            stream.close()


class Target:
    """Whom events are for."""

    def __init__(self, pipe: Pipe, gateway: Gateway, path: str) -> None:
        self._pipe = pipe
        self._gateway = gateway
        self._path = path
        self.get = Verb(self, "GET")
        self.head = Verb(self, "HEAD")
        self.post = Verb(self, "POST")
        self.put = Verb(self, "PUT")
        self.delete = Verb(self, "DELETE")
        self.patch = Verb(self, "PATCH")

    def send(
        self,
        verb: str,
        path: str,
        headers: dict[str, str],
        body: Body | None,
        timeout: float | None,
        check: bool | None,
    ) -> Reply:
        """Send an event whose path and headers are written already."""
        limit = self._pipe.timeout if timeout is None else timeout
        if not limit > 0:
            raise ValueError(f"timeout is {limit}: give seconds above 0")
        headers.setdefault("RestPipe-Timeout", f"{max(round(limit * 1000), 1)}ms")
        whole = self._path + path
        stream = _open(self._gateway, verb, whole, headers, body, limit + CALL_GRACE_S)
        reply = Reply(stream, verb)
        length = stream.response.length
        if length is not None and length <= EAGER_BYTES:
            reply.read()
        if self._pipe.check if check is None else check:
            try:
                raise_for_exception(reply)
            except PipeFailError:
                reply.close()
                raise
        return reply


class Verb:
    """One verb of a target; called, it sends an event and gives its Reply."""

    def __init__(self, target: Target, verb: str) -> None:
        self._target = target
        self._verb = verb

    def __call__(
        self,
        noun: str,
        args: Iterable[str | int | float] = (),
        query: Query | None = None,
        *,
        data: str | Body | None = None,
        json: Any = None,
        mime: str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        wait: float | None = None,
        check: bool | None = None,
    ) -> Reply:
        """Send an event; raises PipeFailError if it fails.

        `data` is text, bytes, a file opened with `rb`, or an iterable of
        bytes, which is streamed; `json` is anything that JSON can say.
        `timeout` is the deadline in seconds, `wait` how many of them to wait
        for an absent peer.
        """
        if data is not None and json is not None:
            raise TypeError("both data and json are given: give one of them")
        body: Body | None = None
        kind = None
        if json is not None:
            body, kind = json_module.dumps(json, allow_nan=False).encode(), "application/json"
        elif isinstance(data, str):
            body, kind = data.encode(), "text/plain; charset=utf-8"
        elif data is not None:
            check_body(data)
            body, kind = data, "application/octet-stream"
        sent = dict(headers or {})
        if mime or kind:
            sent["content-type"] = mime or str(kind)
        if wait is not None:
            sent["prefer"] = f"wait={max(round(wait), 0)}"
        return self._target.send(
            self._verb, event_path(noun, args, query), sent, body, timeout, check
        )


class Reply:
    """The answer to an event.

    Short ones are there at once. Longer ones are read once, whole or in
    pieces, and closed by that or by `with`.
    """

    def __init__(self, stream: Stream, verb: str) -> None:
        self._stream = stream
        self._verb = verb
        self._content: bytes | None = None
        self.status_code = stream.status
        self.headers: Message = stream.response.headers

    def __enter__(self) -> Reply:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.status_code

    @property
    def code(self) -> int:
        """The return code: 0 is success."""
        text = self.headers.get(CODE_HEADER, "")
        return int(text) if text.isascii() and text.isdigit() else self.status_code

    @property
    def outcome(self) -> str:
        """What is known of the handler: `executed`, `not-sent`, `refused` or `unknown`."""
        return str(self.headers.get(OUTCOME_HEADER, ""))

    @property
    def retriable(self) -> bool:
        """Whether the same call may be made again."""
        return str(self.headers.get(RETRIABLE_HEADER, "")).lower() == "true"

    @property
    def mime(self) -> str:
        """The Content-Type."""
        return str(self.headers.get("content-type", ""))

    @property
    def content(self) -> bytes:
        """The whole body, as requests and httpx call it."""
        return self.read()

    def iter_bytes(self, chunk_size: int = CHUNK_BYTES) -> Iterator[bytes]:
        """Yield the body as it comes; raises PipeFailError if it is broken off."""
        if self._content is not None:
            yield from (
                self._content[at : at + chunk_size]
                for at in range(0, len(self._content), chunk_size)
            )
            return
        count = 0
        try:
            while chunk := self._stream.read(chunk_size):
                count += len(chunk)
                yield chunk
        except (OSError, http.client.HTTPException) as error:
            late = isinstance(error, TimeoutError)
            raise PipeFailError(
                f"the answer {'stalled' if late else 'was broken off'} after {count} bytes: "
                "the other side's log says why",
                code=504 if late else 502,
                class_name=type(error).__name__,
                outcome=self.outcome or "unknown",
                retriable=self._verb in _AGAIN,
                status=self.status_code,
                reason="timeout" if late else "broken-off",
                response=self,
            ) from error
        finally:
            self.close()

    def read(self, limit: int = MAX_REPLY_BYTES) -> bytes:
        """Read the whole body, at most `limit` bytes."""
        if self._content is None:
            body = bytearray()
            for chunk in self.iter_bytes():
                body += chunk
                if len(body) > limit:
                    self.close()
                    raise ValueError(
                        f"the answer is larger than {limit} bytes: read it with iter_bytes"
                    )
            self._content = bytes(body)
        return self._content

    def text(self) -> str:
        """Read the body and decode it by its charset, else as UTF-8."""
        return self.read().decode(charset_of(self.mime) or "utf-8")

    def json(self) -> Any:
        """Read the body and parse it as JSON."""
        return json_module.loads(self.read())

    def close(self) -> None:
        """Read no more."""
        self._stream.close()


def event_path(
    noun: str, args: Iterable[str | int | float] = (), query: Query | None = None
) -> str:
    """Write noun, arguments and query as the gateway reads them; raises for what it refuses."""
    if isinstance(args, str | bytes):
        raise TypeError(f"args is {args!r:.60}: give a list, for example args=[...]")
    path = "".join(f"/{_segment(segment, 'segment of the noun')}" for segment in noun.split("/"))
    encoded = [quote(_allowed(str(arg), "argument"), safe="") for arg in args]
    if encoded == [""]:
        raise ValueError(
            "a single empty argument cannot be told from none in a path: send it in the query"
        )
    if encoded:
        path = f"{path}//{'/'.join(encoded)}"
    return f"{path}?{urlencode(query, doseq=True, quote_via=quote)}" if query else path


def _segment(text: str, what: str) -> str:
    if not text:
        raise ValueError(f"an empty {what}: name it, without a slash at its begin or end")
    return quote(_allowed(text, what), safe="")


def _allowed(text: str, what: str) -> str:
    if text in (".", "..") or "\0" in text:
        raise ValueError(
            f"{text!r} as {what} is refused by every gateway: send it in the query or the body"
        )
    return text


def _open(
    gateway: Gateway,
    verb: str,
    path: str,
    headers: Mapping[str, str],
    body: Body | None,
    timeout: float,
) -> Stream:
    try:
        return gateway.open(verb, path, headers, body, timeout)
    except NotReachedError as error:
        message, code, reason, outcome = str(error), 503, "no-gateway", "not-sent"
        cause: Exception = error
    except TimeoutError as error:
        message = f"the gateway at {gateway.url} gave no answer within {timeout:g} s"
        code, reason, outcome, cause = 504, "timeout", "unknown", error
    except (OSError, http.client.HTTPException) as error:
        message = f"the gateway at {gateway.url} broke off before it answered: {error}"
        code, reason, outcome, cause = 502, "broken-off", "unknown", error
    raise PipeFailError(
        message,
        code=code,
        class_name=type(cause).__name__,
        outcome=outcome,
        retriable=outcome == "not-sent" or verb in _AGAIN,
        reason=reason,
    ) from cause
