"""`play` and `export --web` on the command line: what is wrong is one line, and a signal ends it in order."""

from __future__ import annotations

import signal
import socket
import threading
import urllib.request
from pathlib import Path

import pytest

from cluster.commands.options import SHIPPED, PlayOptions, parse
from cluster.play import folder
from replay.ports import free_port
from tests.cluster.play.conftest import Shipped
from tests.cluster.test_cli import refused
from tests.cluster.tiny import ROOT, finish, start

pytestmark = pytest.mark.usefixtures("signals_as_before")


def test_without_a_run_it_is_the_agent_that_comes_with_the_code() -> None:
    options = parse(PlayOptions, [], command="play")
    assert options.run == SHIPPED == ROOT / "deploy" / "agents" / "breakout-cpu"
    assert (options.host, options.port, options.token) == ("127.0.0.1", 8080, None)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--host", "0.0.0.0"], "can be reached by others: add --token"),
        (["--host", "0.0.0.0", "--token", "short"], "at least 12 letters"),
        (["--port", "0"], "--port must be"),
        (["no/such/run"], "no/such/run"),
        (["--prot", "80"], "did you mean --port"),
    ],
)
def test_a_wrong_request_is_one_line(capsys: pytest.CaptureFixture[str], arguments: list[str], words: str) -> None:
    assert words in refused(capsys, "play", *arguments)


def test_a_run_without_a_checkpoint_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_bytes((SHIPPED / "config.json").read_bytes())
    (tmp_path / "run" / "run_id").write_bytes((SHIPPED / "run_id").read_bytes())
    for arguments in (["play"], ["export", "--web", str(tmp_path / "page")]):
        name, *rest = arguments
        assert "has no checkpoint yet" in refused(capsys, name, str(tmp_path / "run"), *rest)
    assert not (tmp_path / "page").exists()


def test_a_port_in_use_is_refused_before_anything_is_played(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"port {port} is in use" in refused(capsys, "play", "--port", str(port), "--no-browser")


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_a_signal_ends_it_without_a_word(number: signal.Signals) -> None:
    port = free_port(0)
    process = start("play", "--port", str(port), "--no-browser")
    said = ""
    try:
        assert process.stderr is not None
        watchdog = threading.Timer(120, process.kill)
        watchdog.start()
        for line in process.stderr:
            said += line
            if "Ctrl-C" in line:
                break
        watchdog.cancel()
        assert f"http://127.0.0.1:{port}/" in said, said
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/dream.json", timeout=30) as answer:
            assert answer.status == 200
    finally:
        process.send_signal(number)
        code, out, rest = finish(process, 60)
    assert (code, out, rest) == (128 + number, "", "")


# --- export --web ---


def test_export_wants_to_know_where_to(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--out DIR" in refused(capsys, "export", str(SHIPPED))


def test_a_folder_that_is_there_is_left_alone(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, shipped: Shipped, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.commands.agent.find_starts", lambda *_, **__: shipped.starts)
    (tmp_path / "mine.txt").write_text("precious")
    assert "is there already" in refused(capsys, "export", str(SHIPPED), "--web", str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("script", "words"), [("exit 1", "it said nothing"), ("echo npm error E404 >&2; exit 1", "npm error E404")]
)
def test_an_npm_that_fails_leaves_nothing(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    shipped: Shipped,
    monkeypatch: pytest.MonkeyPatch,
    script: str,
    words: str,
) -> None:
    monkeypatch.setattr("cluster.commands.agent.find_starts", lambda *_, **__: shipped.starts)
    (tmp_path / "bin").mkdir()
    npm = tmp_path / "bin" / "npm"
    npm.write_text(f"#!/bin/sh\n{script}\n")
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "out").mkdir()
    said = refused(capsys, "export", str(SHIPPED), "--web", str(tmp_path / "out" / "page"))
    assert "npm cannot fetch onnxruntime-web" in said and words in said
    assert not list((tmp_path / "out").iterdir())


def test_what_is_missing_is_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "apt-get install npm" in refused(capsys, "export", str(SHIPPED), "--web", str(tmp_path / "page"))
    monkeypatch.setattr(folder, "find_spec", lambda name: None)
    assert "package onnx" in refused(capsys, "export", str(SHIPPED), "--web", str(tmp_path / "page"))
