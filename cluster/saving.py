"""How a runtime of one process saves."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cluster.errors import RunDirLost
from cluster.run.records import RunLog
from cluster.training import Tally
from learner.clock import Clock

log = logging.getLogger("training")


class Saver:
    """Saves all that a process trains. What cannot be saved is said, and costs no more than that."""

    def __init__(self, tally: Tally, run_log: RunLog, clock: Clock, write: Callable[[], Path]) -> None:
        """write: writes all files of a checkpoint; raises OSError or FloatingPointError."""
        self._tally, self._log, self._clock, self._write = tally, run_log, clock, write
        self._whole = True  # the agent is not in the middle of an update

    @contextmanager
    def updating(self) -> Iterator[None]:
        """Around an update: after an error in it there is nothing worth saving."""
        self._whole = False
        yield
        self._whole = True

    def save(self) -> None:
        """All or nothing; the checkpoints of before stay if it fails."""
        if self._tally.savable():
            self._log.look_after_directory()
            self._clock.mark_read("checkpoint")
            try:
                self._tally.saved(self._write())
            except (OSError, FloatingPointError) as error:
                self._tally.not_saved(error)
            finally:
                self._clock.mark("other")
        self._log.unsaved = self._tally.saving.why

    def save_after(self, error: BaseException) -> None:
        """Saves what can be saved after an error, which another one must not hide."""
        if isinstance(error, RunDirLost):
            return
        if not self._whole:
            log.error("not saved after the error: it came in the middle of an update")
            return
        try:
            self.save()
        except BaseException as second:
            log.error("cannot save after the error either (%s: %s)", type(second).__name__, second)
