"""Errors that no caller hears of are one line each, and no thread of a game's holds the process for ever."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing

import pytest

from actors.config import EnvConfig
from actors.parallel import ParallelGames
from tests.cluster.tiny import ROOT

PROGRAM = """
import atexit, logging, os, subprocess, sys, threading, time
from actors import strays
from cluster.console import terminal
terminal.keep_result_apart()
terminal.prepare()
logging.basicConfig(format="%(levelname)s: %(message)s")
strays.tell()
strays.PATIENCE = 0.1
class Game:
    def __del__(self): 1 / 0
def fails(): 1 / 0
{}
print("the result")
strays.leave(3)
sys.exit(3)
"""
PLAIN = {"frame_skip": 1, "noop_max": 0, "import_module": "tests.actors.faulty_games"}
STRAYS = {
    "a destructor": ("Game()", "Exception ignored in Game.__del__: ZeroDivisionError: division by zero (<string>:11)"),
    "a thread": (
        "t = threading.Thread(target=fails, name='engine'); t.start(); t.join()",
        "a thread has ended (engine): ZeroDivisionError: division by zero (<string>:12)",
    ),
    "the exit": ("atexit.register(fails)", "ZeroDivisionError: division by zero (<string>:12)"),
    "no end": (
        "threading.Thread(target=lambda: time.sleep(1e6), name='engine').start()",
        "threads of somebody else's do not end (engine): ending without them",
    ),
    "no end and the exit": (
        "atexit.register(print, 'at exit', file=sys.stderr); threading.Thread(target=lambda: time.sleep(1e6)).start()",
        "at exit",
    ),
    "the terminal": ("os.write(1, b'native\\n')", "native"),
    "another program": ("subprocess.run(['echo', 'from a child'])", "from a child"),
    "Python's first stdout": ("sys.__stdout__.write('first\\n')", "first"),
}


@pytest.mark.parametrize("case", STRAYS)
def test_one_line_and_the_result_is_the_result(case: str) -> None:
    does, words = STRAYS[case]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.replace("{}", does)], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (3, "the result\n")
    assert words in done.stderr and "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) <= 2


def test_in_a_worker_process_too(capfd: pytest.CaptureFixture[str]) -> None:
    with closing(ParallelGames(EnvConfig(id="Faulty/Strays-v0", **PLAIN), 2, 0, workers=2)) as games:
        games.reset()
    said = capfd.readouterr().err.splitlines()
    assert len(said) == 4 and sum("a thread has ended (engine)" in line for line in said) == 2
    assert sum("atexit callback: ZeroDivisionError" in line for line in said) == 2
