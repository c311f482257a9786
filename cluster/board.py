"""The notice board: a tiny Ray actor between the driver, the learner and the actors.

The learner's own Ray actor is inside its loop and cannot answer calls; and what the board puts into the object store
outlives a learner that dies.
"""

from __future__ import annotations

import logging
from typing import Any, NamedTuple

import numpy as np
import ray

from cluster.messages import Message, Note


class Orders(NamedTuple):
    """What the driver wants of everybody."""

    stop_actors: bool = False
    stop_learner: bool = False
    policy_step: int = 0  # played so far, for the learner's checkpoints


class Weights(NamedTuple):
    """A published policy."""

    serial: int  # grows with every publication, also when a restarted learner begins at an older update
    update: int
    ref: list[Any]  # [object reference to list of arrays]; in a list, so that Ray hands on the reference


@ray.remote(num_cpus=0, max_restarts=-1)
class Board:
    """Mailbox for weights (newest only) and messages (until the driver takes them)."""

    def __init__(self) -> None:
        self._weights: Weights | None = None
        self._messages: list[Message] = []
        self._orders = Orders()

    def publish(self, update: int, arrays: list[np.ndarray]) -> None:
        """Replaces the published policy."""
        serial = self._weights.serial + 1 if self._weights else 1
        self._weights = Weights(serial, update, [ray.put(arrays)])

    def weights(self, have: int) -> Weights | None:
        """The published policy, if it is another than number `have`."""
        return self._weights if self._weights and self._weights.serial != have else None

    def post(self, message: Message) -> Orders:
        """Leaves a message for the driver; returns its orders."""
        self._messages.append(message)
        return self._orders

    def exchange(self, orders: Orders) -> list[Message]:
        """The driver's call: gives orders, takes the messages."""
        self._orders = orders
        messages, self._messages = self._messages, []
        return messages


class NoteHandler(logging.Handler):
    """Sends warnings of a worker process to the driver, where somebody reads them."""

    def __init__(self, board: Any, role: str) -> None:
        super().__init__(logging.WARNING)
        self._board, self._role = board, role

    def emit(self, record: logging.LogRecord) -> None:
        self._board.post.remote(Note(self._role, record.getMessage()))
