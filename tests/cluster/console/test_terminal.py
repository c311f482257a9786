"""What a person reads may fail without harm; what a command is asked for may not. All on real pipes and files."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from cluster.console.terminal import Screen
from learner import checkpoint
from tests.cluster.tiny import ROOT, start, train_options, update_of, wait_for

INLINE = ("--runtime", "inline")
OFTEN = ("--train.log-every", "0.1")


def shell(command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`dreamer` in a line of bash is the command line."""
    program = f'dreamer() {{ "{sys.executable}" -m cluster "$@"; }}; set -o pipefail\n{command}'
    return subprocess.run(
        ["bash", "-c", program], cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=200
    )


def train(run: Path, updates: int = 40) -> str:
    return "dreamer " + " ".join(train_options(run, *INLINE, *OFTEN, "--updates", str(updates)))


def check_trained(run: Path, updates: int = 40) -> None:
    """It went on to the end, and log.txt has what nobody could read."""
    found = checkpoint.load_newest(run / "checkpoints")
    assert found is not None and found.update == updates
    log = (run / "log.txt").read_text()
    assert f"update {updates}" in log and "ended: " in log and "Traceback" not in log


def no_space() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")


GONE: dict[str, tuple[str, Callable[[], None]]] = {
    "the reader has gone": ("{train} 2>&1 | true; exit ${{PIPESTATUS[0]}}", lambda: None),
    "the disk of a log is full": ("{train} 2> /dev/full", no_space),
    "no standard error": ("{train} 2>&-", lambda: None),
    "neither of the three": ("{train} <&- >&- 2>&-", lambda: None),
}


# One case is enough in `make test`.
@pytest.mark.parametrize("case", [*GONE][:1] + [pytest.param(case, marks=pytest.mark.slow) for case in [*GONE][1:]])
def test_training_goes_on_where_nobody_reads(case: str, tmp_path: Path) -> None:
    command, condition = GONE[case]
    condition()
    run = tmp_path / "run"
    done = shell(command.format(train=train(run)))
    assert done.returncode == 0, done.stdout + done.stderr
    check_trained(run)


def test_a_reader_that_never_reads_holds_nothing_up(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.set_blocking(write, False)
    with suppress(BlockingIOError):
        while True:
            os.write(write, bytes(4096))
    os.set_blocking(write, True)
    options = train_options(tmp_path / "run", *INLINE, *OFTEN, "--updates", "40")
    try:
        process = subprocess.Popen([sys.executable, "-m", "cluster", *options], cwd=ROOT, stderr=write)
        assert process.wait(200) == 0
    finally:
        process.kill()
        os.close(read)
        os.close(write)
    check_trained(tmp_path / "run")


def test_a_terminal_that_shows_few_letters(tmp_path: Path) -> None:
    """Not even the name of the run directory."""
    run = tmp_path / "läuft"
    done = shell(train(run), PYTHONIOENCODING="ascii", LC_ALL="C")
    assert done.returncode == 0, done.stderr
    assert "l\\xe4uft" in done.stderr
    check_trained(run)


def test_a_run_directory_s_name_that_cannot_be_said_is_still_a_result(tmp_path: Path) -> None:
    done = shell(f"dreamer status {tmp_path / 'nö'}", PYTHONIOENCODING="ascii")
    assert done.returncode == 2 and "n\\xf6 holds no run" in done.stderr
    done = shell("dreamer config --preset cpu", PYTHONIOENCODING="ascii")
    assert done.returncode == 0 and done.stderr == "", done.stderr


def test_a_result_that_cannot_be_written_is_an_error() -> None:
    no_space()
    done = shell("dreamer params --json > /dev/full")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ") and "No space left on device" in line


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    done = shell("dreamer config --preset cpu | true; exit ${PIPESTATUS[0]}")
    assert (done.returncode, done.stderr) == (0, "")


def test_what_is_read_comes_through_whole() -> None:
    read, write = os.pipe()
    text = b"x" * 30_000 + b"\n"  # some pieces, and less than a pipe holds
    with os.fdopen(read, "rb") as reader:
        assert Screen(write).write(text) == len(text)
        os.close(write)
        assert reader.read() == text


def test_a_pipe_that_is_full_holds_nobody_up() -> None:
    read, write = os.pipe()
    screen = Screen(write)
    screen._patience = 0
    for _ in range(100):
        assert screen.write(b"y" * 4096) == 4096
    held = os.read(read, 1 << 20)
    assert 4096 <= len(held) < 100 * 4096
    assert screen.write(b"z") == 1 and os.read(read, 10) == b"z", "there is room again"
    os.close(read)
    assert screen.write(b"nobody") == 6
    os.close(write)
    assert screen.write(b"closed") == 6


def test_a_terminal_that_is_closed_saves(tmp_path: Path) -> None:
    """The window goes: the kernel sends SIGHUP to everybody in it, and what is written then fails."""
    run = tmp_path / "run"
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(ROOT)
        options = train_options(run, *INLINE, "--actor.workers", "2")
        os.execv(sys.executable, [sys.executable, "-m", "cluster", *options])
    try:
        os.set_blocking(terminal, False)
        wait_for("updates", lambda: drained(terminal) and update_of(run) > 5, seconds=100)
        os.close(terminal)
        _, status = os.waitpid(pid, 0)
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        raise
    assert os.waitstatus_to_exitcode(status) == 128 + signal.SIGHUP
    found = checkpoint.load_newest(run / "checkpoints")
    assert found is not None and found.update > 5
    assert "ended: signal 1" in (run / "log.txt").read_text()


def drained(terminal: int) -> bool:
    """Reads what is there, as a window would."""
    try:
        while os.read(terminal, 4096):
            pass
    except OSError:
        pass
    return True


def test_nohup_is_respected(tmp_path: Path) -> None:
    run = tmp_path / "run"
    program = [sys.executable, "-m", "cluster", *train_options(run, *INLINE)]
    process = subprocess.Popen(["nohup", *program], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for("updates", lambda: update_of(run) > 5)
        process.send_signal(signal.SIGHUP)
        before = update_of(run)
        wait_for("more of them", lambda: update_of(run) > before + 5)
    finally:
        process.terminate()
    assert process.wait(60) == 143


def test_json_alone_is_on_standard_output(tmp_path: Path) -> None:
    process = start("params", "--preset", "cpu", "--json")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0 and err == "" and json.loads(out)["total"] > 0
