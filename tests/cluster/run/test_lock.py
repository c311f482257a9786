"""One training per run directory, and a directory that goes away under its run."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import gymnasium
import pytest

from cluster.cli import main
from cluster.commands.options import RecordOptions, parse
from cluster.commands.train import understand
from cluster.errors import RunDirLost
from cluster.presets import cpu
from cluster.run import directory as run_dir
from cluster.run.directory import Run
from cluster.run.lock import Keeper, RunLock
from cluster.run.log_file import LogFile
from replay.errors import UserError
from tests.cluster.tiny import ROOT, train_options

# Holds the lock until its input ends; its child outlives it by a minute, and is no reason to keep the lock.
HOLDER = """
import os, sys, time
from pathlib import Path
from cluster.run.lock import RunLock
lock = RunLock()
lock.take(Path(sys.argv[1]))
child = os.fork()
if child == 0:
    os.close(1)
    time.sleep(60)
print(child, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return run_dir.create(tmp_path / "run", cpu())


@pytest.fixture
def holder(run: Run) -> Iterator[subprocess.Popen[str]]:
    """Another process that trains there."""
    command = [sys.executable, "-c", HOLDER, str(run.path)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        child = int(process.stdout.readline())
        yield process
        process.kill()
        os.kill(child, 9)


def test_a_second_training_is_refused_until_the_first_has_ended_however_it_does(
    run: Run, holder: subprocess.Popen[str], capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.path.rglob("*")}
    options = train_options(run.path, "--runtime", "inline", "--cluster.metrics-port", "-1")
    assert main([*options, "--resume"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: process {holder.pid} on {socket.gethostname()} trains in {run.path} now")
    assert before == {path: path.stat().st_mtime_ns for path in run.path.rglob("*")}
    assert main(["status", str(run.path)]) == 0  # who only reads needs no lock
    holder.kill()
    holder.wait()
    lock = RunLock()
    lock.take(run.path)
    assert lock.in_place()
    lock.close()


def test_a_file_system_without_locks_is_said_and_no_hindrance(
    run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_locks(*arguments: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "lockf", no_locks)
    lock = RunLock()
    lock.take(run.path)
    assert "has no locks" in caplog.text and lock.in_place()
    lock.close()


def test_a_place_for_the_lock_that_cannot_be_written_is_refused_in_words(run: Run) -> None:
    (run.path / "lock").mkdir()
    with pytest.raises(UserError, match=r"cannot write to .*: mend its permissions"):
        RunLock().take(run.path)


def test_two_new_runs_of_one_second_have_two_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(time, "strftime", lambda form: "2027-01-02-030405")
    made = [run_dir.create(None, cpu()) for _ in range(3)]
    assert [run.path.name for run in made] == ["2027-01-02-030405", "2027-01-02-030405-2", "2027-01-02-030405-3"]
    assert len({run.id for run in made}) == 3


def test_a_game_that_goes_to_another_folder_takes_no_run_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths are understood before a game is played."""
    (tmp_path / "here").mkdir()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "games_that_go.py").write_text(
        "import os\nimport gymnasium\nfrom tests.actors.toy_games import Toy\n"
        "os.chdir('../elsewhere')\ngymnasium.register('Goes/Game-v0', Toy)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    plain = "--env.no-life-loss --env.no-auto-fire --env.crop 0 0 0 0 --env.shrink area --replay.capacity 5000"
    game = "--preset cpu --runtime inline --env.id Goes/Game-v0 --env.import-module games_that_go"
    asked = understand([*plain.split(), *game.split(), "--cluster.metrics-port", "-1"])
    assert Path.cwd() == tmp_path / "elsewhere"
    made = run_dir.create(asked.options.run_dir, asked.config, runs=asked.runs)
    assert made.path.parent == tmp_path / "here" / "runs"
    assert parse(RecordOptions, ["runs/x", "--out", "film.gif"], command="record").out.is_absolute()
    gymnasium.registry.pop("Goes/Game-v0")


def test_of_two_who_want_one_name_the_later_is_refused(tmp_path: Path) -> None:
    """Both have seen that it is free; the lock lets one begin, and the other looks again."""

    def take(folder: Path) -> None:
        (folder / "lock").touch()
        run_dir.create(folder, cpu())

    with pytest.raises(UserError, match="holds a run already"):
        run_dir.create(tmp_path / "run", cpu(), take=take)
    assert run_dir.open_run(tmp_path / "run")


# --- A directory that goes away ---


@pytest.fixture
def lock(run: Run) -> Iterator[RunLock]:
    found = RunLock()
    found.take(run.path)
    yield found
    found.close()


def files_of(run: Run) -> set[str]:
    return {path.name for path in run.path.iterdir()}


def test_a_directory_in_its_place_needs_nothing(run: Run, lock: RunLock) -> None:
    assert Keeper(run, lock, LogFile()).look() == ""


@pytest.mark.parametrize("half_made", [False, True])
def test_a_deleted_directory_is_made_anew_once(run: Run, lock: RunLock, half_made: bool) -> None:
    config, keeper = (run.path / "config.json").read_text(), Keeper(run, lock, LogFile())
    shutil.rmtree(run.path)
    if half_made:  # by a learner that saved before anybody looked
        (run.path / "checkpoints").mkdir(parents=True)
    assert keeper.look() == (
        f"{run.path} was deleted under its run: it is made anew, and what is saved from now on is there"
    )
    assert keeper.look() == ""
    assert (run.path / "config.json").read_text() == config
    assert run_dir.open_run(run.path)[0] == run
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(run.path)], cwd=ROOT, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as other:
        assert f"process {os.getpid()} on" in other.communicate()[1].decode()


def test_a_moved_directory_is_said_to_be_there(run: Run, lock: RunLock, tmp_path: Path) -> None:
    keeper = Keeper(run, lock, LogFile())
    run.path.rename(tmp_path / "elsewhere")
    assert f"was moved to {tmp_path / 'elsewhere'} under its run" in keeper.look()
    assert {"config.json", "run_id", "lock"} <= files_of(run)


def test_a_copy_of_the_run_in_its_place_is_gone_on_with(run: Run, lock: RunLock, tmp_path: Path) -> None:
    keeper = Keeper(run, lock, LogFile())
    run.path.rename(tmp_path / "elsewhere")
    shutil.copytree(tmp_path / "elsewhere", run.path)
    assert "made anew" in keeper.look() and keeper.look() == ""


def test_another_run_in_its_place_is_left_alone(run: Run, lock: RunLock, tmp_path: Path) -> None:
    keeper = Keeper(run, lock, LogFile())
    run.path.rename(tmp_path / "elsewhere")
    run_dir.create(run.path, cpu())
    before = files_of(run)
    with pytest.raises(RunDirLost, match="was replaced under its run, nothing can be saved"):
        keeper.look()
    assert files_of(run) == before and not run_dir.is_ours(run)


def test_what_cannot_be_made_anew_is_tried_again(
    run: Run, lock: RunLock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keeper = Keeper(run, lock, LogFile())
    shutil.rmtree(run.path)
    run.path.write_text("in the way")
    assert [keeper.look() for _ in range(3)] == ["", "", ""]
    assert caplog.text.count("cannot make the run directory anew") == 1
    run.path.unlink()
    assert "made anew" in keeper.look()


# --- A request that turns out to be wrong ---


def test_a_taken_port_burns_no_run_directory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for _ in range(2):
            options = train_options(run, "--runtime", "inline", "--updates", "2", "--cluster.metrics-port", port)
            assert main(options) == 2
            assert f"port {port} for metrics is in use" in capsys.readouterr().err
            assert not run.exists()
    assert main(options) == 0  # the port is free again
    config = (run / "config.json").read_text()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main([*options, "--resume", "--cluster.metrics-port", port]) == 2
    assert (run / "config.json").read_text() == config
    assert f"port {port} for metrics is in use" in (run / "log.txt").read_text()


def test_only_a_directory_of_ours_is_forgotten(run: Run) -> None:
    (run.path / "thesis.tex").write_text("precious")
    run_dir.forget(run)
    assert (run.path / "thesis.tex").exists() and (run.path / "config.json").exists()
    (run.path / "thesis.tex").unlink()
    run_dir.forget(run)
    assert not run.path.exists()
