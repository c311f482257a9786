"""A game is a guest in its process: what it changes of what is everybody's is put back after the call.

A seed for torch in `reset` would let every game begin with the same actions, and training dream the same dreams;
`logging.disable` would empty log.txt; a handler for SIGTERM would end a run without saving it.
"""

from __future__ import annotations

import logging
import signal
import sys
import threading
from typing import Any, NamedTuple

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Logging(NamedTuple):
    """Where it goes, and how much of it."""

    handlers: list[logging.Handler]  # a guest may add some
    level: int
    disabled: int  # up to this level nothing is logged
    silent: set[str]  # loggers that are switched off


class Torch(NamedTuple):
    """How it computes, where it is loaded."""

    gradients: bool
    dtype: Any


class House(NamedTuple):
    """What all in a process share."""

    signals: list[Any]  # who handles SIGNALS
    logging: Logging
    torch: Torch | None


def look() -> House:
    """As it is now. Takes some microseconds."""
    root, torch = logging.getLogger(), sys.modules.get("torch")
    silent = {name for name, logger in _loggers() if logger.disabled}
    return House(
        [signal.getsignal(number) for number in SIGNALS],
        Logging(list(root.handlers), root.level, root.manager.disable, silent),
        Torch(torch.is_grad_enabled(), torch.get_default_dtype()) if torch else None,
    )


def put_back(before: House) -> list[str]:
    """Makes all as it was; what was not, in words."""
    now, changed = look(), []
    if now.signals != before.signals and threading.current_thread() is threading.main_thread():
        changed.append("who handles signals")
        for number, handler in zip(SIGNALS, before.signals, strict=True):
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
    if _lost(before.logging, now.logging):
        changed.append("logging")
        _put_logging_back(before.logging)
    if before.torch is not None and now.torch != before.torch:
        changed.append("torch's gradients or dtype")
        torch = sys.modules["torch"]
        torch.set_grad_enabled(before.torch.gradients)
        torch.set_default_dtype(before.torch.dtype)
    return changed


class Chance:
    """Between `arrive` and `leave` torch's generator is a guest's own: it may seed it, and draw from it."""

    def __init__(self) -> None:
        self._ours = self._theirs = None  # states of the generator

    def arrive(self) -> None:
        if torch := sys.modules.get("torch"):
            self._ours = torch.get_rng_state()
            if self._theirs is not None:
                torch.set_rng_state(self._theirs)

    def leave(self) -> None:
        if self._ours is not None:
            torch = sys.modules["torch"]
            self._theirs = torch.get_rng_state()
            torch.set_rng_state(self._ours)


def _lost(before: Logging, now: Logging) -> bool:
    more_silent = bool(now.silent - before.silent) or (now.level, now.disabled) != (before.level, before.disabled)
    return more_silent or any(handler not in now.handlers for handler in before.handlers)


def _put_logging_back(before: Logging) -> None:
    root = logging.getLogger()
    root.handlers[:] = [*before.handlers, *(one for one in root.handlers if one not in before.handlers)]
    root.setLevel(before.level)
    logging.disable(before.disabled)
    for name, logger in _loggers():
        logger.disabled = name in before.silent


def _loggers() -> list[tuple[str, logging.Logger]]:
    found = list(logging.getLogger().manager.loggerDict.items())
    return [(name, logger) for name, logger in found if isinstance(logger, logging.Logger)]
