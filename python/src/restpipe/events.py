"""Pipes that come and go, as the gateway's `/-/events` tells it."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True)
class ConnectionEvent:
    """One change of a pipe."""

    kind: str
    """`connect`, `disconnect`, `connect-fail` or `idle`."""
    peer: str
    """The peer's hostname; on a failed connect the one that was dialled."""
    at: datetime | None = None
    instance: str = ""
    address: str = ""
    reason: str = ""
    data: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """All members, also those that this version does not know."""

    @classmethod
    def parse(cls, kind: str, text: str) -> ConnectionEvent:
        """Read the `data:` of a server-sent event; raises ValueError if it is none of ours."""
        data = json.loads(text)
        if not isinstance(data, dict):
            raise ValueError("its data is no JSON object")  # noqa: TRY004 - the text is wrong
        at = data.get("at")
        words = {name: data.get(name) for name in ("peer", "instance", "address", "reason")}
        return cls(
            kind=kind,
            at=parse_time(at) if isinstance(at, str) else None,
            data=data,
            **{name: word if isinstance(word, str) else "" for name, word in words.items()},
        )


class ConnectionStateEvents:
    """Hooks for pipes that come and go; override those of interest, `async` or not.

    They are called one after the other, in the order of the events. One that
    raises is logged and keeps nothing from going on.
    """

    def connection_success(self, event: ConnectionEvent) -> Awaitable[None] | None:
        """React to a pipe that is up."""

    def connection_fail(self, event: ConnectionEvent) -> Awaitable[None] | None:
        """React to a pipe that could not be made; the node goes on trying by itself."""

    def connection_lost(self, event: ConnectionEvent) -> Awaitable[None] | None:
        """React to a pipe that has ended."""

    def connection_idle(self, event: ConnectionEvent) -> Awaitable[None] | None:
        """React to a pipe that has carried no event for a while."""


HOOKS = {
    "connect": "connection_success",
    "connect-fail": "connection_fail",
    "disconnect": "connection_lost",
    "idle": "connection_idle",
}
"""The hook of each kind of event."""


def listens(hooks: ConnectionStateEvents) -> bool:
    """Tell whether any hook is overridden: if not, the stream need not be opened."""
    return any(
        getattr(type(hooks), name) is not getattr(ConnectionStateEvents, name)
        for name in HOOKS.values()
    )


def parse_time(text: str) -> datetime:
    """Read an RFC 3339 time; Python 3.10 knows neither `Z` nor most fractions."""
    whole, zone = (text[:-1], "+00:00") if text[-1:] in ("Z", "z") else (text[:-6], text[-6:])
    seconds, dot, fraction = whole.partition(".")
    if dot and not (fraction.isascii() and fraction.isdigit()):
        raise ValueError(f"{text!r} is no RFC 3339 time")
    micros = f".{fraction[:6].ljust(6, '0')}" if dot else ""
    time = datetime.fromisoformat(f"{seconds}{micros}{zone}")
    if time.tzinfo is None:
        raise ValueError(f"{text!r} is no RFC 3339 time: it has no zone")
    return time
