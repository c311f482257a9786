"""Fixtures: replay servers in their own processes."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import replay
from replay import Replay, ReplayConfig
from tests.replay.testkit import RUN, Host, spec_of

MakeReplay = Callable[[ReplayConfig], Replay]


@pytest.fixture(scope="session")
def shared_host() -> Iterator[Host]:
    """One process for all tests that break nothing."""
    if importlib.util.find_spec("reverb") is None:
        pytest.skip("dm-reverb is not installed")
    host = Host()
    yield host
    host.kill()


@pytest.fixture
def new_host() -> Iterator[Callable[[], Host]]:
    """Processes of one test's own, to be killed at will."""
    if importlib.util.find_spec("reverb") is None:
        pytest.skip("dm-reverb is not installed")
    hosts: list[Host] = []

    def start() -> Host:
        hosts.append(Host())
        return hosts[-1]

    yield start
    for host in hosts:
        host.kill()


@pytest.fixture(params=["memory", "device", pytest.param("reverb", marks=pytest.mark.reverb)])
def make_replay(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MakeReplay]:
    """Makes a replay of each backend, for the contract that all keep."""
    if request.param == "memory":
        yield lambda config: replay.in_memory(config, spec_of(config), seed=0)
        return
    if request.param == "device":
        yield lambda config: replay.on_device(config, spec_of(config), seed=0, device="cpu")
        return
    host: Host = request.getfixturevalue("shared_host")
    started: list[str] = []

    def make(config: ReplayConfig) -> Replay:
        started.append(host.serve(config, tmp_path))
        return replay.connect(started[-1], config, spec_of(config), run_id=RUN, patience=10)

    yield make
    for _ in started:
        host.close_server()
