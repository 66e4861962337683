"""Event handlers, errors and a tiny client for RestPipe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .asgi import asgi_app
from .context import BodyStream, Context, PostData, StreamedPostData
from .errors import BadBodyError, HandlerError, WrongAnswerError
from .events import ConnectionEvent, ConnectionStateEvents
from .handler import ClientEventHandler, EventHandler, ServerEventHandler, noun, streamed
from .limits import Settings
from .pipe import Pipe, Reply, Target
from .response import PipeFailError, raise_for_exception

if TYPE_CHECKING:
    from .server import Server, serve

__all__ = [
    "BadBodyError",
    "BodyStream",
    "ClientEventHandler",
    "ConnectionEvent",
    "ConnectionStateEvents",
    "Context",
    "EventHandler",
    "HandlerError",
    "Pipe",
    "PipeFailError",
    "PostData",
    "Reply",
    "Server",
    "ServerEventHandler",
    "Settings",
    "StreamedPostData",
    "Target",
    "WrongAnswerError",
    "asgi_app",
    "noun",
    "raise_for_exception",
    "serve",
    "streamed",
]


def __getattr__(name: str) -> Any:
    # Serving rests on uvicorn; raising and calling must work without it.
    if name in ("Server", "serve"):
        from . import server  # noqa: PLC0415

        return getattr(server, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
