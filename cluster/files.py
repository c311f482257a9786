"""Files that a run writes to all the time. A full disk costs what cannot be written, never the run."""

from __future__ import annotations

import errno
import json
import logging
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.summary import image as image_summary
from tensorboardX.summary import scalar as scalar_summary

log = logging.getLogger("files")
RETRY_SECONDS = 30.0  # from a failure to the next try to write curves
FLUSH_SECONDS = 10.0  # that a point of a curve may stay in memory


class Lines:
    """A .jsonl file that has nothing but whole lines."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._said = False

    def write(self, row: dict[str, Any]) -> None:
        """Appends one line; what is written survives the death of this process."""
        data, size = (json.dumps(row) + "\n").encode(), os.fstat(self._file).st_size
        try:
            if os.write(self._file, data) < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self._said = False
        except OSError as error:
            os.ftruncate(self._file, size)
            if not self._said:
                log.error("cannot write to %s (%s); training goes on", self._path.name, error.strerror)
            self._said = True

    def close(self) -> None:
        os.close(self._file)


class Curves:
    """TensorBoard's files. Its usual writer has a thread, which ends at the first error; the next point then blocks.

    After an error a new file is begun: TensorBoard reads all those of a folder, each up to where it is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._events: EventsWriter | None = None
        self._not_before = self._flushed = 0.0

    def add_scalar(self, name: str, value: float, step: int) -> None:
        """A point of a curve."""
        self.add_summary(scalar_summary(name, value), step)

    def add_image(self, name: str, image: np.ndarray, step: int) -> None:
        """A picture, uint8 [H, W, 3]."""
        self.add_summary(image_summary(name, image, dataformats="HWC"), step)

    def add_summary(self, summary: Any, step: int) -> None:
        """Anything else that TensorBoard shows, as a Summary of its own kind."""
        now = time.monotonic()
        if now < self._not_before:
            return
        try:
            if self._events is None:
                self._folder.mkdir(exist_ok=True)
                self._events = EventsWriter(str(self._folder / "events"), f".{os.getpid()}.{time.time_ns()}")
            self._events.write_event(Event(wall_time=time.time(), step=step, summary=summary))
            if now - self._flushed > FLUSH_SECONDS:
                self._flushed = now
                self._events.flush()
        except OSError as error:
            self._fail(error)

    def close(self) -> None:
        try:
            if self._events is not None:
                self._events.close()
        except OSError as error:
            self._fail(error)

    def _fail(self, error: OSError) -> None:
        log.error("cannot write curves (%s); training goes on", error.strerror)
        self._events, self._not_before = None, time.monotonic() + RETRY_SECONDS
