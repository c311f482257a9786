"""Every call into a game's own code is made within a `Calling`: what is raised in there becomes one line.

    Calling     a GameBroke that names the game, the call and the error, chained to what was raised: whoever logs it
                has the traceback
    at_start    before training has begun a broken game is a wrong request: the same line as a UserError

What a game prints goes to stderr: stdout belongs to `--json`. What it changes of the process is put back.
"""

from __future__ import annotations

import re
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from actors import guest
from actors.config import GameBroke
from replay.errors import UserError

_ADVICE = {  # what an error says -> what its author probably has not heard of
    r"expected 5, got 4": "that is the old Gym API: step must return observation, reward, terminated, truncated, info",
    r"\(expected 2": "reset must return observation, info",
    r"unexpected keyword argument '(seed|options)'": "it must be def reset(self, *, seed=None, options=None)",
    r"missing \d+ .*environment creator": "give the arguments that it needs as kwargs of gymnasium.register",
}
_OF_GYMNASIUM = re.compile(r"[/\\]gymnasium[/\\]|<frozen |actors[/\\](calling|foreign|opening)\.py$")


class Calling:
    """Around one kind of call into a game's code; not nested in itself. Ctrl-C passes.

    often: the call is made at every frame, and too short to look each time whether it keeps the house in order.
    """

    __slots__ = ("_call", "_chance", "_game", "_house", "_often", "_stdout", "changed", "since")

    def __init__(self, game: str, call: str, *, often: bool = False) -> None:
        self._game, self._call, self._often = game, call, often
        self._chance = guest.Chance()
        self.changed: set[str] = set()  # what was not left as it was found
        self.since = 0.0  # monotonic time at which the call was made that goes on now; 0 = none does

    def __str__(self) -> str:
        return f"{self._game}: {self._call}"

    def __enter__(self) -> Calling:
        self.since = time.monotonic()
        self._stdout, sys.stdout = sys.stdout, sys.stderr
        if not self._often:
            self._house = guest.look()
            self._chance.arrive()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        sys.stdout, self.since = self._stdout, 0.0
        by_signal = isinstance(error, KeyboardInterrupt) and not is_the_games_own(error)
        if not self._often:
            self._chance.leave()
            self.changed.update(guest.put_back(self._house))
        if error is not None and not by_signal and not isinstance(error, GameBroke | UserError):
            raise GameBroke(f"{self} {told(error)}") from error


def is_the_games_own(interrupt: KeyboardInterrupt) -> bool:
    """Whether the game itself has raised it (a window was closed, say): Ctrl-C does so by Python's handler alone, and
    by ours it is of a kind of its own."""
    return type(interrupt) is KeyboardInterrupt and signal.getsignal(signal.SIGINT) is not signal.default_int_handler


def told(error: BaseException) -> str:
    """What was raised and where, in one line."""
    said = words_of(error)
    advice = "".join(f"; {words}" for pattern, words in _ADVICE.items() if re.search(pattern, said))
    if "environment creator" in said and error.__cause__:  # gymnasium.make has added all arguments to it
        error = error.__cause__
        said = words_of(error)
    text = f"raised {type(error).__name__}"
    if said:
        text += f": {said[:200]}{' ...' if len(said) > 200 else ''}"
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [frame for frame in frames if not _OF_GYMNASIUM.search(frame.filename)]
    if theirs and not isinstance(error, SyntaxError | ModuleNotFoundError):  # these say it themselves
        text += f" ({theirs[-1].filename}:{theirs[-1].lineno})"
    return text + advice


def words_of(error: BaseException) -> str:
    """Its text in one line, without what would make a terminal do something."""
    try:
        text = str(error)
    except Exception:
        return "(it cannot be shown)"
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    return " ".join(re.sub(r"[\x00-\x1f\x7f-\x9f]", " ", plain).split())


@contextmanager
def at_start(name: str) -> Iterator[None]:
    """What is broken before anything was played is a wrong request."""
    try:
        yield
    except GameBroke as error:
        raise UserError(f"{error}{more_advice(name)}") from error.__cause__ or error


def more_advice(name: str) -> str:
    """How the line goes on that says what is wrong with a game."""
    return f": mend the game or choose another env.id (python -m cluster doctor --env {name} says more)"
