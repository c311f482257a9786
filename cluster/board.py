"""The notice board: a tiny Ray actor between the driver, the learner and the actors.

The learner's own Ray actor is inside its loop and cannot answer calls; and what the board puts into the object store
outlives a learner that dies.
"""

from __future__ import annotations

import logging
import time
from typing import Any, NamedTuple

import numpy as np
import ray

from cluster.config import ClusterConfig
from cluster.instruments import open_instruments
from cluster.messages import Message, Note


class Orders(NamedTuple):
    """What the driver wants of everybody."""

    stop_actors: bool = False
    stop_learner: bool = False
    policy_step: int = 0  # played so far, for the learner's checkpoints
    published: int = -1  # update of the policy on the board, which fills this in; -1 = none yet


class Weights(NamedTuple):
    """A published policy."""

    serial: int  # grows with every publication, also when a restarted learner begins at an older update
    update: int
    ref: list[Any]  # [object reference to list of arrays]; in a list, so that Ray hands on the reference


@ray.remote(num_cpus=0, max_restarts=-1)
class Board:
    """Mailbox for weights (newest only) and messages (until the driver takes them)."""

    def __init__(self, cluster: ClusterConfig) -> None:
        self._weights: Weights | None = None
        self._messages: list[Message] = []
        self._orders = Orders()
        self._meter, self._target = open_instruments(cluster, "board", "board")

    def publish(self, update: int, arrays: list[np.ndarray]) -> None:
        """Replaces the published policy."""
        serial = self._weights.serial + 1 if self._weights else 1
        self._weights = Weights(serial, update, [ray.put(arrays)])
        self._orders = self._orders._replace(published=update)
        self._meter.add("dreamer_board_publications_total")
        self._meter.set("dreamer_board_weights_bytes", sum(array.nbytes for array in arrays))
        self._meter.set("dreamer_board_weights_timestamp_seconds", time.time())

    def weights(self, have: int) -> Weights | None:
        """The published policy, if it is another than number `have`."""
        if self._weights is None or self._weights.serial == have:
            return None
        self._meter.add("dreamer_board_pulls_total")
        return self._weights

    def post(self, message: Message) -> Orders:
        """Leaves a message for the driver; returns its orders."""
        self._messages.append(message)
        self._meter.set("dreamer_board_messages_waiting", len(self._messages))
        return self._orders

    def exchange(self, orders: Orders) -> list[Message]:
        """The driver's call: gives orders, takes the messages."""
        self._orders = orders._replace(published=self._orders.published)
        messages, self._messages = self._messages, []
        self._meter.set("dreamer_board_messages_waiting", 0)
        return [*messages, self._target] if self._target else messages


class NoteHandler(logging.Handler):
    """Sends warnings of a worker process to the driver, where somebody reads them."""

    def __init__(self, board: Any, role: str) -> None:
        super().__init__(logging.WARNING)
        self._board, self._role = board, role

    def emit(self, record: logging.LogRecord) -> None:
        self._board.post.remote(Note(self._role, record.getMessage()))
