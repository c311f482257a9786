"""The actor processes of a run: as many as are wanted and have a place, more when nodes join, fewer when they leave.

An actor is known by its index and, each time that it is started, by a new incarnation. Of two copies (one may still
play behind a cut link when its successor starts) only the newest incarnation may go on: the orders say so.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from cluster.config import ClusterConfig
from cluster.messages import ActorMessage
from cluster.on_ray import placement
from cluster.on_ray.mailbox import Orders
from cluster.on_ray.worker import HEALTHY_SECONDS, Worker

LOOK_SECONDS = 2.0  # between looks at what the nodes offer
SAY_SECONDS = 10.0  # between two lines on who has a place
LEAVE_SECONDS = 30.0  # that a retired actor may take to end


class Troupe:
    """All actors."""

    def __init__(self, cluster: ClusterConfig, start: Callable[[int, int], Any], say: Callable[[str], None]) -> None:
        """start: (index, incarnation) -> Ray actor handle."""
        self._cluster, self._start, self._say = cluster, start, say
        self._actors: dict[int, Worker] = {}
        self._leaving: dict[int, Worker] = {}  # retired, not yet ended; due: when to lose patience
        self._retired: dict[int, int] = {}  # index -> the incarnation that its next copy will have
        self._room = 0  # for actors, on the nodes that are there
        self._looked = self._said_at = 0.0
        self._said = (0, 0)  # playing, waiting

    def workers(self) -> list[Worker]:
        """Those that should run."""
        return list(self._actors.values())

    def leaving(self) -> list[Worker]:
        """Those that were told to end and have not ended yet."""
        return list(self._leaving.values())

    def follow_nodes(self) -> None:
        """Adds actors and retires them, as nodes join and leave. Raises HeadLost."""
        now = time.monotonic()
        if now - self._looked < LOOK_SECONDS:
            return
        self._looked, self._room = now, placement.offered()
        wanted = placement.wanted(self._cluster, self._room)
        while len(self._actors) < wanted:
            self._add()
        # First those that wait for a place, then the last ones.
        last = sorted(self._actors, key=lambda index: (not self._actors[index].where, index))
        for index in last[wanted:]:
            self._retire(index)
        for worker in self.leaving():
            if now > worker.due:
                self.left(worker)
        if not placement.is_local(self._cluster):
            self._say_who_plays(now)

    def expected(self) -> list[str]:
        """The actors that should be running now: those that the nodes have room for."""
        by_place = sorted(self._actors, key=lambda index: (not self._actors[index].where, index))
        return [self._actors[index].role for index in by_place[: self._room]]

    def order(self, orders: Orders) -> Orders:
        """`orders` with what they must say of the actors."""
        players = tuple(index for index, worker in sorted(self._actors.items()) if worker.where)
        oldest = self._retired | {index: worker.incarnation for index, worker in self._actors.items()}
        return orders._replace(players=players, oldest=tuple(oldest.items()))

    def find(self, message: ActorMessage) -> Worker | None:
        """Whom a message is from; None for a copy that has been given up."""
        worker = self._actors.get(message.actor)
        return worker if worker and worker.incarnation == message.incarnation else None

    def hear(self, message: ActorMessage, now: float) -> None:
        """Takes note of a sign of life, and of play: a finished game, or a minute without dying."""
        worker = self.find(message)
        if worker is None:
            return
        worker.heard = now
        lived = bool(worker.where) and now - worker.started > HEALTHY_SECONDS
        worker.progressed = worker.progressed or bool(message.episodes) or (lived and message.played_total > 0)

    def hopeless(self) -> bool:
        """Whether there are actors, and all of them die again and again without having played."""
        return bool(self._actors) and all(worker.hopeless() for worker in self._actors.values())

    def left(self, worker: Worker) -> None:
        """Takes note that a retired actor has ended, or ends it."""
        worker.end()
        self._leaving = {index: other for index, other in self._leaving.items() if other is not worker}

    def lacking(self) -> str:
        """Who is still missing for training to begin; "" if nobody is."""
        placed, needed = sum(bool(worker.where) for worker in self.workers()), self._cluster.wait_for
        if placed >= needed:
            return ""
        return f"{placed} of the {needed} actor processes of cluster.wait_for run, on {placement.found()}"

    def _add(self) -> None:
        index = next(n for n in range(len(self._actors) + len(self._leaving) + 1) if not self._taken(n))
        worker = Worker(
            f"actor-{index}",
            lambda incarnation: self._start(index, incarnation),
            purpose="a finished game",
            incarnation=self._retired.pop(index, 0),
        )
        self._actors[index] = worker
        worker.launch()

    def _taken(self, index: int) -> bool:
        return index in self._actors or index in self._leaving

    def _retire(self, index: int) -> None:
        """Tells an actor to end; one without a place just goes."""
        worker = self._actors.pop(index)
        self._retired[index] = worker.incarnation + 1
        if worker.where:
            self._say(f"{worker.role} is retired: the nodes have room for {self._room} actor process(es)")
            worker.due = time.monotonic() + LEAVE_SECONDS
            self._leaving[index] = worker
        else:
            worker.end()

    def _say_who_plays(self, now: float) -> None:
        playing = sum(bool(worker.where) for worker in self.workers())
        waiting = len(self._actors) - playing
        if (playing, waiting) == self._said or now - self._said_at < SAY_SECONDS:
            return
        self._said, self._said_at = (playing, waiting), now
        self._say(f"{playing} actor process(es) play, {waiting} wait for a place; {placement.found()}")
