"""What can be known before Ray is started, and before a run directory is made. Nothing here starts it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cluster.cli import main
from cluster.config import ClusterConfig
from cluster.on_ray import environment as ray_environment
from replay.errors import UserError
from tests.cluster.tiny import train_options


@pytest.fixture(autouse=True)
def environment_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_TMPDIR", "no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "")
    monkeypatch.delenv("RAY_TMPDIR")


def test_a_long_name_of_the_temporary_directory_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """HPC systems have such ones. The run directory is not made, so that the same command can be given again."""
    pytest.importorskip("reverb")
    monkeypatch.setenv("TMPDIR", str(tmp_path / ("long" * 20)))
    assert main(train_options(tmp_path / "run")) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "is too long a name for Ray's sockets" in line and "set RAY_TMPDIR=/tmp" in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("bytes_more", "fits"), [(0, True), (1, False)])
def test_the_longest_name_that_fits(bytes_more: int, fits: bool, tmp_path: Path) -> None:
    most = ray_environment.LONGEST - len(ray_environment.SOCKET)
    name = "/" + "x" * (most - 1 + bytes_more)
    try:
        ray_environment.check_temporary({"TMPDIR": name})
        error = ""
    except UserError as found:
        error = str(found)
    assert ("too long" not in error) == fits


def test_where_ray_cannot_write(tmp_path: Path) -> None:
    blocked = Path("/tmp") / f"b{os.getpid()}"
    blocked.write_text("a file")
    try:
        with pytest.raises(UserError, match=f"Ray cannot write to {blocked}"):
            ray_environment.check_temporary({"RAY_TMPDIR": str(blocked), "TMPDIR": "/tmp"})
    finally:
        blocked.unlink()


def test_ray_s_own_variable_comes_first() -> None:
    ray_environment.check_temporary({"RAY_TMPDIR": "/tmp", "TMPDIR": "/" + "x" * 200})
    ray_environment.check_temporary({})


def test_the_cluster_s_addresses_are_reached_directly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "corp.example")
    ray_environment.set_for(ClusterConfig(address="10.1.0.4:6379", host="head.example"))
    assert os.environ["no_proxy"] == "corp.example,localhost,127.0.0.1,::1,head.example,10.1.0.4"


def test_who_else_reaches_the_replay() -> None:
    pytest.importorskip("ray")
    from cluster.on_ray.placement import who_reaches

    lonely = {"lo": ["127.0.0.1", "::1"], "eth0": ["fe80::1%eth0"]}
    assert who_reaches(ClusterConfig(), 4321, lonely) == ""
    line = who_reaches(ClusterConfig(), 4321, lonely | {"eth1": ["10.0.0.5"]})
    assert "port 4321 of every address of this machine (10.0.0.5)" in line and "tcp dport 4321 drop" in line
    assert "\n" not in line
    assert "deploy/firewall.nft" in who_reaches(ClusterConfig(address="auto"), 4321, {"eth1": ["10.0.0.5"]})
