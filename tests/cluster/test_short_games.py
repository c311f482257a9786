"""Games that are shorter than a training window: said, and not played for ever."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from actors.episodes import EpisodeReport
from cluster.messages import ActorMessage, LearnerMessage
from cluster.presets import cpu
from cluster.short_games import ShortGames
from replay import ReplayStats
from replay.errors import UserError
from tests.cluster.tiny import finish, start, train_options

CONFIG = cpu()
CONFIG = replace(
    CONFIG,
    replay=replace(CONFIG.replay, prefill=1000, length=20, stride=10),
    actor=replace(CONFIG.actor, games=2),
)


def played(steps: int, *lengths: int, actor: int = 0, incarnation: int = 0) -> ActorMessage:
    games = [EpisodeReport(0, 0.0, length, -1, 1.0) for length in lengths]
    return ActorMessage(actor, incarnation, steps, games, -1, 1.0, 0.0, 0, 0)


def stored(windows: int | None) -> LearnerMessage:
    stats = None if windows is None else ReplayStats(windows * 10, windows, windows, 0, 0, False, True)
    return LearnerMessage(0, 0, {}, 1.0, 1.0, stats, {}, {})


def test_short_games_are_said_once_and_then_refused() -> None:
    short = ShortGames(CONFIG)
    assert short.look() == ""
    short.hear(played(999, 5, 12, 3))
    short.hear(stored(0))
    assert short.look() == ""
    short.hear(played(1000, 4))
    line = short.look()
    assert "shorter than replay.length 20" in line and "the longest of 4 had 12 policy steps" in line
    assert "--replay.length 13 --replay.stride 6" in line and "after 2,000 policy steps" in line
    short.hear(played(1999, 4))
    assert short.look() == ""
    short.hear(played(2000, 4))
    with pytest.raises(UserError, match=r"shorter than replay\.length 20"):
        short.look()


@pytest.mark.parametrize("windows", [None, 100, 5000])
def test_nothing_is_said_before_the_replay_has_spoken_or_where_training_can_begin(windows: int | None) -> None:
    short = ShortGames(CONFIG)
    short.hear(played(10**6, 5))
    short.hear(stored(windows))
    assert short.look() == ""


def test_few_long_games_are_waited_for_but_it_is_said() -> None:
    short = ShortGames(CONFIG)
    short.hear(stored(7))
    short.hear(played(3999, 5, 30))
    assert short.look() == ""
    short.hear(played(4000))
    assert "only 7 of the 100 windows" in short.look()
    short.hear(played(10**6))
    assert short.look() == ""


def test_many_games_side_by_side_have_time_for_their_first_window() -> None:
    """Of a thousand games after the prefill of 1,000 steps each has had one step."""
    short = ShortGames(replace(CONFIG, actor=replace(CONFIG.actor, games=1000)))
    short.hear(stored(0))
    short.hear(played(30_000))
    short.hear(played(9_000, actor=0, incarnation=1))  # started again: the same games, no others
    assert short.look() == ""
    short.hear(played(31_000))
    assert "shorter" in short.look()
    short = ShortGames(CONFIG)
    short.hear(stored(0))
    for actor in range(50):
        short.hear(played(39, actor=actor))
    assert short.look() == ""


SHORT = (
    "--env.id Toy/Count-v0 --env.import-module tests.actors.toy_games --env.no-life-loss --env.no-auto-fire "
    "--env.no-binary --env.crop 0 0 0 0 --env.size 32 --env.shrink area"
)


ON_RAY = [pytest.mark.slow, pytest.mark.ray, pytest.mark.reverb]


@pytest.mark.parametrize("runtime", ["inline", pytest.param("ray", marks=ON_RAY)])
def test_a_training_of_short_games_ends_with_one_line(runtime: str, tmp_path: Path) -> None:
    path = tmp_path / "run"
    code, _, err = finish(start(*train_options(path, *SHORT.split(), "--runtime", runtime)))
    assert code == 2, err
    assert err.splitlines()[-1].startswith("error: the games are shorter than replay.length 8")
    assert "Traceback" not in err and (path / "config.json").exists()
