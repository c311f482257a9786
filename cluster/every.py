"""When to do what is not done all the time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass
class Every:
    """Says when an interval of wall-clock seconds is over; 0 = never."""

    seconds: float
    last: float | None = None

    def due(self) -> bool:
        """True once per interval, the first time one interval after the first call."""
        now = time.monotonic()
        if self.last is None:
            self.last = now
        if self.seconds <= 0 or now - self.last < self.seconds:
            return False
        self.last = now
        return True


FIRST_SECONDS = 20.0  # of training, after which a run without a checkpoint gets its first one; ours
LOOK_SECONDS = 5.0  # between looks whether there is one; ours


class SaveTimes:
    """When to save: soon after the first updates of a run that has no checkpoint, then once per interval.

    People try things in the first minutes of a run, and kill it: 20 s of training are worth the second that it takes.
    A run whose checkpoints are gone has none, either. If the first one fails, the next try comes after the interval.
    """

    def __init__(self, seconds: float, *, has_one: Callable[[], bool]) -> None:
        self._seconds, self._has_one = seconds, has_one  # 0 s = never
        self._had = True  # there was one, or there was nothing yet that one could hold
        self._next: float | None = None
        self._look = 0.0

    def due(self, *, trained: bool, now: float | None = None) -> bool:
        """True once per interval; `trained`: there have been updates. `now` in seconds, as time.monotonic."""
        now = time.monotonic() if now is None else now
        if self._next is None:
            self._next, self._look = now + self._seconds, now
        if trained and now >= self._look:
            self._look = now + LOOK_SECONDS
            had, self._had = self._had, self._has_one()
            if had and not self._had:
                self._next = min(self._next, now + FIRST_SECONDS)
        if self._seconds <= 0 or now < self._next:
            return False
        self._next = now + self._seconds
        return True
