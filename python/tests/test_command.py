"""`python -m restpipe`: what it serves, prints, and says when it cannot start."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from nodes import LONG, Process, environment
from restpipe.gateway import Gateway, NotReachedError

HANDLERS = """
import os, pathlib, sys, threading, time
import restpipe

print("printed while it is loaded")

class Own(restpipe.EventHandler):
    def start_hook(self):
        print("start")

    def get_x(self, ctx, post_data):
        print("two\\nlines", end="")
        print()
        os.write(1, b"")
        return {"pid": os.getpid()}

    def get_slow(self, ctx, post_data, path):
        with open(path, "w"):
            pass  # a fifo: its reader knows that the event runs
        with open(path) as fifo:
            return fifo.read()

    def get_hang(self, ctx, post_data, path):
        with open(path, "w"):
            pass
        threading.Event().wait()

    def get_quit(self, ctx, post_data):
        quit()

    def stop_hook(self):
        print("stop")

class Clash(restpipe.EventHandler):
    def get_a(self, ctx, post_data): ...

    @restpipe.noun("a")
    def get_b(self, ctx, post_data): ...

class Events(restpipe.ConnectionStateEvents):
    pass

class Raises(Own):
    def __init__(self):
        raise RuntimeError("no config")

class BadStart(Own):
    def start_hook(self):
        sys.exit("not today")

