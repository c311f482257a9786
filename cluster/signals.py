"""First Ctrl-C or SIGTERM: save and end. Second: end at once."""

from __future__ import annotations

import os
import signal
from types import FrameType


class Stop:
    """Remembers which signal asked for the end; 0 = none yet. Must be made in the main thread."""

    def __init__(self) -> None:
        self.signal = 0
        self.install()

    def install(self) -> None:
        """Takes the signals; again after anything that takes them for itself, as ray.init does."""
        signal.signal(signal.SIGINT, self._handle)
        signal.signal(signal.SIGTERM, self._handle)

    @property
    def exit_code(self) -> int:
        """0, or 128 + the signal, as shells count."""
        return 128 + self.signal if self.signal else 0

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.signal:
            os._exit(128 + number)
        self.signal = number
        os.write(2, b"\nsaving; a second signal quits at once\n")
