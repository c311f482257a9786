"""A worker's side of the mailbox."""

from __future__ import annotations

import logging
import time
from typing import Any

import numpy as np
import ray
import torch

from cluster.every import Every
from cluster.messages import Message
from cluster.on_ray.instruments import AGAIN_SECONDS, Instruments
from cluster.on_ray.mailbox import Answer, Orders
from dreamer.types import PolicySnapshot

log = logging.getLogger("mailbox")
MESSAGE_SECONDS = 1.0  # between messages to the mailbox
CALL_SECONDS = 10.0  # that a call to the mailbox may take; after that we go on without an answer
ORPHAN_SECONDS = 120.0  # without an answer from the mailbox, then an actor ends: Ray gives a node up after some 60


class MailboxClient:
    """One process's line to the mailbox. A mailbox that does not answer (it is being restarted) changes nothing."""

    def __init__(self, mailbox: Any, instruments: Instruments) -> None:
        self._mailbox, self._instruments = mailbox, instruments
        self._heard = time.monotonic()
        self.orders = Orders()
        self.published = 0  # update of the policy in the mailbox, as far as we know; mailbox.NOTHING = there is none
        self.serial = 0  # of the weights taken last
        self.failures = 0  # calls without an answer
        self._again = Every(AGAIN_SECONDS)
        instruments.announce(mailbox)

    def post(self, message: Message) -> Orders:
        """Sends a message; returns the newest orders known."""
        if self._again.due():
            self._instruments.announce(self._mailbox)
        answer: Answer | None = self._call(self._mailbox.post.remote(message))
        if answer is not None:
            self._heard, self.published = time.monotonic(), answer.published
            self.orders = answer.orders or self.orders
        return self.orders

    def cut_off(self) -> bool:
        """Whether the mailbox has been silent for so long that the run must have gone on without us, or ended."""
        return time.monotonic() - self._heard > ORPHAN_SECONDS

    def publish(self, update: int, arrays: list[np.ndarray]) -> None:
        self._mailbox.publish.remote(update, arrays)

    def newer_weights(self) -> PolicySnapshot | None:
        """The published policy if we have not got it yet."""
        weights = self._call(self._mailbox.weights.remote(self.serial))
        arrays = self._call(weights.ref[0]) if weights else None
        if weights is None or arrays is None:
            return None
        self.serial = weights.serial
        # Ray hands out read-only views of shared memory; they are only copied from.
        return PolicySnapshot(weights.update, [torch.tensor(array) for array in arrays])

    def _call(self, ref: Any) -> Any:
        try:
            return ray.get(ref, timeout=CALL_SECONDS)
        except (ray.exceptions.RayError, TimeoutError) as error:
            self.failures += 1
            log.warning("the mailbox does not answer (%s); going on", type(error).__name__)
            return None
