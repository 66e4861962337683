"""The classes that handlers inherit from, and the marks on their methods."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from .errors import HandlerError
from .events import ConnectionStateEvents
from .limits import MAX_NOUN_BYTES

VERBS = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH")
NOUNS_MARK = "__restpipe_nouns__"
STREAMED_MARK = "__restpipe_streamed__"

_Method = TypeVar("_Method", bound=Callable[..., Any])


class EventHandler(ConnectionStateEvents):
    """Answers events: `get_time_utc(self, ctx, post_data, *args, **query)` is GET of `time/utc`.

    A method is `VERB_` and the noun, each of its underscores a slash of the
    noun. A noun that itself has an underscore, a hyphen or anything else that
    a method's name cannot say is named with `@restpipe.noun`. Names that
    begin with an underscore are the class's own affair.

    Methods that are not `async` run on threads, several at once: what they
    share needs a lock.
    """

    check_bodies: bool = True
    """Refuse bodies that are not the JSON or charset they declare, before a method sees them."""

    def start_hook(self) -> Awaitable[None] | None:
        """Prepare, before the first event; whatever it raises stops the start."""

    def stop_hook(self) -> Awaitable[None] | None:
        """Tidy up, after the last event."""


class ServerEventHandler(EventHandler):
    """The handler beside a server node: the same as any other, by its original name."""


class ClientEventHandler(EventHandler):
    """The handler beside a client node: the same as any other, by its original name."""


def noun(name: str, *, verb: str | None = None) -> Callable[[_Method], _Method]:
    """Say which noun a method answers, exactly, in place of the one its name says.

    The verb is the one that the method's name begins with, unless given. A
    method may carry several.
    """
    check_noun(name)
    if verb is not None and verb.upper() not in VERBS:
        raise HandlerError(f"noun({name!r}) has the verb {verb!r}: give one of {', '.join(VERBS)}")

    def mark(method: _Method) -> _Method:
        nouns = [*getattr(method, NOUNS_MARK, ()), (verb.upper() if verb else None, name)]
        setattr(method, NOUNS_MARK, tuple(nouns))
        return method

    return mark


def streamed(method: _Method) -> _Method:
    """Give the method the body as it arrives: `post_data.data` is iterated for its chunks."""
    setattr(method, STREAMED_MARK, True)
    return method


def check_noun(name: str) -> None:
    """Refuse a noun that no gateway lets through."""
    segments = name.split("/")
    if not all(segments):
        cause = "has an empty segment: drop the slash that is too many"
    elif any(segment in (".", "..") for segment in segments) or "\0" in name:
        cause = "has a segment that no path may hold: leave out '.', '..' and NUL"
    elif len(name.encode()) > MAX_NOUN_BYTES:
        cause = f"is longer than {MAX_NOUN_BYTES} bytes: shorten it"
    else:
        return
    raise HandlerError(f"the noun {name!r} {cause}")
