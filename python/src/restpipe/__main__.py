"""`python -m restpipe module:Class`: serve a handler for a node's `--app`."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .address import SOCKET_MODE
from .errors import HandlerError
from .events import ConnectionStateEvents
from .limits import DEFAULT_ADDRESS, Settings
from .logs import PrintLog, configure

HANDLER_NAME = "RP_EVENT_HANDLER_FQ_CLASS"
EVENTS_NAMES = (
    "RP_CLIENT_CONNECTION_STATE_CHANGE_EVENT_CLASS",
    "RP_SERVER_CONNECTION_STATE_CHANGE_EVENT_CLASS",
)
GONE_NAMES = ("RP_CLIENT_USER_CONFIG_MODULE", "RP_SERVER_USER_CONFIG_MODULE")

_log = logging.getLogger("restpipe")
_TRUE = ("1", "true", "yes", "on")
_FALSE = ("", "0", "false", "no", "off")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; gives its exit code: 2 for a wrong command line, 1 for a failed start."""
    parser = _parser()
    options = parser.parse_args(argv)
    try:
        configure(options.log_format, _level(options.log))
        handler_name = options.handler or os.environ.get(HANDLER_NAME, "")
        if not handler_name:
            raise HandlerError(f"no handler is named: give module:Class, or set {HANDLER_NAME}")
        settings = Settings(
            threads=options.threads,
            max_events=options.max_events,
            max_body_bytes=options.max_body,
            drain_s=options.drain,
            tracebacks=_switch("RESTPIPE_TRACEBACKS", options.tracebacks),
        )
        for name in GONE_NAMES:
            if os.environ.get(name):
                _log.warning("%s is not read any more: move its values to node.toml", name)
    except (HandlerError, ValueError) as error:
        parser.error(str(error))
    # Before the handler's module is loaded: it may print, too.
    with contextlib.redirect_stdout(PrintLog(sys.stdout)):
        try:
            from .server import Server  # noqa: PLC0415 - uvicorn is slow to load, and not for --help

            server = Server(
                _make(handler_name),
                options.listen,
                settings=settings,
                gateway=options.gateway,
                listeners=_listeners(options.connection_events),
                socket_mode=options.socket_mode,
            )
        except ModuleNotFoundError as error:
            # A handler's own missing modules are told by _make.
            _log.error("serving needs %s: pip install 'restpipe[serve]'", error.name)
            return 1
        except (HandlerError, ValueError) as error:
            _log.error("%s", error)
            return 1
        return server.run()


def _parser() -> argparse.ArgumentParser:
    defaults = {field.name: field.default for field in dataclasses.fields(Settings)}
    parser = argparse.ArgumentParser(
        prog="python -m restpipe",
        description="Serve the methods of an event handler for a RestPipe node's --app.",
    )
    add = parser.add_argument
    add("handler", nargs="?", help=f"module:Class, or package.module.Class; else ${HANDLER_NAME}")
    add(
        "--listen",
        metavar="ADDRESS",
        default=os.environ.get("RESTPIPE_APP") or DEFAULT_ADDRESS,
        help="http://127.0.0.1:PORT or unix:/path, what the node has as --app; else $RESTPIPE_APP, "
        f"else {DEFAULT_ADDRESS}; port 0 lets the system choose",
    )
    add(
        "--gateway",
        metavar="ADDRESS",
        help="where connection events come from; else $RESTPIPE_URL, else its usual place",
    )
    add(
        "--connection-events",
        metavar="module:Class",
        action="append",
        default=[],
        help=f"a ConnectionStateEvents to call as well; else ${EVENTS_NAMES[0]} and the like",
    )
    add(
        "--socket-mode",
        metavar="OCTAL",
        type=lambda text: int(text, 8),
        default=SOCKET_MODE,
        help=f"permissions of a unix socket, {SOCKET_MODE:o} if not given; 660 for a node of the "
        "same group",
    )
    for flag, name, text in (
        ("--threads", "threads", "threads for methods that are not async"),
        ("--max-events", "max_events", "events in work at once; more get 503"),
        ("--max-body", "max_body_bytes", "bytes of a body handed over whole; larger ones get 413"),
        ("--drain", "drain_s", "seconds that events may go on after SIGTERM"),
    ):
        default = defaults[name]
        add(flag, metavar="NUMBER", type=int, default=default, help=f"{text} (default {default})")
    add(
        "--tracebacks",
        action="store_true",
        help="send tracebacks of failed handlers over the pipe; else $RESTPIPE_TRACEBACKS",
    )
    add(
        "--log",
        metavar="LEVEL",
        help="debug, info, warning or error; else $RESTPIPE_LOG, else info",
    )
    add(
        "--log-format",
        choices=("auto", "text", "json"),
        default=_choice(os.environ.get("RESTPIPE_LOG_FORMAT", "")),
        help="auto, the default, is text on a terminal and else JSON; else $RESTPIPE_LOG_FORMAT",
    )
    return parser


def _choice(text: str) -> str:
    return text if text in ("text", "json") else "auto"


def _level(given: str | None) -> int:
    levels = {
        "trace": logging.DEBUG,
        "debug": logging.DEBUG,
        "info": logging.INFO,
        "warn": logging.WARNING,
        "warning": logging.WARNING,
        "error": logging.ERROR,
    }
    if given is not None:
        if given.lower() not in levels:
            raise HandlerError(f"--log {given!r} is no level: give debug, info, warning or error")
        return levels[given.lower()]
    # The node's filter may be longer than a level; its first word is one, mostly.
    word = os.environ.get("RESTPIPE_LOG", "").partition(",")[0].lower()
    if word in levels:
        return levels[word]
    return logging.DEBUG if os.environ.get("DEBUG") == "1" else logging.INFO


def _switch(name: str, given: bool) -> bool:
    text = os.environ.get(name, "").lower()
    if text not in _TRUE + _FALSE:
        raise HandlerError(f"{name} is {text!r:.60}: give true or false")
    return given or text in _TRUE


def _listeners(given: list[str]) -> list[ConnectionStateEvents]:
    names = given or [os.environ[name] for name in EVENTS_NAMES if os.environ.get(name)]
    made = []
    for name in names:
        listener = _make(name)
        if not isinstance(listener, ConnectionStateEvents):
            raise HandlerError(
                f"{name} is no restpipe.ConnectionStateEvents: let it inherit from that"
            )
        made.append(listener)
    return made


def _make(name: str) -> Any:
    """Load `module:Class` and make one; says in a sentence what keeps it from that."""
    module_name, colon, class_name = name.partition(":")
    if not colon:
        module_name, _, class_name = name.rpartition(".")
    if not module_name or not class_name:
        raise HandlerError(f"{name!r} names no class: write module:Class")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        made: Any = importlib.import_module(module_name)
        for part in class_name.split("."):
            made = getattr(made, part)
    except ModuleNotFoundError as error:
        raise HandlerError(
            f"cannot load {name}: there is no module {error.name}: start in its directory, or set "
            "PYTHONPATH"
        ) from error
    except AttributeError as error:
        raise HandlerError(f"cannot load {name}: {error}") from error
    except (Exception, SystemExit) as error:
        _log.exception("%s failed while it was loaded", module_name)
        raise HandlerError(f"cannot load {name}: {type(error).__name__}: {error}") from error
    if not isinstance(made, type):
        return made
    try:
        return made()
    except (Exception, SystemExit) as error:
        _log.exception("%s failed while it was made", name)
        raise HandlerError(f"cannot make {name}(): {type(error).__name__}: {error}") from error


if __name__ == "__main__":
    sys.exit(main())
