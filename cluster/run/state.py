"""Who trains in a run directory: RUN/state.json says which process began when, and how it ended.

A process that is killed writes no end; whoever reads looks whether it is still there.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import socket
import time
from pathlib import Path
from typing import NamedTuple

from cluster.console.json_text import json_text
from cluster.run.process_identity import start_of
from replay.atomic import write_text
from replay.bounds import kinds

log = logging.getLogger("run")
FILE = "state.json"
DREAM = "dream"  # the runtime of a behaviour that learns alone, in a world model that stays as it is
RUNTIMES = ("ray", "inline", DREAM)


class State(NamedTuple):
    """The latest invocation of train or dream on a run directory."""

    host: str
    pid: int
    process_start: str  # see process_identity.start_of: a later process may have the same number
    runtime: str  # ray | inline | dream
    began: float  # seconds since 1970
    metrics: str  # URL of the driver's metrics, or "off"
    ended: float | None = None  # seconds since 1970; None = it has not said so
    why: str = ""  # in words; "" = it failed
    error: str = ""  # of what, in one line


def begin(run: Path, *, runtime: str, metrics: str) -> State:
    """This process trains from now on."""
    pid = os.getpid()
    state = State(socket.gethostname(), pid, start_of(pid), runtime, time.time(), metrics)
    write(run, state)
    return state


def end(run: Path, why: str, error: str = "") -> None:
    """This process has ended its training; "" = it failed, of `error`."""
    if state := read(run):
        write(run, state._replace(ended=time.time(), why=why, error=error))


def read(run: Path) -> State | None:
    """None where there is none: the run is of an older version, or was given away."""
    try:
        state = State(**json.loads((run / FILE).read_text()))
    except (OSError, ValueError, TypeError):
        return None
    values = state._replace(process_start="")._asdict()  # that of an older version is a number, see `alive`
    whole = state.runtime in RUNTIMES and all(kind.has_type(values[name]) for name, kind in kinds(State).items())
    return state if whole else None


def runtime_of(run: Path) -> str | None:
    """The runtime that a run had: as its state says, else as the newest of its saved replays is written."""
    if state := read(run):
        return state.runtime
    saved = {"inline": (run / "replay").glob("update-*"), "ray": (run / "replay").glob("*/settings.json")}
    newest = {name: max((path.stat().st_mtime for path in paths), default=0.0) for name, paths in saved.items()}
    name = max(newest, key=newest.__getitem__)
    return name if newest[name] else None


def alive(state: State) -> bool | None:
    """Whether the process is still there; None = nobody can know: another machine, or an older version."""
    if state.host != socket.gethostname() or not isinstance(state.process_start, str):
        return None
    return start_of(state.pid) == state.process_start


def write(run: Path, state: State) -> None:
    """What cannot be written is said, and no more: training goes on without it."""
    text = json_text(state._asdict(), indent=2) + "\n"
    try:
        write_text(run / FILE, text)
    except OSError as error:
        try:
            _write_over(run / FILE, text.encode())
        except OSError:
            log.warning("cannot write %s (%s)", run / FILE, error.strerror)


def _write_over(path: Path, data: bytes) -> None:
    """In the place of a short text of before, which takes no more room: on a full disk, of all times, it is asked why
    a run has ended. Not durable, and whoever reads just then may find half of it.
    """
    with path.open("r+b", buffering=0) as file:
        if file.write(data) < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        file.truncate()
