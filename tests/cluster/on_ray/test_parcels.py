"""Messages from the mailbox to the driver: none is lost with an answer that never came, none counts twice."""

from __future__ import annotations

from cluster.messages import Note
from cluster.on_ray.parcels import Outbox, Parcel, Reader


def note(text: str) -> Note:
    return Note("actor-0", text)


def texts(messages: list) -> str:
    return "".join(message.text for message in messages)


def box_of(text: str, box: Outbox | None = None) -> Outbox:
    box = box or Outbox()
    for letter in text:
        box.put(note(letter))
    return box


def test_an_answer_that_never_came_is_given_again() -> None:
    box, reader = box_of("ab"), Reader()
    box.take(reader.receipt)  # the driver's call ran into its time-out
    box_of("c", box)
    assert texts(reader.open(box.take(reader.receipt))) == "abc"
    assert box.waiting() == 3, "kept until the next question says that they have come"
    assert texts(reader.open(box.take(reader.receipt))) == ""
    assert box.waiting() == 0


def test_the_same_parcel_twice_brings_nothing_new() -> None:
    box, reader = box_of("ab"), Reader()
    asked = reader.receipt
    assert texts(reader.open(box.take(asked))) == "ab"
    box_of("c", box)
    again = box.take(asked)  # a receipt that came late
    assert texts(again.messages) == "abc" and texts(reader.open(again)) == "c"
    assert texts(reader.open(again)) == ""


def test_what_was_acknowledged_is_let_go_and_the_rest_stays() -> None:
    box, reader = box_of("ab"), Reader()
    reader.open(box.take(reader.receipt))
    box_of("cd", box)
    lost = box.take(reader.receipt)
    assert texts(lost.messages) == "cd" == texts(box.take(reader.receipt).messages)
    assert texts(reader.open(box.take(reader.receipt))) == "cd"


def test_a_box_that_is_started_again_counts_anew() -> None:
    box, reader = box_of("abc"), Reader()
    reader.open(box.take(reader.receipt))
    fresh = box_of("xy")  # fewer than before: their numbers are known ones
    assert texts(reader.open(fresh.take(reader.receipt))) == "xy"
    assert texts(reader.open(fresh.take(reader.receipt))) == "" and fresh.waiting() == 0
    assert texts(reader.open(box_of("", None).take(reader.receipt))) == ""


def test_an_empty_box_that_is_started_again_is_known_from_then_on() -> None:
    reader = Reader()
    reader.open(box_of("abc").take(reader.receipt))
    fresh = Outbox()
    assert reader.open(fresh.take(reader.receipt)) == []
    box_of("d", fresh)
    assert texts(reader.open(fresh.take(reader.receipt))) == "d"
    assert isinstance(fresh.take(reader.receipt), Parcel) and fresh.waiting() == 0
