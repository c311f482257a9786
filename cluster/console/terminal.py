"""What a person reads is a service to that person: it may fail without harm, and holds nobody up.

The reader of a pipe goes (`train 2>&1 | head`), or stops reading; a disk is full under `2> log`; a terminal is closed,
or its output stopped with Ctrl-S; there is none at all (`2>&-`); it cannot show every letter. log.txt has the lines.

What a command prints on standard output is its result: that it could not be written is an error. Nobody else prints
there: what libraries, the games and the programs that these start write to descriptor 1 goes to standard error.
"""

from __future__ import annotations

import io
import os
import select
import sys
from contextlib import suppress

PATIENCE_MS = 1000  # for a reader that does not read, once; then nothing is waited for until it does
PIECE = select.PIPE_BUF  # bytes for which a pipe that takes any has room


class Screen(io.RawIOBase):
    """A file descriptor for people: what cannot be written is left out, without a word."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._patience = PATIENCE_MS

    def write(self, data: object) -> int:
        rest = memoryview(data).cast("B")  # type: ignore[arg-type]
        length = len(rest)
        with suppress(OSError):
            while rest and self._takes_more():
                with suppress(BlockingIOError):  # of a pipe that was set so by somebody else
                    rest = rest[os.write(self._descriptor, rest[:PIECE]) :]
        return length

    def _takes_more(self) -> bool:
        ready = takes(self._descriptor, self._patience)
        self._patience = PATIENCE_MS if ready else 0
        return ready

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)


def takes(descriptor: int, milliseconds: int) -> bool:
    """Whether something can be written without waiting for a reader. An error counts as yes: the write will have it."""
    return bool(_poll(descriptor, milliseconds))


def result_is_unwanted() -> bool:
    """Whether the reader of the result has gone: `evaluate --json | head -1`."""
    return any(events & select.POLLERR for _, events in _poll(_descriptor_of(sys.stdout), 0))


def _poll(descriptor: int, milliseconds: int) -> list[tuple[int, int]]:
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return poll.poll(milliseconds)


def say_now(text: str) -> None:
    """For a signal's handler: to standard error, if that takes it."""
    with suppress(OSError):
        if takes(2, 0):
            os.write(2, text.encode())


def prepare() -> None:
    """Makes standard output and standard error of this process what this module says."""
    for descriptor in (0, 1, 2):
        _open(descriptor)
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 (for the life of the process)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    if sys.stderr is None or _descriptor_of(sys.stderr) == 2:
        encoding = "utf-8" if sys.stderr is None else sys.stderr.encoding
        sys.stderr = io.TextIOWrapper(
            Screen(2), encoding=encoding, errors="backslashreplace", line_buffering=True, write_through=True
        )


def keep_result_apart() -> None:
    """Makes standard output of this process one that only sys.stdout leads to; for the life of the process."""
    for descriptor in (0, 1, 2):
        _open(descriptor)
    encoding = "utf-8" if sys.stdout is None else sys.stdout.encoding
    sys.stdout = open(os.dup(1), "w", encoding=encoding, closefd=False)  # noqa: SIM115
    os.dup2(2, 1)


def _open(descriptor: int) -> None:
    """One that was closed at the start would be given to the next file that is opened, and get what others print."""
    try:
        os.fstat(descriptor)
    except OSError:
        os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest that is free: this one


def _descriptor_of(stream: io.TextIOBase) -> int:
    try:
        return stream.fileno()
    except (OSError, ValueError):  # a test's
        return -1


def flush_result() -> None:
    """Writes what is left of the result. Raises OSError; Python does not try again at its end."""
    try:
        sys.stdout.flush()
    except OSError:
        drop_result()
        raise


def drop_result() -> None:
    """What is left of the result goes nowhere."""
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), _descriptor_of(sys.stdout), inheritable=False)
        sys.stdout.flush()
