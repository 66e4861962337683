"""The original's use case: a web server reads files of a machine that nobody can connect to.

FILES=/srv/files python -m restpipe files:Files
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import restpipe

_log = logging.getLogger(__name__)

CHUNK_BYTES = 64 * 1024
"""Bytes that are read and sent at once."""


class Files(restpipe.ClientEventHandler):
    """Reads and writes the files below one directory."""

    def __init__(self) -> None:
        self.root = Path(os.environ.get("FILES", ".")).resolve()

    def start_hook(self) -> None:
        if not self.root.is_dir():
            raise NotADirectoryError(f"FILES={self.root} is no directory: create it")

    def connection_success(self, event: restpipe.ConnectionEvent) -> None:
        _log.info("the pipe to %s is up", event.peer)

    def get_file(
        self, ctx: restpipe.Context, post_data: restpipe.PostData, *path: str
    ) -> tuple[str, int, Iterator[bytes] | dict[str, str]]:
        """GET file//reports/2024.csv: streamed, however large it is."""
        found = self._below(path)
        if not found.is_file():
            return "application/json", 404, {"missing": "/".join(path)}
        return "application/octet-stream", 0, _chunks(found.open("rb"))

    @restpipe.streamed
    def put_file(
        self, ctx: restpipe.Context, post_data: restpipe.StreamedPostData, *path: str
    ) -> dict[str, int]:
        """PUT file//reports/2024.csv: written as it arrives, and there only once it is whole."""
        target = self._below(path)
        part = target.with_name(f".{target.name}.{ctx.trace_id or os.getpid()}.part")
        try:
            with part.open("wb") as file:
                size = sum(file.write(chunk) for chunk in post_data.data)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
        return {"bytes": size}

    def _below(self, path: tuple[str, ...]) -> Path:
        found = self.root.joinpath(*path).resolve()
        if not path or not found.is_relative_to(self.root):
            raise PermissionError("only files below the directory are served")
        return found


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    with file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk
