"""Files that a run writes to all the time. A full disk costs what cannot be written, never the run."""

from __future__ import annotations

import errno
import io
import logging
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.summary import image as image_summary
from tensorboardX.summary import scalar as scalar_summary

from cluster.console.json_text import json_text, not_finite
from cluster.look.images import write_gif
from cluster.trouble import Trouble, cannot_write

log = logging.getLogger("files")
RETRY_SECONDS = 30.0  # from a failure to the next try to write curves
FILM_FPS = 8.0  # half the game's own speed: more is to be seen in three panels
FLUSH_SECONDS = 10.0  # that a point of a curve may stay in memory


class Appended:
    """A file that grows by whole lines."""

    def __init__(self, path: Path) -> None:
        """Raises OSError."""
        self._path = path
        self._file = _open(path)
        self._trouble = cannot_write(path.name, log)

    def write(self, text: str) -> None:
        """Appends it, whole or not at all; what is written survives the death of this process."""
        data = text.encode(errors="replace")
        try:
            size = os.fstat(self._file).st_size
            try:
                if os.write(self._file, data) < len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError:
                os.ftruncate(self._file, size)
                raise
        except OSError as error:
            self._trouble.failed(error)
        else:
            self._trouble.over()

    def close(self) -> None:
        os.close(self._file)

    def reopen(self) -> None:
        """Begins the file anew where it has gone: its folder was deleted, and made anew."""
        try:
            new = _open(self._path)
        except OSError as error:
            self._trouble.failed(error)
            return
        os.close(self._file)
        self._file = new


def _open(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)


class Lines:
    """A .jsonl file that has nothing but whole lines, each a JSON object."""

    def __init__(self, path: Path) -> None:
        """Raises OSError."""
        self._name = path.name
        self._file = Appended(path)
        self._said: set[str] = set()  # names of numbers that are not finite

    def write(self, row: dict[str, Any]) -> None:
        """Appends one line. Numbers that are not finite become null, and their names are said when that begins."""
        names = set(not_finite(row))
        if new := sorted(names - self._said):
            log.warning("not finite, so null in %s: %s", self._name, ", ".join(new))
        self._said = names
        self._file.write(json_text(row) + "\n")

    def reopen(self) -> None:
        """In a folder that was made anew."""
        self._file.reopen()

    def close(self) -> None:
        self._file.close()


class Curves:
    """TensorBoard's files. Its usual writer has a thread, which ends at the first error; the next point then blocks.

    After an error a new file is begun: TensorBoard reads all those of a folder, each up to where it is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._events: EventsWriter | None = None
        self._not_before = self._flushed = 0.0
        self._trouble = Trouble("cannot write curves", "curves can be written again", log)

    def add_scalar(self, name: str, value: float, step: int) -> None:
        """A point of a curve."""
        self.add_summary(scalar_summary(name, value), step)

    def add_image(self, name: str, image: np.ndarray, step: int) -> None:
        """A picture, uint8 [H, W, 3]."""
        self.add_summary(image_summary(name, image, dataformats="HWC"), step)

    def add_film(self, name: str, frames: np.ndarray, step: int) -> None:
        """A film, uint8 [N, H, W, 3], among the images, which play GIFs. Its own add_video would need moviepy."""
        gif = io.BytesIO()
        write_gif(frames, gif, FILM_FPS)
        height, width = frames.shape[1:3]
        image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=gif.getvalue())
        self.add_summary(Summary(value=[Summary.Value(tag=name, image=image)]), step)

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
                self._trouble.over()
        except OSError as error:
            self._fail(error)

    def begin_anew(self) -> None:
        """In a new file: the folder of the one before is gone."""
        self.close()
        self._events = None

    def close(self) -> None:
        try:
            if self._events is not None:
                self._events.close()
        except OSError as error:
            self._fail(error)

    def _fail(self, error: OSError) -> None:
        self._trouble.failed(error)
        self._events, self._not_before = None, time.monotonic() + RETRY_SECONDS
