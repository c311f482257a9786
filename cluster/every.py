"""When to do what is not done all the time."""

from __future__ import annotations

import time
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
