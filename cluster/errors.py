"""What ends a run and is said in one line; what the user can mend beforehand is replay.errors.UserError."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from actors.config import GameBroke
from learner.config import Diverged
from replay.errors import UserError

LONGEST = 300  # characters of a line that an error of somebody else's may have


class HeadLost(RuntimeError):
    """The Ray that the run lives on has died; exit code 1."""


class RunDirLost(RuntimeError):
    """Another run lies where the run's directory was; exit code 1."""


class RunFailed(RuntimeError):
    """What else ends a run: its message is one line for the person who watches; exit code 1.

    The traceback is in log.txt, and what could be saved is saved.
    """


ENDS = (Diverged, GameBroke, HeadLost, RunDirLost, RunFailed)  # one line each, exit code 1


@contextmanager
def as_run_failed() -> Iterator[None]:
    """Every other error of a game or an update is one line, too; it stays as the cause, for log.txt."""
    try:
        yield
    except (UserError, *ENDS):
        raise
    except Exception as error:
        raise RunFailed(f"training has failed: {in_one_line(error)}") from error


def in_one_line(error: BaseException) -> str:
    """What it says; of somebody else's also its kind, and where it was raised."""
    if isinstance(error, (UserError, *ENDS)):
        return " ".join(str(error).split())
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = f" (in {trace.tb_frame.f_code.co_filename}, line {trace.tb_lineno})" if trace is not None else ""
    return f"{type(error).__name__}{': ' if text else ''}{text[:LONGEST]}{where}"
