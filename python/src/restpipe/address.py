"""Where handlers are served: loopback or a unix socket, and nowhere else."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import stat
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from .errors import HandlerError
from .limits import BACKLOG

SOCKET_MODE = 0o600
"""Permissions of a unix socket: its owner's alone. A node under another user needs more."""


@dataclass(frozen=True)
class Address:
    """`http://127.0.0.1:8080` or `unix:/path`, as a node's `--app` has it."""

    host: str
    port: int
    path: str

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read an address; the `http://` may be left out."""
        if text.startswith("unix:"):
            path = text.removeprefix("unix:")
            if not path.startswith("/"):
                raise HandlerError(f"the address {text!r} has no absolute path: give unix:/path")
            return cls("", 0, path)
        parts = urlsplit(text if "://" in text else f"http://{text}")
        try:
            host, port = parts.hostname, parts.port
        except ValueError:
            host = port = None
        if parts.scheme != "http" or not host or port is None or parts.path not in ("", "/"):
            raise HandlerError(
                f"the address {text!r} is none: give http://127.0.0.1:8080 or unix:/path"
            )
        if host != "localhost" and not _is_loopback(host):
            raise HandlerError(
                f"the address {text!r} is not loopback, so that whoever reaches it could claim to "
                "be any peer: give 127.0.0.1, [::1] or unix:/path"
            )
        return cls("127.0.0.1" if host == "localhost" else host, port, "")

    def bind(self, mode: int) -> socket.socket:
        """Bind, without listening yet: until then a node's connections are refused."""
        try:
            return self._bind_unix(mode) if self.path else self._bind_tcp()
        except OSError as error:
            cure = "choose another address"
            if error.errno == errno.EADDRINUSE:
                cure = "stop what listens there, or choose another address"
            reason = error.strerror or str(error)
            raise HandlerError(f"cannot listen on {self}: {reason}: {cure}") from error

    def _bind_tcp(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        made = socket.socket(family, socket.SOCK_STREAM)
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind((self.host, self.port))
        except BaseException:
            made.close()
            raise
        return made

    def _bind_unix(self, mode: int) -> socket.socket:
        _remove_stale(self.path)
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # Made for the owner alone, and opened further only after: nobody
        # slips in between.
        mask = os.umask(0o177)
        try:
            made.bind(self.path)
        except BaseException:
            made.close()
            raise
        finally:
            os.umask(mask)
        Path(self.path).chmod(mode)
        return made

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"http://[{self.host}]:{self.port}" if ":" in self.host else self._tcp()

    def _tcp(self) -> str:
        return f"http://{self.host}:{self.port}"


def bound(made: socket.socket) -> Address:
    """Tell where a socket was bound, with the port that the system chose."""
    name = made.getsockname()
    return Address("", 0, name) if isinstance(name, str) else Address(name[0], name[1], "")


def remove(made: socket.socket, path: str, inode: int) -> None:
    """Remove a unix socket's file unless somebody else's has taken its place."""
    made.close()
    try:
        if os.stat(path).st_ino == inode:  # noqa: PTH116 - the inode is what matters
            Path(path).unlink()
    except OSError:
        return


def _remove_stale(path: str) -> None:
    try:
        found = os.lstat(path)
    except OSError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise OSError(errno.EEXIST, "a file that is no socket is there")
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    probe.settimeout(1.0)  # seconds; a socket on this machine answers at once or is full
    try:
        probe.connect(path)
    except ConnectionRefusedError:
        Path(path).unlink()
    except OSError:
        raise OSError(errno.EADDRINUSE, "its listener does not answer") from None
    else:
        raise OSError(errno.EADDRINUSE, "something listens there")
    finally:
        probe.close()


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


__all__ = ["BACKLOG", "SOCKET_MODE", "Address", "bound", "remove"]
