"""What both runtimes share: limits, the learner's tally, the actors' news, records on their way to the writers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from actors.episodes import EpisodeReport
from actors.rollout import Tick
from cluster import training
from cluster.metrics import Meter
from cluster.training import ActorNews, Gaps, Limits, Tally, append, reached
from learner.clock import Clock
from learner.config import Diverged, TrainConfig
from learner.device import prepare_learner
from learner.loop import LearnerReport
from replay import ReplayConfig, in_memory
from replay.experience import EnvSpec, PrevState, Step
from tests.dreamer.tiny import random_batch

CPU = torch.device("cpu")
SPEC = EnvSpec((8, 8, 1), 4, (3, 2))


@pytest.fixture
def tally() -> Tally:
    return Tally(100, Meter(), Clock(CPU))


def report(update: int, *, age: float = 0.0, **metrics: float) -> LearnerReport:
    values = {name: torch.tensor(value) for name, value in ({"nonfinite": 0.0} | metrics).items()}
    return LearnerReport(update, values, age, random_batch())


@pytest.mark.parametrize(
    ("limits", "now", "why"),
    [
        (Limits(), (10**9, 10**9, 1e9), ""),
        (Limits(steps=100), (99, 500, 5.0), ""),
        (Limits(steps=100), (100, 0, 0.0), "100 policy steps played"),
        (Limits(updates=40), (500, 39, 5.0), ""),
        (Limits(updates=40), (0, 40, 0.0), "40 updates done"),
        (Limits(minutes=2.0), (500, 500, 1.99), ""),
        (Limits(minutes=2.0), (0, 0, 2.0), "2.0 minutes over"),
        (Limits(updates=0), (0, 0, 0.0), "0 updates done"),
    ],
)
def test_training_ends_exactly_at_its_limit(limits: Limits, now: tuple[int, int, float], why: str) -> None:
    steps, updates, minutes = now
    assert reached(limits, policy_step=steps, update=updates, minutes=minutes) == why


def test_a_message_has_the_means_over_its_updates_and_the_next_one_begins_anew(tally: Tally) -> None:
    tally.add(report(101, age=2.0, kl=1.0))
    tally.add(report(102, age=4.0, kl=3.0))
    tally.waited(0.5)
    tally.waited(0.25)
    first = tally.message()
    assert (first.update, first.updates, first.wait_seconds) == (102, 2, 0.75)
    assert first.metrics == {"nonfinite": 0.0, "kl": 2.0, "policy_age_updates": 3.0}
    tally.add(report(103, age=8.0, kl=5.0))
    second = tally.message()
    assert (second.update, second.updates, second.wait_seconds) == (103, 1, 0.0)
    assert second.metrics == {"nonfinite": 0.0, "kl": 5.0, "policy_age_updates": 8.0}
    third = tally.message()
    assert (third.update, third.updates, third.metrics) == (103, 0, {})


def add_all(tally: Tally, nonfinite: list[float]) -> None:
    """One message about so many updates, 1 = not finite."""
    for bad in nonfinite:
        tally.add(report(tally.update + 1, nonfinite=bad))
    tally.message()


def test_updates_that_are_not_finite_are_counted_in_a_row_and_nothing_is_saved_meanwhile(
    tally: Tally, tmp_path: Path
) -> None:
    add_all(tally, [0.0, 1.0])  # one was good
    assert tally.nonfinite_in_a_row == 0 and tally.savable()
    add_all(tally, [1.0, 1.0, 1.0])
    assert tally.nonfinite_in_a_row == 3 and not tally.savable()
    add_all(tally, [])  # no update, no news
    assert tally.nonfinite_in_a_row == 3
    add_all(tally, [1.0, 1.0])
    tally.check(6, tmp_path)
    with pytest.raises(Diverged, match=r"the last 5 updates up to 107 were not finite .* there is no checkpoint yet"):
        tally.check(5, tmp_path)
    add_all(tally, [1.0, 0.0])
    assert tally.nonfinite_in_a_row == 0 and tally.savable()
    tally.check(1, tmp_path)


def tick(number: int, *, played: int = 2, episodes: int = 0) -> Tick:
    """Records of two games, each with the number of its tick and of its game in every field that has room for it."""
    numbers = np.array([10 * number, 10 * number + 1])
    step = Step(
        obs=np.broadcast_to(numbers[:, None, None, None], (2, 8, 8, 1)).astype(np.uint8),
        prev_action=(numbers % 4).astype(np.int32),
        reward=numbers.astype(np.float32),
        is_first=np.array([number == 0] * 2),
        is_terminal=np.array([False, False]),
    )
    prev = PrevState(
        np.broadcast_to(numbers[:, None], (2, 3)).astype(np.float16),
        np.broadcast_to(numbers[:, None], (2, 2)).astype(np.uint8),
    )
    ended = [EpisodeReport(0, 1.0, number, 7, 0.5)] * episodes
    return Tick(step, np.array([False, number == 3]), played, number - 1, ended, prev)


def test_every_field_of_a_tick_goes_to_the_writer_of_its_game() -> None:
    config = ReplayConfig(capacity=100, length=4, stride=2, batch=1, prefill=0, replay_ratio=100.0, stored_state=True)
    memories = [in_memory(config, SPEC, seed=0) for _ in range(2)]
    writers = [memory.writer() for memory in memories]
    for number in range(4):
        append(writers, tick(number))
    for game, memory in enumerate(memories):
        sample = memory.draw(1)
        numbers = 10 * np.arange(4) + game
        found = sample.sequences
        np.testing.assert_array_equal(found.obs[0, :, 0, 0, 0], numbers)
        np.testing.assert_array_equal(found.prev_action[0], numbers % 4)
        np.testing.assert_array_equal(found.reward[0], numbers)
        np.testing.assert_array_equal(found.prev_h[0, :, 1], numbers)
        np.testing.assert_array_equal(found.prev_z[0, :, 1], numbers)
        assert sample.policy_version.tolist() == [2]
    with pytest.raises(ValueError, match="is_first"):  # the second game ended, so its next record must begin one
        append(writers, tick(4))


class Counts:
    """Of a writer, the numbers that messages are about."""

    def __init__(self, acknowledged: int, dropped: int) -> None:
        self.acknowledged, self.dropped = acknowledged, dropped


def test_an_actors_message_adds_up_its_ticks_games_and_writers() -> None:
    news, writers = ActorNews(3, 5), [Counts(20, 1), Counts(30, 4)]
    news.add(tick(0, played=0))
    news.add(tick(1, episodes=1))
    news.add(tick(2, episodes=2))
    news.wait_seconds += 0.5
    first = news.message(writers)
    assert (first.actor, first.incarnation, first.played_total, first.policy_version) == (3, 5, 4, 1)
    assert (first.acknowledged, first.dropped, first.wait_seconds) == (50, 5, 0.5)
    assert [episode.length for episode in first.episodes] == [1, 2, 2]
    assert news.played == 0
    news.add(tick(3))
    second = news.message(writers)
    assert (second.played_total, second.episodes, second.wait_seconds) == (6, [], 0.0)


def test_gaps_are_the_time_between_updates_and_each_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([10.0, 12.0, 20.0, 21.5, 30.0])
    monkeypatch.setattr(training.time, "monotonic", lambda: next(now))
    gaps = Gaps(CPU)
    for _ in range(2):
        gaps.update_begins()
        gaps.update_ends()
    assert gaps.seconds() == (12.0 - 10.0) + (21.5 - 20.0)
    assert gaps.seconds() == 0.0


@pytest.mark.parametrize("threads", [0, 3])
def test_a_learner_has_the_threads_that_it_was_given(threads: int) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        prepare_learner(TrainConfig(threads=threads))
        assert torch.get_num_threads() == (threads or 2)
    finally:
        torch.set_num_threads(before)
