"""Who trains in a run directory: RUN/state.json says which process began when, and how it ended.

A process that is killed writes no end; whoever reads looks whether it is still there.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import time
from pathlib import Path
from typing import NamedTuple

import psutil

from replay.atomic import write_text

log = logging.getLogger("run")
FILE = "state.json"


class State(NamedTuple):
    """The latest invocation of train on a run directory."""

    host: str
    pid: int
    process_start: float  # seconds since 1970: a later process may have the same number
    runtime: str  # ray | inline
    began: float  # seconds since 1970
    metrics: str  # URL of the driver's metrics, or "off"
    ended: float | None = None  # seconds since 1970; None = it has not said so
    why: str = ""  # in words; "" = it failed


def begin(run: Path, *, runtime: str, metrics: str) -> None:
    """This process trains from now on."""
    start = psutil.Process().create_time()
    _write(run, State(socket.gethostname(), os.getpid(), start, runtime, time.time(), metrics))


def end(run: Path, why: str) -> None:
    """This process has ended its training; "" = it failed."""
    if state := read(run):
        _write(run, state._replace(ended=time.time(), why=why))


def read(run: Path) -> State | None:
    """None where there is none: the run is of an older version, or was given away."""
    try:
        return State(**json.loads((run / FILE).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def alive(state: State) -> bool | None:
    """Whether the process is still there; None = it is on another machine, nobody can know."""
    if state.host != socket.gethostname():
        return None
    try:
        process = psutil.Process(state.pid)
        return abs(process.create_time() - state.process_start) < 1 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _write(run: Path, state: State) -> None:
    text = json.dumps(state._asdict(), indent=2) + "\n"
    try:
        write_text(run / FILE, text)
    except OSError as error:  # a full disk: training goes on without it
        log.warning("cannot write %s (%s)", run / FILE, error.strerror)
