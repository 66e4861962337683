"""Which method answers which event: settled at start, looked up by verb and exact noun."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .errors import CODE_NO_HANDLER, HandlerError, RefusedError, refused
from .handler import NOUNS_MARK, STREAMED_MARK, VERBS, EventHandler, check_noun

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_GIVEN = 2  # every method gets ctx and post_data


@dataclass(frozen=True)
class Route:
    """A method and the event that it answers."""

    verb: str
    noun: str
    name: str
    method: Callable[..., Any] = field(repr=False)
    signature: inspect.Signature = field(repr=False)
    is_async: bool
    streamed: bool

    def bind(self, args: Sequence[str], query: Mapping[str, str]) -> None:
        """Refuse arguments that the method does not take, before anything runs."""
        try:
            self.signature.bind(None, None, *args, **query)
        except TypeError as error:
            own = [str(p) for p in list(self.signature.parameters.values())[_GIVEN:]]
            takes = f"takes ({', '.join(own)})" if own else "takes no arguments"
            message = f"{self.name} {takes}, but got {len(args)} in the path"
            if query:
                message += f" and {', '.join(sorted(query))} in the query"
            raise refused(400, f"{message}: {error}", "BadArguments") from None


class Routes:
    """All methods of one handler."""

    def __init__(self, handler: EventHandler) -> None:
        self.handler = handler
        self._routes: dict[tuple[str, str], Route] = {}
        for name in dir(type(handler)):
            if not name.startswith("_"):
                self._add_method(name)
        if not self._routes:
            raise HandlerError(
                f"{type(handler).__qualname__} answers nothing: "
                "write a method such as get_time(self, ctx, post_data)"
            )

    def find(self, verb: str, noun: str) -> Route:
        """Find the method for an event; raises a refusal that says what there is instead."""
        route = self._routes.get((verb, noun))
        if route is None and verb == "HEAD":
            route = self._routes.get(("GET", noun))
        if route is None:
            raise self._unknown(verb, noun)
        return route

    def longest(self, segments: Sequence[str]) -> str | None:
        """Find the longest noun that a path begins with, for events that came past any node."""
        nouns = {noun for _, noun in self._routes}
        for count in range(len(segments), 0, -1):
            noun = "/".join(segments[:count])
            if noun in nouns:
                return noun
        return None

    def __iter__(self) -> Any:
        return iter(self._routes.values())

    def _add_method(self, name: str) -> None:
        prefix, _, rest = name.partition("_")
        prefix_verb = prefix.upper() if rest and prefix.upper() in VERBS else None
        # Looked at without being run: a property may do anything.
        static = inspect.getattr_static(type(self.handler), name)
        inner = static.__func__ if isinstance(static, staticmethod | classmethod) else static
        if not callable(inner) or isinstance(inner, type):
            return
        marks = getattr(inner, NOUNS_MARK, None)
        if marks is None and (prefix_verb is None or prefix != prefix.lower()):
            return
        owner = type(self.handler).__qualname__
        if marks is None:
            segments = rest.split("_")
            if not all(segments):
                raise HandlerError(
                    f"{owner}.{name} makes a noun with an empty segment: each underscore is a "
                    "slash; name the noun with @restpipe.noun('...')"
                )
            marks = ((prefix_verb, "/".join(segments)),)
        for verb, noun in marks:
            if (verb or prefix_verb) is None:
                raise HandlerError(
                    f"{owner}.{name} has a noun but no verb: begin its name with get_, post_, ..., "
                    f"or write @restpipe.noun({noun!r}, verb='GET')"
                )
            self._add(name, str(verb or prefix_verb), noun, inner)

    def _add(self, name: str, verb: str, noun: str, inner: Any) -> None:
        check_noun(noun)
        owner = type(self.handler).__qualname__
        method = getattr(self.handler, name)
        signature = inspect.signature(method)
        kinds = [parameter.kind for parameter in signature.parameters.values()]
        positional = sum(kind in _POSITIONAL for kind in kinds)
        if positional < _GIVEN and inspect.Parameter.VAR_POSITIONAL not in kinds:
            raise HandlerError(
                f"{owner}.{name} cannot answer events: it takes no (ctx, post_data); "
                f"add them, or rename it to _{name} if it is no handler"
            )
        clash = self._routes.get((verb, noun))
        if clash is not None:
            raise HandlerError(
                f"{owner}.{clash.name} and {owner}.{name} both answer {verb} {noun}: "
                "give one of them another noun with @restpipe.noun('...')"
            )
        self._routes[verb, noun] = Route(
            verb=verb,
            noun=noun,
            name=name,
            method=method,
            signature=signature,
            is_async=inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method),
            streamed=bool(getattr(inner, STREAMED_MARK, False)),
        )

    def _unknown(self, verb: str, noun: str) -> RefusedError:
        verbs = sorted({known for known, name in self._routes if name == noun})
        derived = f"{verb.lower()}_{noun.replace('/', '_')}"
        twin = self._routes.get((verb, noun.replace("_", "/")))
        if verbs:
            message = f"the noun {noun} has no handler for {verb}, only for {', '.join(verbs)}"
        elif twin is not None:
            message = (
                f"no handler for {verb} {noun}: {twin.name} answers {twin.noun}; ask for that, "
                f"or mark a method with @restpipe.noun({noun!r})"
            )
        elif derived.isidentifier() and "_" not in noun:
            message = f"no handler for {verb} {noun}: there is no method {derived}"
        else:
            message = f"no handler for {verb} {noun}: no method has @restpipe.noun({noun!r})"
        return refused(404, message, "NoHandler", code=CODE_NO_HANDLER)
