"""When is a process started again, after how long, and when is it given up? Processes and clock are made up."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("ray")

from actors.episodes import EpisodeReport
from cluster.config import ClusterConfig
from cluster.messages import ActorMessage
from cluster.on_ray import placement
from cluster.on_ray import worker as supervise
from cluster.on_ray.troupe import Troupe
from cluster.on_ray.worker import (
    BACK_OFF,
    HEALTHY_SECONDS,
    HOPELESS,
    HOPELESS_SECONDS,
    Worker,
    news_of_silence,
    silence,
)

pytestmark = pytest.mark.ray
GAME = EpisodeReport(score=1.0, length=9, policy_version=0, seconds=1.0, game=0)


class Clock:
    """Stands until it is told to go on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(supervise, "time", found)
    monkeypatch.setattr(supervise.ray, "kill", lambda handle: None)
    return found


def start(incarnation: int) -> Any:
    call = SimpleNamespace(remote=lambda: object())
    return SimpleNamespace(where=call, run=call)


def worker(role: str = "learner") -> Worker:
    return Worker(role, start, purpose="a new update")


def die_after(found: Worker, clock: Clock, seconds: float) -> float:
    """It is started, lives so long and dies -> how long to wait before the next start."""
    found.launch()
    clock.now += seconds
    found.died("ValueError: x")
    return found.due - clock.now


def test_the_waits_grow_and_begin_anew_after_a_healthy_life(clock: Clock) -> None:
    found = worker()
    for expected in BACK_OFF:
        found.progressed = True
        assert die_after(found, clock, 1.0) == expected
    found.progressed = True
    assert die_after(found, clock, 1.0) == BACK_OFF[-1]
    found.progressed = True
    assert die_after(found, clock, HEALTHY_SECONDS + 1) == BACK_OFF[0], "that was an accident"
    found.progressed = True
    assert die_after(found, clock, 1.0) == BACK_OFF[1]


def test_silence_counts_from_the_place_on(clock: Clock) -> None:
    """One that waits for a machine, or loads gigabytes, has nothing to say: it must not be killed for that."""
    found = worker("actor-0")
    found.launch()
    clock.now += 10_000
    assert silence(found) == 0.0 and news_of_silence([found]) == []
    found.where, found.heard = "10.0.0.9", clock.now
    clock.now += 20
    assert silence(found) == 20.0
    assert news_of_silence([found]) == ["actor-0 has said nothing for 20 s"]
    assert news_of_silence([found]) == []
    found.heard = clock.now
    assert news_of_silence([found]) == ["actor-0 is heard again"]
    found.died("x")
    clock.now += 10_000
    assert silence(found) == 0.0


def test_five_deaths_without_progress_are_no_accident(clock: Clock) -> None:
    found = worker()
    for _ in range(HOPELESS - 1):
        die_after(found, clock, 90.0)  # however long it took each time
        assert not found.hopeless()
    found.launch()
    said = found.died("ValueError: a wrong value")
    assert found.hopeless()
    assert said == (
        "learner died 5 times in a row without a new update (ValueError: a wrong value); starting it again in 60 s"
    )


def test_progress_makes_them_count_anew(clock: Clock) -> None:
    found = worker()
    for _ in range(HOPELESS - 1):
        die_after(found, clock, 1.0)
    found.launch()
    found.reaches(1)
    found.died("x")
    assert not found.hopeless()
    for _ in range(HOPELESS - 1):
        die_after(found, clock, 1.0)
        assert not found.hopeless()
    die_after(found, clock, 1.0)
    assert found.hopeless()


def test_to_get_again_to_where_the_last_one_died_is_no_progress(clock: Clock) -> None:
    """A learner that trains from its checkpoint to update 110, where it always dies."""
    found = worker()
    found.reached = 100
    found.launch()
    for update in (104, 110):
        found.reaches(update)
    found.died("x")
    for _ in range(HOPELESS):
        assert not found.hopeless()
        found.launch()
        for update in (101, 110):
            found.reaches(update)
        found.died("x")
    assert found.hopeless()
    found.launch()
    found.reaches(111)
    assert not found.hopeless()


# --- Actors ---


def message(actor: int, incarnation: int, played: int, *, games: int = 0) -> ActorMessage:
    return ActorMessage(actor, incarnation, played, [GAME] * games, 0, 1.0, 0.0, 0, 0)


@pytest.fixture
def troupe(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Troupe:
    """Two actors that have a place."""
    monkeypatch.setattr(placement, "offered", lambda: 2)
    found = Troupe(ClusterConfig(actors=2), lambda index, incarnation: start(incarnation), lambda text: None)
    found.follow_nodes()
    assert [each.role for each in found.workers()] == ["actor-0", "actor-1"]
    return found


def test_an_actor_that_always_dies_is_tried_once_a_minute_while_others_play(troupe: Troupe, clock: Clock) -> None:
    bad, good = troupe.workers()
    for _ in range(HOPELESS):
        troupe.hear(message(0, bad.incarnation, 50), clock.now)  # some steps, then the game raises
        wait = die_after(bad, clock, 2.0)
    assert bad.hopeless() and wait == HOPELESS_SECONDS
    assert "without a finished game" in bad.died("x")
    assert not good.hopeless() and not troupe.hopeless()
    for _ in range(HOPELESS):
        die_after(good, clock, 2.0)
    assert troupe.hopeless(), "nobody plays any more"


def test_a_finished_game_or_a_minute_of_play_is_progress(troupe: Troupe, clock: Clock) -> None:
    first, second = troupe.workers()
    for each in (first, second):
        for _ in range(HOPELESS - 1):
            die_after(each, clock, 2.0)
        each.launch()
        each.where = "10.0.0.9"
    troupe.hear(message(0, first.incarnation, 200, games=1), clock.now)
    troupe.hear(message(1, second.incarnation - 1, 200, games=1), clock.now)  # a copy that was given up
    clock.now += HEALTHY_SECONDS + 1
    assert first.progressed and not second.progressed
    troupe.hear(message(1, second.incarnation, 0), clock.now)
    assert not second.progressed, "it lives, but does not play"
    troupe.hear(message(1, second.incarnation, 1), clock.now)
    assert second.progressed and second.heard == clock.now


def test_nobody_is_hopeless_where_nobody_is(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "offered", lambda: 0)
    found = Troupe(ClusterConfig(actors=0, address="auto"), lambda index, incarnation: start(0), lambda text: None)
    assert not found.hopeless()
