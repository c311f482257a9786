"""Real signals to real processes at several moments: the exit code is 128 + signal, and there is nothing to read."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from cluster.cli import main
from cluster.console import signals
from cluster.console.signals import Interrupt, Interrupted, Stop
from tests.cluster.tiny import ROOT, finish, start, train_options, wait_for

INLINE = ("--runtime", "inline")
BOTH = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("signals") / "run"
    assert main(train_options(path, *INLINE, "--updates", "2")) == 0
    return path


@pytest.fixture
def as_before() -> Iterator[None]:
    with signals.as_before():
        yield


def loaded(process: subprocess.Popen[str], library: str) -> bool:
    """Whether a process has opened a library by now."""
    try:
        return library in Path(f"/proc/{process.pid}/maps").read_text()
    except OSError:
        return False


def test_the_signals_are_taken_before_anything_slow_is_imported() -> None:
    """On a busy machine NumPy alone takes a second, and a signal in it is a traceback, or a crash."""
    program = (
        "import signal, sys, types\n"
        "import cluster.__main__ as start\n"
        "assert not {'numpy', 'rich', 'logging', 'replay'} & {*sys.modules}, 'slow'\n"
        "cli = sys.modules['cluster.cli'] = types.ModuleType('cluster.cli')\n"
        "cli.program = lambda: print({signal.getsignal(n).__name__ for n in start.signals.ALL})\n"
        "start.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("{'quit_at_once'}\n", "")


def test_a_signal_while_python_takes_itself_apart_does_not_change_the_exit_code() -> None:
    """Its handlers are gone then, and those of the system would end the process by the signal."""
    program = (
        "import os\n"
        "from cluster import cli\n"
        "class Late:\n"
        "    def __del__(self, kill=os.kill, me=os.getpid()): [kill(me, number) for number in (1, 2, 15)]\n"
        "late, cli.main = Late(), lambda argv=None: 7\n"
        "cli.program()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (7, "")


@BOTH
def test_while_libraries_are_imported(number: int, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = start(*train_options(run, *INLINE))
    wait_for("torch", lambda: loaded(process, "libtorch_cpu"))
    process.send_signal(number)
    assert finish(process) == (128 + number, "", "")
    assert not run.exists()


@BOTH
@pytest.mark.parametrize("seconds", [0.15, 0.4, 0.8, 1.6, 2.4])
def test_in_the_first_seconds(seconds: float, number: int, tmp_path: Path) -> None:
    """Whatever it does just then: at most one line, and the code of the signal."""
    process = start(*train_options(tmp_path / "run", *INLINE))
    time.sleep(seconds)
    process.send_signal(number)
    code, _, err = finish(process)
    if seconds < 1 and code != 128 + number and "/cluster/" not in err:  # Python itself was still starting
        return
    assert code == 128 + number, err
    assert "Traceback" not in err


@BOTH
@pytest.mark.parametrize("command", ["evaluate", "record", "bench"])
def test_in_the_middle_of_a_command(command: str, number: int, run: Path, tmp_path: Path) -> None:
    options = {
        "evaluate": ["evaluate", str(run), "--episodes", "9999"],
        "record": ["record", str(run), "--out", str(tmp_path / "x.gif"), "--steps", "999999"],
        "bench": ["bench", "env", "--preset", "cpu"],
    }
    process = start(*options[command])
    wait_for("the emulator", lambda: loaded(process, "ale_py"))
    time.sleep(1)
    process.send_signal(number)
    code, out, err = finish(process)
    assert code == 128 + number, err
    assert out == "" and "Traceback" not in err and "Exception ignored" not in err
    assert len([line for line in err.splitlines() if "measuring" not in line and line.strip()]) <= 1, err


@pytest.mark.slow
@pytest.mark.reverb
def test_what_a_command_has_started_ends_with_it(tmp_path: Path) -> None:
    pytest.importorskip("reverb")
    process = start("bench", "replay", "--preset", "cpu")
    children = wait_for("its server", lambda: psutil.Process(process.pid).children())
    process.terminate()
    assert finish(process)[0] == 143
    _, alive = psutil.wait_procs(children, timeout=20)
    assert not alive


def test_a_second_signal_while_saving_quits_at_once(tmp_path: Path) -> None:
    """Saving takes ten minutes here."""
    program = (
        "import sys, time\n"
        "from cluster.console.signals import Stop\n"
        "stop = Stop()\n"
        "print('ready', flush=True)\n"
        "while not stop.signal: time.sleep(0.01)\n"
        "time.sleep(600)\n"
    )
    for second, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        process = subprocess.Popen(
            [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert process.stdout and process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        assert process.stderr and process.stderr.readline() == "\n"
        assert process.stderr.readline() == "saving; a second signal quits at once\n"
        process.send_signal(signal.SIGHUP)  # that the terminal goes, too, is no order to lose what is being saved
        time.sleep(signals.AT_ONCE + 0.1)
        assert process.poll() is None
        process.send_signal(second)
        assert finish(process)[0] == code


@pytest.mark.parametrize("kind", ["Stop()", "signals.Interrupt()"])
def test_two_signals_at_once_are_one(kind: str) -> None:
    """As `timeout` sends them, to the process and to its group: the second must not end what the first lets save."""
    program = (
        "import os, signal\n"
        "from cluster.console import signals\n"
        "from cluster.console.signals import Stop\n"
        f"request = {kind}\n"
        "signals.take(request if callable(request) else request._handle)\n"
        "for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT):\n"
        "    try: os.kill(os.getpid(), number)\n"
        "    except KeyboardInterrupt: pass\n"
        "print('saved', request.signal)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "saved 15\n")


def test_a_stop_that_nobody_can_read_is_a_stop(as_before: None) -> None:
    """A handler that raises would end the training unsaved."""
    stop, kept = Stop(), os.dup(2)
    try:
        os.close(2)
        os.kill(os.getpid(), signal.SIGTERM)
    finally:
        os.dup2(kept, 2)
        os.close(kept)
    assert stop.signal == signal.SIGTERM and stop.exit_code == 143


def test_the_end_of_the_terminal_is_taken_unless_it_is_ignored(as_before: None) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    stop = Stop()
    os.kill(os.getpid(), signal.SIGHUP)
    assert not stop.signal
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    stop.install()
    os.kill(os.getpid(), signal.SIGHUP)
    assert stop.exit_code == 129


def test_a_command_is_interrupted_by_an_exception_that_cleans_up(as_before: None) -> None:
    interrupt = Interrupt()
    signals.take(interrupt)
    with pytest.raises(Interrupted) as raised:
        os.kill(os.getpid(), signal.SIGTERM)
    assert raised.value.number == signal.SIGTERM == interrupt.signal


def test_withheld_signals_come_later_and_never_to_children(as_before: None) -> None:
    stop = Stop()
    with signals.withheld():
        child = subprocess.Popen(["sleep", "60"])
        # To this thread: pytest-xdist has others, and a signal to the process goes to one that would take it.
        signal.pthread_kill(threading.get_ident(), signal.SIGHUP)
        assert not stop.signal
    try:
        assert stop.signal == signal.SIGHUP
        os.kill(child.pid, signal.SIGHUP)
        os.kill(child.pid, signal.SIGINT)
        time.sleep(0.2)
        assert child.poll() is None
    finally:
        child.terminate()
        assert child.wait(10) == -signal.SIGTERM


def test_a_process_that_calls_main_gets_its_signals_back(capsys: pytest.CaptureFixture[str]) -> None:
    before = [signal.getsignal(number) for number in signals.ALL]
    assert main(["params", "--preset", "nonsense"]) == 2
    assert before == [signal.getsignal(number) for number in signals.ALL]
    capsys.readouterr()
