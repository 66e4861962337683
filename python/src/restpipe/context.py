"""What a handler is given: who asks for what until when, and the body."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from email.message import Message
from typing import Any, NamedTuple, Protocol

from .errors import BadBodyError

_JSON = re.compile(r"application/(?:[a-z0-9!#$&^_.+-]+\+)?json")
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}.*")


@dataclass(frozen=True)
class Context:
    """The circumstances of one event."""

    peer: str
    """The verified hostname of the node that asks; empty if the event came past any node."""
    noun: str
    """The noun, for example `time/utc`."""
    verb: str
    """GET, HEAD, POST, PUT, DELETE or PATCH."""
    deadline: datetime
    """When the caller stops waiting; with its time zone, UTC."""
    trace: str
    """The W3C `traceparent`, or empty."""
    headers: Mapping[str, str] = field(repr=False)
    """The caller's end-to-end headers; names in lower case, repeated ones joined by commas."""
    query: tuple[tuple[str, str], ...] = ()
    """All query parameters in their order; a handler's keywords get the last of each name."""
    expires: float = field(default=0.0, repr=False)
    """The deadline by `time.monotonic()`, which nobody sets back."""
    _cancelled: threading.Event = field(default_factory=threading.Event, repr=False, compare=False)

    @property
    def trace_id(self) -> str:
        """The trace id in `trace`, or empty."""
        match = _TRACEPARENT.fullmatch(self.trace)
        return match.group(1) if match else ""

    @property
    def cancelled(self) -> bool:
        """Whether nobody waits any more; long handlers look at it and stop."""
        return self._cancelled.is_set()

    def time_left(self) -> float:
        """Seconds until the deadline; negative after it."""
        return self.expires - time.monotonic()

    def cancel(self) -> None:
        """Mark the event as given up."""
        self._cancelled.set()


class PostData(NamedTuple):
    """The body of an event: `mime, data = post_data`."""

    mime: str
    """The Content-Type as it was sent; empty if there was none."""
    data: bytes | str
    """The bytes of the body; the empty string if there was none."""

    @property
    def kind(self) -> str:
        """The MIME type in lower case, without parameters such as charset."""
        return kind_of(self.mime)

    @property
    def raw(self) -> bytes:
        """The body as bytes, whether there is one or not."""
        return self.data.encode() if isinstance(self.data, str) else self.data

    def text(self) -> str:
        """Decode the body by the charset it declares, else as UTF-8."""
        charset = charset_of(self.mime) or "utf-8"
        try:
            return self.raw.decode(charset)
        except LookupError:
            raise BadBodyError(
                f"the body declares the charset {charset!r}, which does not exist: send UTF-8"
            ) from None
        except ValueError:
            raise BadBodyError(
                f"the body is not {charset}: declare its real charset, or send UTF-8"
            ) from None

    def json(self) -> Any:
        """Parse the body as JSON."""
        try:
            return json.loads(self.text())
        except BadBodyError:
            raise
        except RecursionError:
            raise BadBodyError("the body's JSON is nested too deeply: flatten it") from None
        except ValueError as error:
            raise BadBodyError(f"the body is not JSON ({error}): send valid JSON") from None

    def check(self) -> None:
        """Refuse a body that is not the JSON or the charset that it declares."""
        if not self.data:
            return
        if is_json(self.mime):
            self.json()
        elif charset_of(self.mime):
            self.text()


class BodyStream(Protocol):
    """A body that is read as it arrives: by `for` in a method, by `async for` in an async one."""

    def __iter__(self) -> Iterator[bytes]:
        """Yield chunks, each at least one byte."""
        ...

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield chunks, each at least one byte."""
        ...


class StreamedPostData(NamedTuple):
    """The body of an event whose handler is marked with `@restpipe.streamed`."""

    mime: str
    data: BodyStream


def _header(mime: str) -> Message:
    message = Message()
    message["content-type"] = mime
    return message


def kind_of(mime: str) -> str:
    """Cut the parameters off a Content-Type."""
    return mime.partition(";")[0].strip().lower()


def charset_of(mime: str) -> str:
    """Find the charset that a Content-Type declares, or nothing."""
    if "charset" not in mime.lower():
        return ""
    return _header(mime).get_content_charset("")


def is_json(mime: str) -> bool:
    """Tell whether a Content-Type is JSON or one of its kin."""
    return _JSON.fullmatch(kind_of(mime)) is not None
