"""When to save."""

from __future__ import annotations

from cluster.every import FIRST_SECONDS, SaveTimes


def saved_at(times: SaveTimes, trained_from: float, end: int) -> list[int]:
    """Seconds at which it is time, asked once a second."""
    return [now for now in range(end) if times.due(trained=now >= trained_from, now=float(now))]


def test_the_first_checkpoint_comes_soon_after_the_first_updates() -> None:
    """100 s of prefill; then 20 s of training, which are lost to whoever kills the run now; then every 300 s."""
    saved: list[int] = []
    times = SaveTimes(300.0, has_one=lambda: bool(saved))
    for now in range(1000):
        if times.due(trained=now >= 100, now=float(now)):
            saved.append(now)
    assert FIRST_SECONDS == 20 and saved == [120, 420, 720]


def test_a_run_with_a_checkpoint_keeps_to_its_interval() -> None:
    assert saved_at(SaveTimes(300.0, has_one=lambda: True), 0, 1000) == [300, 600, 900]


def test_a_shorter_interval_holds_from_the_beginning() -> None:
    assert saved_at(SaveTimes(10.0, has_one=lambda: True), 0, 35) == [10, 20, 30]


def test_a_failed_first_try_is_not_repeated_all_the_time() -> None:
    assert saved_at(SaveTimes(300.0, has_one=lambda: False), 100, 1000) == [120, 420, 720]


def test_checkpoints_that_were_deleted_are_made_good_soon() -> None:
    there = True
    times = SaveTimes(300.0, has_one=lambda: there)
    assert saved_at(times, 0, 310) == [300]
    there = False
    assert [now for now in range(310, 400) if times.due(trained=True, now=float(now))] == [330]


def test_zero_is_never() -> None:
    assert saved_at(SaveTimes(0.0, has_one=lambda: False), 0, 1000) == []
