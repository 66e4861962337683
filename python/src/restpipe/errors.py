"""What goes wrong on the handling side."""

from __future__ import annotations

import traceback
from dataclasses import dataclass, field

from .limits import MAX_MESSAGE_CHARS, MAX_TRACEBACK_CHARS

CODE_OK = 0
"""Return code: the handler answered."""
CODE_FAILED = 251
"""Return code: the handler failed. HTTP 500."""
CODE_NO_HANDLER = 255
"""Return code: there is no such handler. HTTP 404."""


class HandlerError(Exception):
    """A handler class that cannot be served; said when it starts, not when it is called."""


class WrongAnswerError(TypeError):
    """A handler returned something that cannot be sent."""


class BadBodyError(ValueError):
    """A body is not what its Content-Type says. The caller gets HTTP 400."""


class DeadlineExceededError(TimeoutError):
    """An event's time is over."""


class CallerGoneError(ConnectionError):
    """Nobody waits for the answer any more."""


@dataclass(frozen=True)
class Exc:
    """The original's `exception` member: what the caller is told of a failure."""

    message: str
    class_name: str
    traceback: str = ""

    @classmethod
    def of(cls, error: BaseException) -> Exc:
        """Describe an exception with its traceback; both cut to their limits."""
        lines = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        return cls(_text(error), class_name(error), lines[-MAX_TRACEBACK_CHARS:])


@dataclass
class RefusedError(Exception):
    """An event that is answered without its handler."""

    status: int
    code: int
    exc: Exc
    headers: list[tuple[str, str]] = field(default_factory=list)

    def __str__(self) -> str:
        return self.exc.message


def refused(
    status: int, message: str, name: str, *, code: int | None = None, retry_after: int | None = None
) -> RefusedError:
    """Make a refusal; the return code is the status unless given."""
    headers = [] if retry_after is None else [("retry-after", str(retry_after))]
    return RefusedError(status, status if code is None else code, Exc(message, name), headers)


def class_name(error: BaseException) -> str:
    """Name an exception's class: with its module, unless that is Python's or this package."""
    kind = type(error)
    if kind.__module__ == "builtins" or kind.__module__.partition(".")[0] == __package__:
        return kind.__qualname__
    return f"{kind.__module__}.{kind.__qualname__}"


def _text(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception:  # a __str__ that raises must not hide the failure itself
        text = "its message could not be made: __str__ raised"
    return text[:MAX_MESSAGE_CHARS]
