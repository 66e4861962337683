"""The examples and the README say what is true."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import yaml

import restpipe
from conftest import Serve
from restpipe import __main__ as command
from restpipe.routes import Routes

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.fixture
def examples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "examples"))


@pytest.mark.usefixtures("examples")
def test_the_originals_events_are_answered(serve: Serve) -> None:
    import time_and_cat

    for handler, side in ((time_and_cat.Server, "server"), (time_and_cat.Client, "client")):
        app = serve(handler)
        assert isinstance(app.ask("/time").json()[f"time_from_{side}"], float)
        got = app.ask("/cat/hello%20/world").json()
        assert got == {f"result_from_{side}": "hello world"}


@pytest.mark.usefixtures("examples")
def test_files_are_read_and_written_below_their_directory_only(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import files

    root = tmp_path / "served"
    root.mkdir()
    (tmp_path / "secret").write_text("not yours")
    monkeypatch.setenv("FILES", str(root))
    app = serve(files.Files)
    big = bytes(range(256)) * 10_000
    assert app.ask("/file/a.bin", verb="PUT", body=iter([big])).json() == {"bytes": len(big)}
    assert app.ask("/file/a.bin").body == big
    assert app.ask("/file/none").status == 404
    assert app.ask("/file/..%2Fsecret").exception["class"] == "PermissionError"
    assert [path.name for path in root.iterdir()] == ["a.bin"]


@pytest.mark.parametrize("source", PYTHON, ids=lambda source: source.strip().split("\n")[0][:40])
def test_every_handler_in_the_readme_can_be_served(source: str) -> None:
    module = types.ModuleType("readme")
    code = compile(source, "README.md", "exec")
    if "class " not in source:
        return
    sys.modules["readme"] = module
    exec(code, module.__dict__)
    handlers: list[Any] = [
        made
        for made in vars(module).values()
        if isinstance(made, type)
        and issubclass(made, restpipe.EventHandler)
        and made.__module__ == "readme"
    ]
    assert handlers
    for handler in handlers:
        assert list(Routes(handler()))
    del sys.modules["readme"]


def test_the_readme_names_every_export_every_flag_and_every_old_name() -> None:
    flags = {
        option
        for action in command._parser()._actions
        for option in action.option_strings
        if option.startswith("--") and option != "--help"
    }
    old = {command.HANDLER_NAME, *command.EVENTS_NAMES, *command.GONE_NAMES}
    missing = [
        word
        for word in sorted(flags | old | set(restpipe.__all__))
        if not re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", README)
    ]
    assert missing == []


def test_the_manifest_carries_what_the_webhook_looks_for() -> None:
    deployment, link = yaml.safe_load_all((ROOT / "examples" / "kubernetes.yaml").read_text())
    template = deployment["spec"]["template"]
    annotations = template["metadata"]["annotations"]
    (container,) = template["spec"]["containers"]
    assert annotations["restpipe.io/link"] == link["metadata"]["name"]
    assert link["metadata"]["namespace"] == deployment["metadata"]["namespace"]
    assert container["args"][-1].endswith(f":{annotations['restpipe.io/app-port']}")
    grace = template["spec"]["terminationGracePeriodSeconds"]
    assert grace > restpipe.Settings().drain_s
    assert (ROOT / "examples" / "kubernetes.yaml").read_text() in README.replace("```yaml\n", "")
