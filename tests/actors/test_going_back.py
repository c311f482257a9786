"""Games of the emulator can be set to a moment that was kept; others say that they cannot."""

from __future__ import annotations

from contextlib import closing

import numpy as np

from actors.config import EnvConfig
from actors.env import make_games
from cluster.presets import cpu

ACTIONS = [np.array([n % 4, (n // 3) % 4]) for n in range(160)]


def test_a_moment_of_one_game_is_gone_back_to_in_another() -> None:
    """With sticky actions: the emulator's chance is a part of the moment. Lives, serves and resets are, too."""
    env = EnvConfig(sticky=0.25, life_loss=True, auto_fire=True, time_limit=100)
    with closing(make_games(env, 2, 3)) as games, closing(make_games(env, 2, 9)) as others:
        games.reset()
        others.reset()
        for action in ACTIONS[:40]:
            games.step(action)
        kept = games.keep()
        assert kept is not None
        went_on = [games.step(action) for action in ACTIONS]
        others.go_back(kept)
        there = [others.step(action) for action in ACTIONS[:60]]  # up to the time limit: a reset draws new no-ops
        games.go_back(kept)
        again = [games.step(action) for action in ACTIONS[:60]]
    assert any(arrived.life_lost.any() for arrived in there) and there[-1].is_last.all()
    for mine, *others_ in zip(went_on, there, again, strict=False):
        for other in others_:
            assert all(np.array_equal(a, b) for a, b in zip(mine.step, other.step, strict=True))
            assert (mine.is_last == other.is_last).all() and (mine.life_lost == other.life_lost).all()


def test_what_was_kept_is_not_changed_by_playing_on() -> None:
    with closing(make_games(cpu().env, 1, 0)) as games:
        games.reset()
        games.step(np.array([1]))
        kept = games.keep()
        before = repr(kept)
        for _ in range(20):
            games.step(np.array([2]))
        assert repr(kept) == before != repr(games.keep())


def test_a_game_without_an_emulator_cannot_be_kept() -> None:
    env = EnvConfig(id="Toy/Count-v0", import_module="tests.actors.toy_games", sticky=0)
    with closing(make_games(env, 1, 0)) as games:
        games.reset()
        assert games.keep() is None
