"""What a row of the log says of an interval."""

from __future__ import annotations

from cluster.messages import LearnerMessage
from cluster.run.interval import Interval


def message(updates: int, seconds: float) -> LearnerMessage:
    return LearnerMessage(updates, updates, {"kl": 2.0}, seconds, 0.25, None, {}, {})


def test_a_last_interval_of_a_moment_is_as_fast_as_its_message() -> None:
    interval = Interval()
    interval.add(message(18, 1.0))
    row = interval.row()
    assert 17 < row["updates_per_second"] <= 18 and row["learner_wait"] == 0.25 and row["kl"] == 2.0


def test_time_of_which_no_message_tells_counts() -> None:
    interval = Interval()
    interval._began -= 10.0
    interval.add(message(18, 1.0))
    assert 1.7 < interval.row()["updates_per_second"] <= 1.8
