"""Real RestPipe nodes: found, started on free ports, and stopped."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LONG = 30.0
"""Seconds after which a node that should be there at once is given up."""

DRAIN = "2s"
"""What nodes get to finish calls: tests leave none open on purpose."""


def find_binary() -> Path | None:
    """Find the node: RESTPIPE_BIN, else what cargo built in this repository."""
    given = os.environ.get("RESTPIPE_BIN")
    if given:
        return Path(given) if Path(given).is_file() else None
    target = Path(__file__).resolve().parents[2] / "target"
    built = [target / kind / "restpipe" for kind in ("release", "debug")]
    found = [path for path in built if path.is_file()]
    return max(found, key=lambda path: path.stat().st_mtime, default=None)


def required() -> bool:
    words = os.environ.get("RESTPIPE_REQUIRE", "").replace(",", " ").split()
    return "all" in words or "python" in words


def environment() -> dict[str, str]:
    """Nothing of whoever runs the tests reaches a node."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("RESTPIPE_", "RP_", "BIND_")) and name != "DEBUG"
    }


@dataclass
class Process:
    """A process whose log lines can be waited for."""

    command: list[str]
    env: dict[str, str] = field(default_factory=environment)
    cwd: Path | None = None
    lines: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._queue: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self.process = subprocess.Popen(
            self.command,
            env=self.env,
            cwd=self.cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as output:
            for line in output:
                self.lines.append(line)
                self._queue.put(line)
        self._queue.put(None)

    def wait_for_line(self, word: str) -> str:
        """Wait for a log line that holds the word."""
        while (line := self._queue.get(timeout=LONG)) is not None:
            if word in line:
                return line
        raise AssertionError(f"{self.command} ended without {word!r}:\n{''.join(self.lines)}")

    def wait_for(self, word: str) -> dict[str, Any]:
        """Wait for a JSON log line that holds the word."""
        found: dict[str, Any] = json.loads(self.wait_for_line(word))
        return {**found, **found.get("fields", {})}

    def end(self, *, kill: bool = False) -> int:
        """Stop it, by SIGTERM unless it is to die; gives its exit code."""
        if self.process.poll() is None:
            self.process.kill() if kill else self.process.terminate()
        try:
            code = self.process.wait(LONG)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(LONG)
            raise
        self._reader.join(LONG)
        return code


@dataclass
class Identities:
    """A CA and node directories below one directory."""

    binary: Path
    root: Path

    def __post_init__(self) -> None:
        self._run("ca", "--dir", str(self.root / "ca"))

    def make(self, role: str, hostname: str) -> Path:
        out = self.root / hostname
        self._run(role, hostname, "--ca", str(self.root / "ca"), "--out", str(out))
        return out

    def _run(self, *args: str) -> None:
        command = [str(self.binary), "identity", *args]
        done = subprocess.run(
            command, env=environment(), capture_output=True, text=True, timeout=LONG, check=False
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"


@dataclass
class Node:
    """A running node."""

    process: Process
    gateway: str
    """Its gateway over TCP."""
    pipe: str
    """Where a server waits for pipes."""


def start_node(
    binary: Path, role: str, directory: Path, app: str | None, *more: str, socket: Path
) -> Node:
    command = [
        *(str(binary), role, "--dir", str(directory)),
        *("--gateway", f"127.0.0.1:0,unix:{socket}"),
        *("--admin", "off", "--statsd", "off", "--log-format", "json", "--drain", DRAIN),
        *(("--app", app) if app else ()),
        *more,
    ]
    process = Process(command)
    line = process.wait_for("is running")
    address = next(word for word in line["gateway"].split() if not word.startswith("unix:"))
    return Node(process, f"http://{address}", str(line["pipe"]).removeprefix("at "))
