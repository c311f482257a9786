"""Errors that no caller hears of are one line each, and no thread of a game's holds the process for ever."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.cluster.tiny import ROOT

PROGRAM = """
import atexit, logging, os, subprocess, sys, threading, time
from cluster.console import strays, terminal
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
STRAYS = {
    "a destructor": ("Game()", "Exception ignored in Game.__del__: ZeroDivisionError: division by zero (<string>:10)"),
    "a thread": (
        "t = threading.Thread(target=fails, name='engine'); t.start(); t.join()",
        "a thread has ended (engine): ZeroDivisionError: division by zero (<string>:11)",
    ),
    "the exit": ("atexit.register(fails)", "ZeroDivisionError: division by zero (<string>:11)"),
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
