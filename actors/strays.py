"""What other people's code has begun and nobody waits for: threads, destructors, what is left for the exit.

An error in there reaches no caller, and Python would print a traceback of it. A thread that never ends would hold the
process for ever, when all is said and saved. Needs nothing but the standard library.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
import time
import traceback
from contextlib import suppress
from types import TracebackType

log = logging.getLogger("strays")
PATIENCE = 3.0  # seconds that threads have at the end, all together


def tell() -> None:
    """From now on an error that nobody hears of is one line."""
    sys.unraisablehook = lambda found: _say(
        found.err_msg or f"Exception ignored in {name_of(found.object)}", found.exc_value, found.exc_traceback
    )
    threading.excepthook = lambda found: (
        None
        if found.exc_type is SystemExit
        else _say(
            f"a thread has ended ({found.thread.name if found.thread else '?'})", found.exc_value, found.exc_traceback
        )
    )


def leave(code: int) -> None:
    """Ends the process here and now if there are threads that do not end; else does nothing."""
    deadline = time.monotonic() + PATIENCE
    for thread in _lingering():
        thread.join(max(0.0, deadline - time.monotonic()))
    if names := [thread.name for thread in _lingering()]:
        log.warning("threads of somebody else's do not end (%s): ending without them", ", ".join(names[:5]))
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)


def _lingering() -> list[threading.Thread]:
    return [one for one in threading.enumerate() if one is not threading.main_thread() and not one.daemon]


def _say(what: str, error: BaseException | None, trace: TracebackType | None) -> None:
    """Never raises: Python would print that, too."""
    with suppress(Exception):
        text = " ".join("".join(traceback.format_exception_only(error)).split())
        frames = traceback.extract_tb(trace)
        where = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
        log.warning("%s: %s%s", what, text[:300], where)


def name_of(what: object) -> str:
    """Of the function or the object in which it happened."""
    return str(getattr(what, "__qualname__", None) or type(what).__qualname__)
