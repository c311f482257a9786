"""Which game acts at random how often."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from actors.config import ActorConfig
from actors.exploration import Explorer, epsilons


def test_the_seeds_five_actors() -> None:
    expected = [0.5, 0.148651, 0.05, 0.05, 0.05]
    np.testing.assert_allclose(epsilons(ActorConfig(games=5, epsilon=0.5)), expected, rtol=1e-5)
    one_each = [epsilons(ActorConfig(games=1, epsilon=0.5), actor=n, actors=5) for n in range(5)]
    np.testing.assert_allclose(np.concatenate(one_each), expected, rtol=1e-5)


def test_games_of_several_actors_share_one_scale() -> None:
    config = ActorConfig(games=4, epsilon=0.9)
    together = np.concatenate([epsilons(config, actor=n, actors=3) for n in range(3)])
    np.testing.assert_array_equal(together, epsilons(ActorConfig(games=12, epsilon=0.9)))
    np.testing.assert_allclose(together[[0, 11]], [0.9, 0.9**8])
    assert (np.diff(together) < 0).all()


def test_one_game_alone_explores_and_none_does_without_epsilon() -> None:
    np.testing.assert_allclose(epsilons(ActorConfig(games=1, epsilon=0.5)), [0.5])
    assert epsilons(ActorConfig()) is None


@pytest.mark.parametrize("epsilon", [0.0, 0.3, 1.0])
def test_a_random_action_is_any_of_them(epsilon: float) -> None:
    chosen, rng = torch.full((20_000,), 2), np.random.default_rng(0)
    found = Explorer(np.full(20_000, epsilon), num_actions=4, rng=rng)(chosen)
    assert found.dtype == torch.int64
    share = torch.bincount(found, minlength=4) / 20_000
    other = epsilon / 4
    torch.testing.assert_close(share, torch.tensor([other, other, 1 - 3 * other, other]), atol=0.015, rtol=0)
    assert (chosen == 2).all()  # the caller's own stay as they were


@pytest.mark.parametrize("epsilon", [0.0, 0.3, 1.0])
def test_held_for_some_steps_the_share_of_time_is_the_same(epsilon: float) -> None:
    games, steps, chosen = 400, 1000, torch.full((400,), 4)
    explorer = Explorer(np.full(games, epsilon), hold=9, num_actions=4, rng=np.random.default_rng(0))
    played = torch.stack([explorer(chosen) for _ in range(steps)])[100:]  # by then no game is at its first hold
    assert (played != 4).float().mean().item() == pytest.approx(epsilon, abs=0.01)


def test_an_action_is_held_for_one_to_so_many_steps() -> None:
    chosen = torch.full((1,), 1000)
    explorer = Explorer(np.array([0.2]), hold=6, num_actions=500, rng=np.random.default_rng(0))
    played = [explorer(chosen).item() for _ in range(20_000)]
    runs = [len(list(group)) for action, group in itertools.groupby(played) if action < 500]
    lengths = np.bincount(runs, minlength=7)
    assert lengths[1:7].min() > 0.8 * len(runs) / 6  # of 500 actions hardly one follows itself
    assert lengths[7:].sum() < 0.02 * len(runs)
    assert len({action for action in played}) > 200


def test_the_share_may_change_meanwhile() -> None:
    share = np.zeros(50)
    explorer = Explorer(share, hold=3, num_actions=2, rng=np.random.default_rng(0))
    assert (explorer(torch.full((50,), 7)) == 7).all()
    share[:] = 1.0
    assert (explorer(torch.full((50,), 7)) < 2).all()
