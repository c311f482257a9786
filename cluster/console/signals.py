"""What Ctrl-C, SIGTERM and the end of the terminal (SIGHUP) do: exit code 128 + signal, and never a traceback.

    while libraries are imported   the process ends at once: nothing has begun
    in every command               Interrupted is raised, and what was begun cleaned up; the second ends at once
    while `train` trains           Stop remembers it: save and end; the second ends at once
    when the command is over       the process ends at once, with the command's exit code

Two at once are one: `timeout` and others who pass signals on send them to the process and to its group.

Needs nothing but the standard library: it comes before all other imports.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread
from types import FrameType

from cluster.console.terminal import say_now

Handler = Callable[[int, FrameType | None], None]
ALL = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
AT_ONCE = 0.5  # seconds


class Interrupted(KeyboardInterrupt):
    """A signal asks for the end."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def take(handler: Handler) -> None:
    """Lets `handler` take the signals, but SIGHUP not where it is ignored from the start, as nohup asks for.

    Only the main thread can do that; in another one the signals are somebody else's business.
    """
    if current_thread() is not main_thread():
        return
    for number in ALL:
        if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
            continue
        signal.signal(number, handler)


@contextmanager
def as_before() -> Iterator[None]:
    """Gives every signal back to whoever had it."""
    before = {number: signal.getsignal(number) for number in ALL}
    try:
        yield
    finally:
        if current_thread() is main_thread():
            for number, handler in before.items():
                signal.signal(number, handler)


def quit_at_once(number: int, frame: FrameType | None) -> None:
    """For a time when nothing can be lost. Libraries make of an exception in their imports what they like."""
    os._exit(128 + number)


def quit_with(code: int) -> Handler:
    """For the time after the end: what libraries still do then is not worth a traceback, nor another exit code."""
    return lambda number, frame: os._exit(code)


def ignore() -> None:
    """For the very last: Python puts the system's handlers back in the place of its own, and takes libraries apart. A
    signal then would be the process's end in place of its exit code.
    """
    for number in ALL:
        signal.signal(number, signal.SIG_IGN)


class Interrupt:
    """Raises Interrupted at the first signal."""

    def __init__(self) -> None:
        self.signal, self._at = 0, 0.0

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.signal:
            _second(number, self._at)
            return
        self.signal, self._at = number, time.monotonic()
        raise Interrupted(number)


class Stop:
    """Remembers which signal asked for the end; 0 = none yet. Must be made in the main thread."""

    def __init__(self) -> None:
        self.signal, self._at = 0, 0.0
        self.install()

    def install(self) -> None:
        """Takes the signals; again after anything that takes them for itself, as ray.init does."""
        take(self._handle)

    @property
    def exit_code(self) -> int:
        """0, or 128 + the signal, as shells count."""
        return 128 + self.signal if self.signal else 0

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.signal:
            _second(number, self._at)
            return
        self.signal, self._at = number, time.monotonic()
        say_now("\nsaving; a second signal quits at once\n")


def _second(number: int, first: float) -> None:
    """A terminal that closes may say so twice, and whoever ends a session sends SIGHUP beside SIGTERM: that is one."""
    if number != signal.SIGHUP and time.monotonic() - first > AT_ONCE:
        os._exit(128 + number)


@contextmanager
def withheld() -> Iterator[None]:
    """Ctrl-C and the end of the terminal wait; processes started meanwhile never hear of them.

    They go to every process of a terminal, and those of Ray must live until all is saved.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
