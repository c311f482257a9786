"""log.txt: everything that is said to the person who watches is also kept, and why a run ended."""

from __future__ import annotations

import logging
import os
import shlex
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cluster.errors import in_one_line
from cluster.run.files import Appended
from replay.errors import UserError

log = logging.getLogger("run")
BEGAN = "began:"  # the first words of an invocation: `status` reads on from the last one


class LogFile(logging.Handler):
    """Keeps what is said until there is a file for it. A file that cannot be written costs no more than its lines."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        self._waiting: list[logging.LogRecord] = []
        self._file: Appended | None = None

    def open(self, path: Path) -> None:
        """From now on in this file. Raises OSError."""
        self._file = Appended(path)
        waiting, self._waiting = self._waiting, []
        for record in waiting:
            self.emit(record)

    def reopen(self) -> None:
        """In a run directory that was made anew."""
        if self._file is not None:
            self._file.reopen()

    def emit(self, record: logging.LogRecord) -> None:
        if self._file is None:
            self._waiting.append(record)
        else:
            self._file.write(self.format(record) + "\n")

    def ended_by(self, error: BaseException) -> None:
        """Keeps why the run ended, with where in the program; not for the screen, where Python or we say it anyway."""
        where = None if isinstance(error, UserError) else (type(error), error, error.__traceback__)
        text = ("ended by %s", (in_one_line(error),))
        self.handle(log.makeRecord(log.name, logging.ERROR, __file__, 0, *text, where))

    def finish(self) -> None:
        """The last line is written. Not `close`: that is called by whoever sets logging up anew for himself."""
        if self._file is not None:
            self._file.close()
            self._file = None
        self.close()


@contextmanager
def recording(arguments: list[str], name: str = "train") -> Iterator[LogFile]:
    """From here on everything is kept; the first line tells who began what, by the command `name`."""
    log.setLevel(logging.INFO)
    logging.raiseExceptions = False  # what cannot be shown is not worth a traceback on the screen
    handler = LogFile()
    command = shlex.join([name, *arguments])
    began = f"{BEGAN} {command}, process {os.getpid()} on {socket.gethostname()}"
    handler.handle(log.makeRecord(log.name, logging.INFO, __file__, 0, began, (), None))
    logging.getLogger().addHandler(handler)
    try:
        yield handler
    finally:
        logging.getLogger().removeHandler(handler)
        handler.finish()
