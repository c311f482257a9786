"""Every call into a game's own code is made within a `Calling`: what is raised in there becomes one line.

    Calling     a GameBroke that names the game, the call and the error, chained to what was raised: whoever logs it
                has the traceback
    at_start    before training has begun a broken game is a wrong request: the same line as a UserError

What a game prints goes to stderr: stdout belongs to `--json`.
"""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

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
    """Around one kind of call into a game's code; not nested in itself. Ctrl-C passes."""

    __slots__ = ("_call", "_game", "_stdout")

    def __init__(self, game: str, call: str) -> None:
        self._game, self._call = game, call

    def __enter__(self) -> None:
        self._stdout, sys.stdout = sys.stdout, sys.stderr

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        sys.stdout = self._stdout
        if error is not None and not isinstance(error, KeyboardInterrupt | GameBroke | UserError):
            raise GameBroke(f"{self._game}: {self._call} {told(error)}") from error


def told(error: BaseException) -> str:
    """What was raised and where, in one line."""
    advice = "".join(f"; {words}" for pattern, words in _ADVICE.items() if re.search(pattern, str(error)))
    if "environment creator" in str(error) and error.__cause__:  # gymnasium.make has added all arguments to it
        error = error.__cause__
    text = f"raised {type(error).__name__}"
    if said := " ".join(str(error).split()):
        text += f": {said[:200]}{' ...' if len(said) > 200 else ''}"
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [frame for frame in frames if not _OF_GYMNASIUM.search(frame.filename)]
    if theirs and not isinstance(error, SyntaxError | ModuleNotFoundError):  # these say it themselves
        text += f" ({theirs[-1].filename}:{theirs[-1].lineno})"
    return text + advice


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
