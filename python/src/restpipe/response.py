"""What the gateway answered, made into an exception where it is a failure.

Works with the responses of requests and httpx and with `restpipe.Reply`, by
the attributes that they share; none of them is imported.
"""

from __future__ import annotations

import json
from typing import Any

from .errors import CODE_OK
from .limits import MAX_ERROR_BYTES, MAX_ERROR_TEXT_CHARS

CODE_HEADER = "X-Event-Return-Code"
OUTCOME_HEADER = "X-Event-Outcome"
RETRIABLE_HEADER = "X-Event-Retriable"


class PipeFailError(Exception):
    """An event that failed: in its handler, or on the way there or back."""

    def __init__(
        self,
        message: str,
        *,
        code: int,
        class_name: str = "",
        traceback: str = "",
        outcome: str = "",
        retriable: bool = False,
        status: int | None = None,
        reason: str = "",
        response: Any = None,
    ) -> None:
        label = class_name or reason
        super().__init__(f"({code}) [{label}] {message}" if label else f"({code}) {message}")
        self.message = message
        self.code = code
        """The return code; the HTTP status where no handler ran."""
        self.class_name = class_name
        """The class of the exception on the far side."""
        self.traceback = traceback
        """The far side's traceback, if it lets it out."""
        self.outcome = outcome
        """`executed`, `not-sent`, `refused` or `unknown`."""
        self.retriable = retriable
        """Whether the same call may be made again without running twice."""
        self.status = status
        """The HTTP status, if there was an answer."""
        self.reason = reason
        """The pipe's word for its own failures, such as `peer-away`."""
        self.response = response
        """The answer itself."""

    @property
    def error_message(self) -> str:
        """`message`, by the original's name."""
        return self.message

    @property
    def error_traceback(self) -> str:
        """`traceback`, by the original's name."""
        return self.traceback

    @property
    def error_class_name(self) -> str:
        """`class_name`, by the original's name."""
        return self.class_name

    @property
    def return_code(self) -> int:
        """`code`, by the original's name."""
        return self.code


# "class" is a word of the language, so that it cannot be written as an attribute.
setattr(PipeFailError, "class", PipeFailError.error_class_name)


def raise_for_exception(response: Any) -> None:
    """Raise a PipeFailError if the answer of the gateway says that the event failed.

    Takes a response of requests or httpx, or a `restpipe.Reply`. Success is a
    return code of 0; without any return code, an HTTP status below 300.
    """
    status = int(response.status_code)
    text = response.headers.get(CODE_HEADER)
    code = CODE_OK if text is None and status < 300 else _code(text, status)
    if code == CODE_OK:
        return
    body = _error_body(response)
    document = _parse(body)
    exc = document.get("exception")
    exc = exc if isinstance(exc, dict) else {}
    said = document.get("detail") or document.get("title")
    message = exc.get("message") or said or _quote(body) or f"HTTP {status} without a body"
    word = document.get("code")
    raise PipeFailError(
        str(message),
        code=code,
        class_name=_word(exc.get("class")),
        traceback=_word(exc.get("traceback")),
        outcome=response.headers.get(OUTCOME_HEADER) or _word(document.get("outcome")),
        retriable=_retriable(response.headers.get(RETRIABLE_HEADER), document),
        status=status,
        reason=word if isinstance(word, str) else "",
        response=response,
    )


def _code(text: str | None, status: int) -> int:
    if text is not None and text.strip().isascii() and text.strip().isdigit():
        return int(text)
    # A code that is no number is not what a gateway sends: it must not pass for success.
    return status


def _retriable(header: str | None, document: dict[str, Any]) -> bool:
    if header is not None:
        return header.strip().lower() == "true"
    return document.get("retriable") is True


def _word(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _parse(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _quote(body: bytes) -> str:
    text = " ".join(body[: 4 * MAX_ERROR_TEXT_CHARS].decode("utf-8", "replace").split())
    return text[:MAX_ERROR_TEXT_CHARS]


def _error_body(response: Any) -> bytes:
    """Read as much of the body as an exception can be, whether it was read before or not."""
    read = getattr(response, "iter_content", None) or getattr(response, "iter_bytes", None)
    body = bytearray()
    try:
        if read is None:
            body += response.content[:MAX_ERROR_BYTES]
        else:
            for chunk in read(8192):
                body += chunk
                if len(body) >= MAX_ERROR_BYTES:
                    break
    except Exception:  # an answer that breaks off must not hide that it is a failure
        return bytes(body)
    return bytes(body)
