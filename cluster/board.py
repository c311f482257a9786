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
import torch

from cluster.messages import Message, Note
from dreamer.types import PolicySnapshot

log = logging.getLogger("board")
CALL_SECONDS = 10.0  # that a call to the board may take; after that we go on without an answer
ORPHAN_SECONDS = 120.0  # without an answer from the board, after which an actor ends: Ray gives a node up after some 60


class Orders(NamedTuple):
    """What the driver wants of everybody."""

    stop_actors: bool = False
    stop_learner: bool = False
    policy_step: int = 0  # played so far, for the learner's checkpoints
    players: tuple[int, ...] = ()  # actors that play now, in order: each has its share of exploration
    oldest: tuple[tuple[int, int], ...] = ()  # (actor, incarnation): older incarnations of it must end

    def ends(self, actor: int, incarnation: int) -> bool:
        """Whether this copy of an actor must end: everybody does, it was retired, or a newer one has its place.

        A copy can outlive its place: cut off from the head, it plays on while Ray has long given it up.
        """
        return self.stop_actors or incarnation < dict(self.oldest).get(actor, 0)


class Answer(NamedTuple):
    """What the board says to whoever leaves a message."""

    orders: Orders | None  # None: it was started again just now, and the driver has not spoken yet
    has_weights: bool  # if not, the learner is to publish again


class Weights(NamedTuple):
    """A published policy."""

    serial: int  # grows with every publication, also when a learner or a board is started again
    update: int
    ref: list[Any]  # [object reference to list of arrays]; in a list, so that Ray hands on the reference


@ray.remote(num_cpus=0, max_restarts=-1)
class Board:
    """Mailbox for weights (newest only) and messages (until the driver takes them).

    Ray starts it again when it dies, empty: the driver repeats its orders twice a second, the learner publishes when it
    hears that there are no weights, and the totals in an actor's next message make up for those that were lost.
    """

    def __init__(self) -> None:
        self._weights: Weights | None = None
        self._serial = time.time_ns()  # a board that is started again does not use a number twice
        self._messages: list[Message] = []
        self._orders: Orders | None = None

    def publish(self, update: int, arrays: list[np.ndarray]) -> None:
        """Replaces the published policy."""
        self._serial += 1
        self._weights = Weights(self._serial, update, [ray.put(arrays)])

    def weights(self, have: int) -> Weights | None:
        """The published policy, if it is another than number `have`."""
        return self._weights if self._weights and self._weights.serial != have else None

    def post(self, message: Message) -> Answer:
        """Leaves a message for the driver; returns its orders."""
        self._messages.append(message)
        return Answer(self._orders, self._weights is not None)

    def exchange(self, orders: Orders) -> list[Message]:
        """The driver's call: gives orders, takes the messages."""
        self._orders = orders
        messages, self._messages = self._messages, []
        return messages


class BoardLink:
    """One process's line to the board. A board that does not answer (it is being restarted) changes nothing."""

    def __init__(self, board: Any) -> None:
        self._board = board
        self._heard = time.monotonic()
        self.orders = Orders()
        self.has_weights = True  # the board has, as far as we know
        self.serial = 0  # of the weights taken last

    def post(self, message: Message) -> Orders:
        """Sends a message; returns the newest orders known."""
        answer: Answer | None = self._call(self._board.post.remote(message))
        if answer is not None:
            self._heard, self.has_weights = time.monotonic(), answer.has_weights
            self.orders = answer.orders or self.orders
        return self.orders

    def cut_off(self) -> bool:
        """Whether the board has been silent for so long that the run must have gone on without us, or ended."""
        return time.monotonic() - self._heard > ORPHAN_SECONDS

    def publish(self, update: int, arrays: list[np.ndarray]) -> None:
        self._board.publish.remote(update, arrays)

    def newer_weights(self) -> PolicySnapshot | None:
        """The published policy if we have not got it yet."""
        weights = self._call(self._board.weights.remote(self.serial))
        arrays = self._call(weights.ref[0]) if weights else None
        if weights is None or arrays is None:
            return None
        self.serial = weights.serial
        # Ray hands out read-only views of shared memory; they are only copied from.
        return PolicySnapshot(weights.update, [torch.tensor(array) for array in arrays])

    @staticmethod
    def _call(ref: Any) -> Any:
        try:
            return ray.get(ref, timeout=CALL_SECONDS)
        except (ray.exceptions.RayError, TimeoutError) as error:
            log.warning("the board does not answer (%s); going on", type(error).__name__)
            return None


class NoteHandler(logging.Handler):
    """Sends warnings of a worker process to the driver, where somebody reads them."""

    def __init__(self, board: Any, role: str) -> None:
        super().__init__(logging.WARNING)
        self._board, self._role = board, role

    def emit(self, record: logging.LogRecord) -> None:
        self._board.post.remote(Note(self._role, record.getMessage()))
