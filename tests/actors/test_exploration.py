"""Which game acts at random how often."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from actors.config import ActorConfig
from actors.exploration import epsilons, explore


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
    found = explore(chosen, epsilon=np.full(20_000, epsilon), num_actions=4, rng=rng)
    assert found.dtype == torch.int64
    share = torch.bincount(found, minlength=4) / 20_000
    other = epsilon / 4
    torch.testing.assert_close(share, torch.tensor([other, other, 1 - 3 * other, other]), atol=0.015, rtol=0)
    assert (chosen == 2).all()  # the caller's own stay as they were
