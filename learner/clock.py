"""Where the learner's time goes: a stopwatch that always runs for one phase."""

from __future__ import annotations

import time

import torch


class Clock:
    """Wall-clock seconds by phase. Reading the time twice is all that a phase costs; the device is not asked."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._phase, self._since = device, "other", time.perf_counter()
        self._seconds: dict[str, float] = {}

    def mark(self, phase: str) -> None:
        """The phase so far is over; `phase` begins."""
        now = time.perf_counter()
        self._seconds[self._phase] = self._seconds.get(self._phase, 0.0) + now - self._since
        self._phase, self._since = phase, now

    def mark_read(self, phase: str) -> None:
        """Likewise, where the phase begins by reading from the device: what that still has to do is the update's."""
        if self._device.type == "cuda":
            self.mark("update")
            torch.cuda.synchronize(self._device)
        self.mark(phase)

    def take(self) -> dict[str, float]:
        """Seconds since the last call; the phase goes on."""
        self.mark(self._phase)
        taken, self._seconds = self._seconds, {}
        return taken