ready_made = Own()
"""


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "handlers.py").write_text(HANDLERS)
    (tmp_path / "broken.py").write_text("1/0")
    (tmp_path / "needs.py").write_text("import not_there_at_all")
    return tmp_path


@pytest.fixture
def start(here: Path) -> Iterator[Any]:
    made: list[Process] = []

    def run(*args: str, **env: str) -> Process:
        command = [sys.executable, "-m", "restpipe", "--log-format", "json", *args]
        process = Process(command, {**environment(), **env}, here)
        made.append(process)
        return process

    yield run
    for process in made:
        process.end(kill=True)


def get(address: str, path: str) -> tuple[int, bytes]:
    stream = Gateway(address).open("GET", path, {}, None, LONG)
    try:
        return stream.status, b"".join(iter(lambda: stream.read(4096), b""))
    finally:
        stream.close()


def fifo(path: Path) -> Path:
    os.mkfifo(path)
    return path


def quoted(path: Path) -> str:
    return str(path).replace("/", "%2F")


def test_it_serves_logs_what_is_printed_and_ends_with_zero(start: Any) -> None:
    process = start("handlers:Own", "--listen", "127.0.0.1:0")
    app = process.wait_for("serving events")["app"]
    assert get(app, "/x")[0] == 200
    assert get(app, "/quit")[0] == 500
    assert get(app, "/x")[0] == 200
    assert process.end() == 0
    log = "".join(process.lines)
    for said in ("printed while it is loaded", "start", "two", "lines", "stop"):
        assert f'"printed: {said}"' in log
    assert '"by": "get_x"' in log
    assert "get_quit called for sys.exit(None)" in log
    assert '"stopped"' in log


def test_the_originals_environment_names_the_handler(start: Any, here: Path) -> None:
    process = start(
        RP_EVENT_HANDLER_FQ_CLASS="handlers.Own",
        RP_CLIENT_USER_CONFIG_MODULE="settings",
        RP_CLIENT_CONNECTION_STATE_CHANGE_EVENT_CLASS="handlers.Events",
        RESTPIPE_APP=f"unix:{here}/app.sock",
    )
    app = process.wait_for("serving events")["app"]
    assert app == f"unix:{here}/app.sock"
    assert get(app, "/x")[0] == 200
    assert process.end() == 0
    assert "RP_CLIENT_USER_CONFIG_MODULE is not read any more" in "".join(process.lines)
    assert not (here / "app.sock").exists()


def test_an_object_may_be_named_in_place_of_a_class(start: Any) -> None:
    process = start("handlers:ready_made", "--listen", "127.0.0.1:0")
    assert get(process.wait_for("serving events")["app"], "/x")[0] == 200


def test_events_in_work_end_before_it_does(start: Any, here: Path) -> None:
    process = start("handlers:Own", "--listen", "127.0.0.1:0")
    app = process.wait_for("serving events")["app"]
    path = fifo(here / "fifo")
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(get, app, f"/slow/{quoted(path)}")
        path.read_text()
        process.process.terminate()
        path.write_text("done")
        assert answer.result(LONG) == (200, b'"done"')
    assert process.end() == 0
    with pytest.raises(NotReachedError):
        get(app, "/x")


def test_a_handler_that_hangs_does_not_keep_it_from_ending(start: Any, here: Path) -> None:
    process = start("handlers:Own", "--listen", "127.0.0.1:0", "--drain", "1")
    app = process.wait_for("serving events")["app"]
    path = fifo(here / "fifo")
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(get, app, f"/hang/{quoted(path)}")
        path.read_text()
        assert process.end() == 0
        assert answer.exception(LONG) is not None or answer.result()[0] >= 500
    assert "cut off: the app is stopping" in "".join(process.lines)


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        ([], 2, "no handler is named: give module:Class, or set RP_EVENT_HANDLER_FQ_CLASS"),
        (["Own"], 1, "'Own' names no class: write module:Class"),
        (["nowhere:Own"], 1, "there is no module nowhere: start in its directory"),
        (["needs:Own"], 1, "there is no module not_there_at_all"),
        (["broken:Own"], 1, "cannot load broken:Own: ZeroDivisionError: division by zero"),
        (["handlers:Nothing"], 1, "has no attribute 'Nothing'"),
        (["handlers:Raises"], 1, "cannot make handlers:Raises(): RuntimeError: no config"),
        (["handlers:Events"], 1, "Events is no restpipe.EventHandler: let it inherit"),
        (["handlers:Clash"], 1, "Clash.get_a and Clash.get_b both answer GET a"),
        (["handlers:BadStart"], 1, "BadStart.start_hook raised SystemExit: not today"),
        (["handlers:Own", "--listen", "0.0.0.0:1"], 1, "is not loopback"),
        (["handlers:Own", "--gateway", "nonsense"], 1, "the gateway's address 'nonsense' is none"),
        (["handlers:Own", "--connection-events", "handlers:ready"], 1, "no attribute 'ready'"),
        (["handlers:Own", "--threads", "0"], 2, "threads is 0: give a number from 1 up"),
        (["handlers:Own", "--log", "loud"], 2, "--log 'loud' is no level"),
    ],
)
def test_what_keeps_it_from_starting_is_said_in_a_line(
    start: Any, args: list[str], code: int, said: str
) -> None:
    process = start(*args, *([] if "--listen" in args else ["--listen", "127.0.0.1:0"]))
    assert process.process.wait(LONG) == code
    process.end()
    assert said in "".join(process.lines)


def test_a_port_in_use_is_said(start: Any) -> None:
    process = start("handlers:Own", "--listen", "127.0.0.1:0")
    app = process.wait_for("serving events")["app"]
    second = start("handlers:Own", "--listen", app)
    assert second.process.wait(LONG) == 1
    second.end()
    assert f"cannot listen on {app}: Address already in use: stop what" in "".join(second.lines)


def test_text_logs_are_one_line_each_and_cannot_be_forged(here: Path) -> None:
    process = Process(
        [
            *(sys.executable, "-m", "restpipe", "handlers:Own", "--listen", "127.0.0.1:0"),
            *("--log-format", "text", "--log", "debug"),
        ],
        environment(),
        here,
    )
    app = process.wait_for_line("serving events").split("app=")[1].strip()
    get(app, "/x%0AERROR%20forged")
    process.end()
    assert any('path="/x\\nERROR forged"' in line for line in process.lines)
    assert not any(line.startswith("ERROR forged") for line in process.lines)


def test_calling_and_raising_need_no_server_library(here: Path) -> None:
    program = (
        "import sys; sys.modules['uvicorn'] = None\n"
        "import restpipe\n"
        "restpipe.Pipe(); restpipe.raise_for_exception; restpipe.asgi_app\n"
        "from restpipe.__main__ import main\n"
        "sys.exit(main(['handlers:Own']))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=here,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=LONG,
        check=False,
    )
    assert done.returncode == 1
    assert "pip install 'restpipe[serve]'" in done.stderr


def test_help_names_every_setting(here: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "restpipe", "--help"],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=LONG,
        check=True,
    )
    for word in ("--listen", "--threads", "--tracebacks", "--drain", "RESTPIPE_APP", "RP_EVENT"):
        assert word in done.stdout
