"""A game that does not answer is said: the program waits for it, and nothing else would tell.

In this process nobody can end its call. A process of games alone (a worker of an inline run, an actor of Ray) is ended
when it is silent for too long.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from contextlib import suppress

from actors.calling import Calling

log = logging.getLogger("games")
PATIENCE = 15.0  # seconds without an answer after which it is said, once for each call
LOOK_EVERY = 1.0  # seconds


class Patience:
    """Watches calls into one game, in a thread of its own, for as long as somebody holds it."""

    def __init__(self, calls: list[Calling]) -> None:
        self._calls, self._said = calls, 0.0
        threading.Thread(target=_watch, args=[weakref.ref(self)], name="patience", daemon=True).start()

    def look(self) -> None:
        """Says which call takes too long, if one does."""
        for call in self._calls:
            since = call.since
            if since not in (0.0, self._said) and time.monotonic() - since > PATIENCE:
                self._said = since
                log.warning("%s has not returned for %.0f s: waiting for it", call, PATIENCE)


def _watch(watched: weakref.ref[Patience]) -> None:
    while patience := watched():
        with suppress(Exception):  # whatever logging meets while Python ends
            patience.look()
        del patience
        time.sleep(LOOK_EVERY)
