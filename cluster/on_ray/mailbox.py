"""The mailbox: a tiny Ray actor between the driver, the learner and the actors.

The learner's own Ray actor is inside its loop and cannot answer calls; and what the mailbox puts into the object store
outlives a learner that dies.
"""

from __future__ import annotations

import logging
import time
from typing import Any, NamedTuple

import numpy as np
import ray

from cluster.config import ClusterConfig
from cluster.messages import Message, Note
from cluster.metrics.spec import MAILBOX
from cluster.on_ray.instruments import open_instruments
from cluster.on_ray.parcels import Outbox, Parcel, Receipt

NOTHING = -1  # in the place of an update: there are no weights in the mailbox


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
    """What the mailbox says to whoever leaves a message."""

    orders: Orders | None  # None: it was started again just now, and the driver has not spoken yet
    published: int  # update of the policy in the mailbox; NOTHING: the learner is to publish again


class Weights(NamedTuple):
    """A published policy."""

    serial: int  # grows with every publication, also when a learner or a mailbox is started again
    update: int
    ref: list[Any]  # [object reference to list of arrays]; in a list, so that Ray hands on the reference


@ray.remote(num_cpus=0, max_restarts=-1)
class Mailbox:
    """Keeps weights (newest only) and messages (until the driver has got them).

    Ray starts it again when it dies, empty: the driver repeats its orders twice a second, the learner publishes when it
    hears that there are no weights, and the totals in an actor's next message make up for those that were lost.
    """

    def __init__(self, cluster: ClusterConfig) -> None:
        self._weights: Weights | None = None
        self._serial = time.time_ns()  # a mailbox that is started again does not use a number twice
        self._mail = Outbox()
        self._orders: Orders | None = None
        self._meter, target = open_instruments(cluster, MAILBOX, MAILBOX)
        if target:
            self._mail.put(target)

    def publish(self, update: int, arrays: list[np.ndarray]) -> None:
        """Replaces the published policy."""
        self._serial += 1
        self._weights = Weights(self._serial, update, [ray.put(arrays)])
        self._meter.add("dreamer_board_publications_total")
        self._meter.set("dreamer_board_weights_bytes", sum(array.nbytes for array in arrays))
        self._meter.set("dreamer_board_weights_timestamp_seconds", time.time())

    def weights(self, have: int) -> Weights | None:
        """The published policy, if it is another than number `have`."""
        if self._weights is None or self._weights.serial == have:
            return None
        self._meter.add("dreamer_board_pulls_total")
        return self._weights

    def post(self, message: Message) -> Answer:
        """Leaves a message for the driver; returns its orders."""
        self._mail.put(message)
        self._meter.set("dreamer_board_messages_waiting", self._mail.waiting())
        return Answer(self._orders, self._weights.update if self._weights else NOTHING)

    def exchange(self, orders: Orders, receipt: Receipt) -> Parcel:
        """The driver's call: gives orders, says what it has got, takes the messages that it has not."""
        self._orders = orders
        parcel = self._mail.take(receipt)
        self._meter.set("dreamer_board_messages_waiting", self._mail.waiting())
        return parcel


class NoteHandler(logging.Handler):
    """Sends warnings of a worker process to the driver, where somebody reads them."""

    def __init__(self, mailbox: Any, role: str) -> None:
        super().__init__(logging.WARNING)
        self._mailbox, self._role = mailbox, role

    def emit(self, record: logging.LogRecord) -> None:
        self._mailbox.post.remote(Note(self._role, record.getMessage()))
