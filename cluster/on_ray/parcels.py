"""Messages that get lost neither with an answer nor twice: kept until the reader says what it has got.

    box (in the mailbox)          reader (the driver)
    put(a) put(b)
                       <- take(Receipt("", 0))
    Parcel("x7", a1 b2) ->        lost, or late: the call ran into its time-out
    put(c)
                       <- take(Receipt("", 0))
    Parcel("x7", a1 b2 c3) ->     open: a b c
                       <- take(Receipt("x7", 3))          a b c are let go

A box that is started again has another name, so that its numbers do not count as known.
"""

from __future__ import annotations

import secrets
from typing import NamedTuple

from cluster.messages import Message


class Receipt(NamedTuple):
    """What a reader has got: everything up to `number` of the box of that name."""

    box: str = ""
    number: int = 0


class Parcel(NamedTuple):
    """Messages under way; `number` is that of the last one, in order and without gaps."""

    box: str
    number: int
    messages: list[Message]


class Outbox:
    """The sender's side."""

    def __init__(self) -> None:
        self._name = secrets.token_hex(8)
        self._number = 0  # of the last message that was put in
        self._kept: list[Message] = []  # the last ones, up to that number

    def put(self, message: Message) -> None:
        self._number += 1
        self._kept.append(message)

    def take(self, receipt: Receipt) -> Parcel:
        """Lets go what the reader has got; gives all that it has not."""
        if receipt.box == self._name:
            unread = self._number - receipt.number
            self._kept = self._kept[len(self._kept) - unread :] if unread else []
        return Parcel(self._name, self._number, list(self._kept))

    def waiting(self) -> int:
        """Messages that the reader may not have."""
        return len(self._kept)


class Reader:
    """The reader's side."""

    def __init__(self) -> None:
        self.receipt = Receipt()  # to be sent with the next question

    def open(self, parcel: Parcel) -> list[Message]:
        """The messages that are new; the same parcel a second time brings none."""
        known = self.receipt.number if parcel.box == self.receipt.box else 0
        fresh = parcel.number - known
        if fresh <= 0:
            return []
        self.receipt = Receipt(parcel.box, parcel.number)
        return parcel.messages[-fresh:]
