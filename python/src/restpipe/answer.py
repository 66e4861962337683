"""What a handler returns, made into what goes back."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from .context import charset_of, is_json, kind_of
from .errors import CODE_FAILED, CODE_NO_HANDLER, CODE_OK, Exc, WrongAnswerError

JSON = "application/json"
BYTES = "application/octet-stream"

MAX_CODE = 2**31 - 1
"""The largest return code: what a C program on either side can still read as an int."""

_SUCCESS = frozenset({200, 201, 202, 203, 204, 206})
_NO_CONTENT = 204
_MIME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+/[!#$%&'*+.^_`|~0-9A-Za-z-]+(?:\s*;[\x20-\x7e]*)?")

Stream = Iterator[Any] | AsyncIterator[Any]


class Pieces(Protocol):
    """A streamed answer whose first piece is there."""

    async def get(self) -> tuple[str, Any]:
        """Take the next piece."""

    async def close(self) -> None:
        """Take no more."""


@dataclass
class Answer:
    """An answer, ready to be sent."""

    status: int
    code: int
    mime: str
    body: bytes | Stream | Pieces
    exc: Exc | None = None
    """Why it is a failure, for the log."""
    headers: list[tuple[str, str]] = field(default_factory=list)


def of_exception(
    exc: Exc,
    *,
    status: int = 500,
    code: int = CODE_FAILED,
    tracebacks: bool = False,
    headers: list[tuple[str, str]] | None = None,
) -> Answer:
    """Make the original's `exception` body."""
    member = {
        "message": exc.message,
        "traceback": exc.traceback if tracebacks else "",
        "class": exc.class_name,
    }
    body = json.dumps({"exception": member}).encode()
    return Answer(status, code, JSON, body, exc, headers or [])


def of_result(name: str, result: Any) -> Answer:
    """Make an answer of what the method `name` returned; raises WrongAnswerError."""
    if not isinstance(result, tuple):
        mime, code, data = JSON, CODE_OK, result
        if is_raw(data):
            mime = BYTES
    elif len(result) == 3:
        mime, code, data = result
        _check(name, mime, code)
    else:
        raise WrongAnswerError(
            f"{name} returned a tuple of {len(result)}: return data, or exactly "
            "(mime, code, data); for a JSON array return a list"
        )
    status, code = to_status(code)
    body = _encode(name, mime, data)
    if status == _NO_CONTENT and body != b"":
        raise WrongAnswerError(f"{name} returned code 204 with data: 204 means none, return b''")
    if isinstance(body, bytes) and isinstance(data, str) and mime.lower().startswith("text/"):
        mime = mime if charset_of(mime) else f"{mime}; charset=utf-8"
    return Answer(status, code, mime, body)


def to_status(code: int) -> tuple[int, int]:
    """Tell the HTTP status and the return code for the code in a handler's answer."""
    if code == CODE_OK:
        return 200, CODE_OK
    if code in _SUCCESS:
        return code, CODE_OK
    if code == CODE_NO_HANDLER:
        return 404, code
    if 400 <= code <= 599:
        return code, code
    return 500, code


def chunk_of(name: str, chunk: Any) -> bytes:
    """Check a chunk of a streamed answer."""
    if isinstance(chunk, bytes):
        return chunk
    if isinstance(chunk, bytearray | memoryview):
        return bytes(chunk)
    raise WrongAnswerError(
        f"{name} yielded {_kind(chunk)}: each piece of a streamed answer must be bytes"
    )


def is_raw(data: Any) -> bool:
    """Tell whether data are bytes already, in one piece or in many."""
    return isinstance(data, bytes | bytearray | memoryview | Iterator | AsyncIterator)


def _check(name: str, mime: Any, code: Any) -> None:
    no_content = mime == "" and code == _NO_CONTENT
    if not no_content and not (isinstance(mime, str) and _MIME.fullmatch(mime)):
        raise WrongAnswerError(
            f"{name} returned the MIME type {mime!r:.100}: the first of (mime, code, data) must "
            "be a string such as 'text/plain'"
        )
    if not isinstance(code, int) or isinstance(code, bool) or not 0 <= code <= MAX_CODE:
        raise WrongAnswerError(
            f"{name} returned the code {code!r:.100}: the second of (mime, code, data) must be 0 "
            f"for success, or a number up to {MAX_CODE}"
        )


def _encode(name: str, mime: str, data: Any) -> bytes | Stream:
    if isinstance(data, bytes):
        return data
    if isinstance(data, bytearray | memoryview):
        return bytes(data)
    if isinstance(data, Iterator | AsyncIterator):
        return data
    if is_json(mime):
        try:
            return json.dumps(data, allow_nan=False).encode()
        except RecursionError:
            cause = "nested too deeply or in a circle"
        except (TypeError, ValueError) as error:
            cause = str(error)
        raise WrongAnswerError(
            f"{name} returned {_kind(data)} that JSON cannot say ({cause}): return plain "
            "dicts, lists, strings and finite numbers, bytes, or an iterator of bytes"
        )
    if data is None:
        return b""
    if isinstance(data, str):
        charset = charset_of(mime) or "utf-8"
        try:
            return data.encode(charset)
        except (LookupError, ValueError):
            raise WrongAnswerError(
                f"{name} returned text that cannot be written in {charset}: declare charset=utf-8"
            ) from None
    raise WrongAnswerError(
        f"{name} returned {_kind(data)} as {kind_of(mime)}: only JSON is encoded for you; return "
        "bytes, a string or an iterator of bytes"
    )


def _kind(data: Any) -> str:
    name = type(data).__qualname__
    return f"an {name}" if name[:1].lower() in "aeiou" else f"a {name}"
