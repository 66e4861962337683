"""Plain HTTP to the local gateway, over TCP or a unix socket, by the standard library."""

from __future__ import annotations

import http.client
import io
import os
import socket
from collections.abc import Iterable, Mapping
from typing import BinaryIO
from urllib.parse import urlsplit

from .limits import DEFAULT_GATEWAY

Body = bytes | BinaryIO | Iterable[bytes]


class NotReachedError(OSError):
    """The gateway took no connection: nothing was sent."""


class Gateway:
    """Where a gateway is: `http://127.0.0.1:7070` or `unix:/path`."""

    def __init__(self, url: str | None = None) -> None:
        self.url = url or os.environ.get("RESTPIPE_URL") or DEFAULT_GATEWAY
        self._path = ""
        self._host, self._port = "localhost", 80
        if self.url.startswith("unix:"):
            self._path = self.url.removeprefix("unix:")
            good = self._path.startswith("/")
        else:
            parts = urlsplit(self.url)
            good = parts.scheme == "http" and parts.hostname is not None
            good = good and parts.path in ("", "/") and not parts.query
            self._host = parts.hostname or ""
            try:
                self._port = parts.port or 80
            except ValueError:
                good = False
        if not good:
            raise ValueError(
                f"the gateway's address {self.url!r} is none: give http://127.0.0.1:7070 or "
                "unix:/path, as an argument or in RESTPIPE_URL"
            )

    def open(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: Body | None,
        timeout: float,
    ) -> Stream:
        """Send a request and read the head of its answer.

        Raises NotReachedError if nothing was sent, else OSError or
        http.client.HTTPException.
        """
        connection = _Connection(self._host, self._port, self._path, timeout)
        try:
            try:
                connection.connect()
            except OSError as error:
                reason = error.strerror or str(error)
                raise NotReachedError(
                    f"no gateway at {self.url}: {reason}: start the node, or set RESTPIPE_URL"
                ) from error
            raw = connection.sock
            try:
                connection.request(method, path, body, {**headers, "connection": "close"})
            except (BrokenPipeError, ConnectionResetError):
                # It may have answered before it had the whole body.
                return Stream(connection.getresponse(), raw, connection)
            return Stream(connection.getresponse(), raw, connection)
        except BaseException:
            connection.close()
            raise


class Stream:
    """An answer whose head was read."""

    def __init__(
        self,
        response: http.client.HTTPResponse,
        raw: socket.socket,
        connection: http.client.HTTPConnection,
    ) -> None:
        self._connection = connection
        self.response = response
        self.socket = raw
        self.status = response.status

    def readline(self, limit: int) -> bytes:
        """Read a line, or what there is of it up to the limit."""
        return self.response.readline(limit)

    def read(self, size: int) -> bytes:
        """Read what is there, at least a byte; nothing at the end.

        Raises http.client.IncompleteRead if the end came too soon.
        """
        chunk = self.response.read1(size)
        missing = self.response.length
        if not chunk and missing:
            raise http.client.IncompleteRead(b"", missing)
        return chunk

    def close(self) -> None:
        """Read no more."""
        self.response.close()
        self._connection.close()


class _Connection(http.client.HTTPConnection):
    """A connection over TCP, or over the unix socket at `path`."""

    sock: socket.socket

    def __init__(self, host: str, port: int, path: str, timeout: float) -> None:
        super().__init__(host, port, timeout=timeout)
        self._unix_path = path
        self._seconds = timeout

    def connect(self) -> None:
        if not self._unix_path:
            super().connect()
            return
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            made.settimeout(self._seconds)
            made.connect(self._unix_path)
        except BaseException:
            made.close()
            raise
        self.sock = made


def check_body(body: object) -> None:
    """Refuse a body that http.client would send in an encoding that nobody chose."""
    if isinstance(body, io.TextIOBase):
        raise TypeError("the data is a file opened for text: open it with 'rb'")
