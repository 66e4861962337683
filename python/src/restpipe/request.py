"""An ASGI request, read as an event."""

from __future__ import annotations

import time
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qsl, quote, unquote_to_bytes

from .context import Context
from .errors import refused
from .events import parse_time
from .handler import VERBS
from .routes import Route, Routes

Scope = MutableMapping[str, Any]

_SAFE = "-._~/%"


@dataclass(frozen=True)
class Call:
    """An event and the method that answers it."""

    route: Route
    ctx: Context
    args: Sequence[str]
    query: Mapping[str, str]
    mime: str
    length: int | None


def parse(scope: Scope, routes: Routes, default_deadline_s: float) -> Call:
    """Read an event; raises RefusedError for one that no method can answer."""
    verb = str(scope["method"])
    headers = _headers(scope)
    if verb not in VERBS:
        message = f"the verb {verb} is none of {', '.join(VERBS)}"
        raise refused(405, message, "BadVerb")
    noun, args = _split(_raw_path(scope), headers.get("restpipe-noun"), routes)
    route = routes.find(verb, noun)
    pairs = _query(scope)
    deadline, left = _deadline(headers.get("restpipe-deadline"), default_deadline_s)
    own = ("restpipe-noun", "restpipe-from", "restpipe-deadline")
    ctx = Context(
        peer=headers.get("restpipe-from", ""),
        noun=noun,
        verb=verb,
        deadline=deadline,
        trace=headers.get("traceparent", ""),
        headers=MappingProxyType({k: v for k, v in headers.items() if k not in own}),
        query=tuple(pairs),
        expires=time.monotonic() + left,
    )
    query = dict(pairs)
    route.bind(args, query)
    length = headers.get("content-length", "")
    return Call(
        route=route,
        ctx=ctx,
        args=args,
        query=query,
        mime=headers.get("content-type", ""),
        length=int(length) if length.isascii() and length.isdigit() else None,
    )


def _headers(scope: Scope) -> dict[str, str]:
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _raw_path(scope: Scope) -> str:
    raw = scope.get("raw_path")
    # A server that keeps the path only decoded has lost the slashes inside
    # arguments; nothing here can bring them back.
    path = raw.decode("latin-1") if raw else quote(scope["path"], safe=_SAFE)
    root = quote(scope.get("root_path", ""), safe=_SAFE)
    if root and (path == root or path.startswith(f"{root}/")):
        path = path[len(root) :]
    return str(path)


def _split(path: str, header: str | None, routes: Routes) -> tuple[str, list[str]]:
    if header is None:
        # Straight from a person's curl, past any node.
        segments = [_decode(segment) for segment in path[1:].split("/")]
        noun = routes.longest(segments)
        if noun is None:
            return "/".join(segments), []
        return noun, segments[noun.count("/") + 1 :]
    rest = path.removeprefix(f"/{header}")
    if rest == path or (rest and not rest.startswith("/")):
        message = "RestPipe-Noun is not what the path begins with: let the node set it"
        raise refused(400, message, "BadNoun")
    noun = "/".join(_decode(segment) for segment in header.split("/"))
    return noun, [_decode(segment) for segment in rest[1:].split("/")] if rest else []


def _decode(segment: str) -> str:
    try:
        return unquote_to_bytes(segment).decode()
    except ValueError:
        message = "a segment of the path is not UTF-8 once it is decoded"
        raise refused(400, message, "BadPath") from None


def _query(scope: Scope) -> list[tuple[str, str]]:
    try:
        text = scope.get("query_string", b"").decode("ascii")
        return parse_qsl(text, keep_blank_values=True, errors="strict")
    except ValueError:
        message = "the query cannot be read: write name=value&name=value, percent-encoded UTF-8"
        raise refused(400, message, "BadQuery") from None


def _deadline(header: str | None, default_s: float) -> tuple[datetime, float]:
    now = datetime.now(timezone.utc)
    if header is None:
        return now + timedelta(seconds=default_s), default_s
    try:
        deadline = parse_time(header).astimezone(timezone.utc)
    except (ValueError, OverflowError):
        message = f"RestPipe-Deadline {header!r:.60} is no RFC 3339 time: let the node set it"
        raise refused(400, message, "BadDeadline") from None
    left = (deadline - now).total_seconds()
    if left <= 0:
        message = "the deadline was over before the handler began; it was not run"
        raise refused(504, message, "DeadlineExceededError")
    return deadline, left
