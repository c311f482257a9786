"""`make monitor` where it cannot begin: one line that says what to do. That it watches is in test_live.py."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.cli import main
from cluster.commands.monitor import DRIVER, FIRST_LOOK, SETTINGS
from cluster.metrics.http import Page, serve
from tests.deploy.promql import declared, selectors
from tests.deploy.tools import need


@pytest.fixture
def driver() -> str:
    """host:port of something that answers as a driver does."""
    listed = [{"targets": ["127.0.0.1:1"], "labels": {"run": "abc", "role": "driver", "instance": "driver"}}]
    pages = {"/sd": lambda: Page(json.dumps(listed).encode(), "application/json")}
    return serve(pages, "127.0.0.1", 0)


@pytest.fixture
def taken() -> Iterator[int]:
    """A TCP port that somebody else has."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


def refused(capsys: pytest.CaptureFixture[str], *options: str) -> str:
    """The one line that is said; the exit code is 2."""
    assert main(["monitor", *options]) == 2
    said = capsys.readouterr()
    assert not said.out and said.err.startswith("error: ") and said.err.count("\n") == 1
    return said.err


def test_without_prometheus(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert "apt-get install prometheus" in refused(capsys)


def test_without_a_training(capsys: pytest.CaptureFixture[str]) -> None:
    need("prometheus")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    said = refused(capsys, "--target", f"127.0.0.1:{port}")
    assert f"no training answers on 127.0.0.1:{port}" in said and "make train-local" in said


def test_something_else_answers(capsys: pytest.CaptureFixture[str]) -> None:
    need("prometheus")
    address = serve({"/sd": lambda: Page(b"hello")}, "127.0.0.1", 0)
    assert "is no training" in refused(capsys, "--target", address)


@pytest.mark.parametrize("target", ["127.0.0.1", "here:now", ":9108"])
def test_a_target_that_is_no_address(target: str, capsys: pytest.CaptureFixture[str]) -> None:
    need("prometheus")
    assert "HOST:PORT" in refused(capsys, "--target", target)


def test_a_port_that_is_taken(driver: str, taken: int, capsys: pytest.CaptureFixture[str]) -> None:
    need("prometheus")
    said = refused(capsys, "--target", driver, "--port", str(taken))
    assert f"port {taken} is in use" in said and "--port" in said


def test_a_storage_that_cannot_be_written(driver: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    need("prometheus")
    (tmp_path / "file").touch()
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = str(probe.getsockname()[1])
    options = ("--target", driver, "--port", port, "--storage", str(tmp_path / "file" / "folder"))
    assert "--storage" in refused(capsys, *options)


def test_prometheus_says_why_it_does_not_start(driver: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A data folder of another one that runs, say; here: a file."""
    need("prometheus")
    (tmp_path / "data").touch()
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = str(probe.getsockname()[1])
    said = refused(capsys, "--target", driver, "--port", port, "--storage", str(tmp_path))
    assert "Prometheus did not start" in said and str(tmp_path / "prometheus.log") in said


def test_the_driver_is_where_the_configuration_says() -> None:
    assert f"http://{DRIVER}/sd" in (SETTINGS / "prometheus.yml").read_text()


def test_the_first_look_is_at_declared_metrics() -> None:
    for expr in FIRST_LOOK:
        assert all(declared(s.name) or s.name.startswith("run_role:") for s in selectors(expr))
