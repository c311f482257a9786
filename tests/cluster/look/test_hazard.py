"""The share of lives lost before the next reward."""

from __future__ import annotations

import pytest

from actors.episodes import EpisodeReport
from cluster.look.hazard import FEW, Hazard, hazards, table, watched


def game(*lives: int, lost: int | None = None) -> EpisodeReport:
    return EpisodeReport(0, 0.0, 0, 0, 0.0, lives, len(lives) if lost is None else lost)


def test_a_life_is_at_risk_at_every_reward_that_it_had() -> None:
    assert hazards([game(0, 2, 2), game(3)]) == [
        Hazard(0, 4, 1 / 4),
        Hazard(1, 3, 0.0),
        Hazard(2, 3, pytest.approx(2 / 3)),
        Hazard(3, 1, 1.0),
    ]


def test_a_life_that_a_limit_ended_was_there_and_was_not_lost() -> None:
    assert hazards([game(1, 1, lost=1)]) == [Hazard(0, 2, 0.0), Hazard(1, 2, 0.5)]


def test_of_no_games_or_of_old_reports_nothing_is_known() -> None:
    assert hazards([]) == hazards([EpisodeReport(0, 3.0, 9, 0, 1.0)]) == []
    assert watched([]) == {0: None, 4: None}
    assert watched([game(0, 5)]) == {0: 0.5, 4: 0.0}
    assert table([]) == []


def test_a_person_is_shown_only_what_many_lives_say() -> None:
    lines = table(hazards([game(*[1] * FEW, 2)]))
    assert [line.split() for line in lines[1:]] == [["0", str(FEW + 1), "0.00"], ["1", str(FEW + 1), "0.89"]]
