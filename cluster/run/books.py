"""What became of every policy step, incarnation by incarnation: the counters that must add up whatever dies.

    played = acknowledged + dropped + open

acknowledged: in a window that the replay has confirmed. dropped: in no window and never will be. open: in a window
that is still growing or on its way. An incarnation that is killed takes with it what is open, and what it played since
its last message, which nobody knows of.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any, NamedTuple

from cluster.console.json_text import json_text
from cluster.messages import ActorMessage
from cluster.trouble import cannot_write
from replay.atomic import write_text

log = logging.getLogger("books")


class Account(NamedTuple):
    """Policy steps of one incarnation of an actor, since it began."""

    played: int = 0
    acknowledged: int = 0
    dropped: int = 0


class Books:
    """The accounts of one run. Those of drivers before this one (`--resume`) stay in the file as they were."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._accounts: dict[tuple[int, int], Account] = {}
        self._earlier = read(path)
        self._trouble = cannot_write(path.name, log)
        self._driver = max((row["driver"] for row in self._earlier), default=-1) + 1

    def take(self, message: ActorMessage) -> int:
        """Books a message; returns the policy steps that are new. One that comes late changes nothing."""
        key = message.actor, message.incarnation
        before = self._accounts.get(key, Account())
        if message.played_total < before.played:
            return 0
        self._accounts[key] = Account(message.played_total, message.acknowledged, message.dropped)
        return message.played_total - before.played

    def acknowledged(self) -> int:
        """Policy steps that the replay has confirmed to actors started by this driver."""
        return sum(account.acknowledged for account in self._accounts.values())

    def open_steps(self) -> int:
        """Policy steps of these actors that are neither confirmed nor dropped: a few windows for each game."""
        return sum(account.played - account.acknowledged - account.dropped for account in self._accounts.values())

    def save(self) -> None:
        """Writes one object per incarnation: driver (0 = the run's first), actor, incarnation and its account."""
        own = [
            {"driver": self._driver, "actor": actor, "incarnation": incarnation, **account._asdict()}
            for (actor, incarnation), account in sorted(self._accounts.items())
        ]
        try:
            write_text(self._path, json_text([*self._earlier, *own], indent=0) + "\n")
        except OSError as error:  # the next one has these sums, too
            self._trouble.failed(error)
        else:
            self._trouble.over()


def read(path: Path) -> list[dict[str, Any]]:
    """The accounts in a file; none if there is no such file, or rubbish in it, which is said."""
    try:
        rows = json.loads(path.read_text())
    except FileNotFoundError:
        return []
    except (OSError, ValueError):
        rows = None
    if isinstance(rows, list) and all(isinstance(row, dict) and isinstance(row.get("driver"), int) for row in rows):
        return rows
    log.warning("%s is damaged: what became of earlier policy steps is not known any more", path)
    return []
