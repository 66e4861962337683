"""Log lines: text for people, JSON for programs; and what handlers print becomes some."""

from __future__ import annotations

import io
import json
import logging
import sys
import threading
import time
from typing import Any, TextIO

from .limits import MAX_PRINT_CHARS
from .run import RUNNING

_log = logging.getLogger("restpipe")


class _Formatter(logging.Formatter):
    def __init__(self, as_json: bool) -> None:
        super().__init__()
        self._as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        at = f"{at}.{int(record.msecs):03d}Z"
        fields: dict[str, Any] = dict(getattr(record, "fields", {}))
        traceback = fields.pop("traceback", "")
        if record.exc_info and not traceback:
            traceback = self.formatException(record.exc_info)
        message = record.getMessage()
        if self._as_json:
            line = {"timestamp": at, "level": record.levelname, "target": record.name}
            # What a field is called must not take the place of the line's own text.
            own = {"error" if name == "message" else name: value for name, value in fields.items()}
            line.update(message=message, **own)
            if traceback:
                line["traceback"] = traceback
            return json.dumps(line, default=str)
        words = "".join(f" {name}={_word(value)}" for name, value in fields.items())
        text = f"{at} {record.levelname:>7} {record.name}: {_one_line(message)}{words}"
        return f"{text}\n{traceback.rstrip()}" if traceback else text


def _word(value: Any) -> str:
    text = str(value)
    plain = text and all(char.isalnum() or char in "_-./:%" for char in text)
    return text if plain else json.dumps(text, ensure_ascii=False)


def _one_line(text: str) -> str:
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def configure(form: str, level: int) -> None:
    """Log to standard error; the handler's own loggers, too, unless they are set up already."""
    as_json = form == "json" or (form == "auto" and not sys.stderr.isatty())
    root = logging.getLogger()
    if not root.handlers:
        output = logging.StreamHandler(sys.stderr)
        output.setFormatter(_Formatter(as_json))
        root.addHandler(output)
        root.setLevel(level)
    _log.setLevel(level)
    logging.getLogger("uvicorn.error").setLevel(max(level, logging.WARNING))


class PrintLog(io.TextIOBase):
    """Stands in for standard output: each line printed becomes a line of the log."""

    def __init__(self, behind: TextIO) -> None:
        self._behind = behind
        self._local = threading.local()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The encoding of the standard output behind."""
        return self._behind.encoding

    @property
    def buffer(self) -> Any:
        """The standard output behind, for bytes."""
        return self._behind.buffer

    def fileno(self) -> int:
        """Give the standard output behind, for child processes."""
        return self._behind.fileno()

    def writable(self) -> bool:
        """Say that it can be written to."""
        return True

    def write(self, text: str) -> int:
        """Take text and log the lines that are whole, or too long to wait for more."""
        held = getattr(self._local, "held", "") + text
        *lines, held = held.split("\n")
        while len(held) > MAX_PRINT_CHARS:
            lines.append(held[:MAX_PRINT_CHARS])
            held = held[MAX_PRINT_CHARS:]
        self._local.held = held
        for line in lines:
            for at in range(0, len(line), MAX_PRINT_CHARS):
                _log.info(
                    "printed: %s",
                    line[at : at + MAX_PRINT_CHARS],
                    extra={"fields": {"by": RUNNING.get()} if RUNNING.get() else {}},
                )
        return len(text)
