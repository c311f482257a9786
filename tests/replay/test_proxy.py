"""Behind a company's proxy: our own servers are reached directly."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from replay import proxy
from tests.replay.testkit import ROOT


def test_what_is_there_stays_and_our_own_is_added(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "intranet, .corp.example")
    monkeypatch.setenv("NO_PROXY", "other.example")
    monkeypatch.delenv("no_grpc_proxy", raising=False)
    proxy.bypass("10.0.0.7:6379", "auto", "")
    ours = "localhost,127.0.0.1,::1,10.0.0.7"
    assert os.environ["no_proxy"] == f"intranet,.corp.example,other.example,{ours}" == os.environ["NO_PROXY"]
    proxy.bypass("10.0.0.7")
    assert os.environ["no_proxy"].count("10.0.0.7") == 1
    assert "no_grpc_proxy" not in os.environ


def test_what_grpc_alone_reads_is_filled_where_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("no_grpc_proxy", "x")
    proxy.bypass()
    assert os.environ[proxy.FOR_GRPC_ALONE] == "x,localhost,127.0.0.1,::1"


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("node-3", "node-3"),
        ("node-3:8000", "node-3"),
        ("10.1.2.3:1", "10.1.2.3"),
        ("[fd00::1]:80", "fd00::1"),
        ("fd00::1", "fd00::1"),
        ("auto", ""),
        ("local", ""),
    ],
)
def test_hosts_of_addresses(address: str, host: str) -> None:
    assert proxy.bare(address) == host


SERVE_AND_ASK = """
import sys
from pathlib import Path
import replay
from tests.replay.testkit import RUN, SPEC
config = replay.ReplayConfig(length=4, stride=2, capacity=100, batch=2, prefill=0)
server = replay.serve(config, SPEC, directory=Path(sys.argv[1]), run_id=RUN, host="127.0.0.1")
print(replay.connect(server.address, config, SPEC, run_id=RUN, patience=5).stats().steps, server.stats().steps)
import os; sys.stdout.flush(); os._exit(0)
"""


@pytest.mark.reverb
def test_a_replay_server_is_found_where_everything_goes_through_a_proxy(tmp_path: Path) -> None:
    """The proxy is a port where nobody answers."""
    everything = {name: "http://127.0.0.1:9" for name in ("http_proxy", "https_proxy", "grpc_proxy")}
    environment = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    done = subprocess.run(
        [sys.executable, "-c", SERVE_AND_ASK, str(tmp_path)],
        cwd=ROOT,
        env=environment | everything,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["0", "0"]
