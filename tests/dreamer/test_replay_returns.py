"""Dreams beside what really came after the same states: the numbers that tell why a policy stands still."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from dreamer.behaviors.parts import compare_with_replay, describe_policy
from dreamer.types import Replayed, Start, State
from learner.config import TrainConfig
from learner.step import make_grad_steps, make_optimizers, train_step
from tests.dreamer.test_behavior_contract import BEHAVIORS
from tests.dreamer.tiny import make_agent, random_actions, random_batch, random_state

GAMMA = 0.5


def start(reward: Tensor, *, ends: tuple[int, ...] = (), every: int = 1) -> Start:
    """Rewards [T] of one window; after the steps `ends` nothing comes; dreams begin at every `every`-th step."""
    discount = torch.full((len(reward),), GAMMA)
    discount[list(ends)] = 0.0
    h, z = random_state(len(reward))
    state, is_first = State(h[:, None], z[:, None]), torch.zeros(len(reward), 1, dtype=torch.bool)
    replayed = Replayed(state, discount[:, None], reward[:, None], random_actions(len(reward), 1), is_first)
    return Start.of(replayed, every)


def compare(where: Start, value: Tensor, dreamt: Tensor, *, lambda_: float = 1.0, skip: int = 0) -> dict[str, float]:
    """value [T] of the window's states, dreamt [N] of those where dreams begin."""
    told = compare_with_replay(
        where, lambda feat: value[:, None, None], target=dreamt[None], lambda_=lambda_, skip=skip
    )
    return {name: number.item() for name, number in told.items()}


def test_the_real_return_is_that_of_the_window_and_ends_with_what_the_critic_says() -> None:
    reward, value = torch.tensor([0.0, 1.0, 0.0, 9.0]), torch.tensor([3.0, 0.0, 5.0, 2.0])
    real = torch.tensor([0.0 + 0.5 * (1.0 + 0.5 * (0.0 + 0.5 * 2.0)), 1.0 + 0.5 * (0.5 * 2.0), 0.5 * 2.0])
    told = compare(start(reward), value, torch.tensor([1.0, 1.0, 4.0, 100.0]))
    assert told["replay_return"] == pytest.approx(real.mean().item())
    assert told["start_return"] == pytest.approx(2.0)  # of the same three states: the last has no real return
    assert told["replay_return_spread"] == pytest.approx(real.var(correction=0).item())
    missed = (real - value[:3]).var(correction=0).item()
    assert told["replay_return_explained"] == pytest.approx(told["replay_return_spread"] - missed)


def test_nothing_is_returned_beyond_an_end() -> None:
    told = compare(start(torch.tensor([0.0, 2.0, 8.0, 8.0]), ends=(1,)), torch.zeros(4), torch.zeros(4))
    assert told["replay_return"] == pytest.approx((0.5 * 2.0 + 2.0 + 8.0) / 3)


def test_where_a_return_is_of_what_comes_after_a_state() -> None:
    told = compare(start(torch.tensor([7.0, 1.0, 2.0])), torch.tensor([0.0, 0.0, 4.0]), torch.zeros(3), skip=1)
    assert told["replay_return"] == pytest.approx(((1.0 + 0.5 * (2.0 + 0.5 * 4.0)) + (2.0 + 0.5 * 4.0)) / 2)


def test_a_perfect_critic_explains_everything_and_a_constant_one_nothing() -> None:
    reward = torch.tensor([0.0, 1.0, 0.0, 2.0, 0.0, 0.0])
    perfect = torch.zeros(6)
    for t in reversed(range(5)):
        perfect[t] = reward[t] + GAMMA * perfect[t + 1]
    told = compare(start(reward), perfect, perfect)
    assert told["replay_return_explained"] == pytest.approx(told["replay_return_spread"])
    assert told["start_return"] == pytest.approx(told["replay_return"])
    told = compare(start(reward), torch.zeros(6), perfect)
    assert told["replay_return_explained"] == pytest.approx(0.0, abs=1e-6)


def test_the_shortest_window_is_finite_and_without_rewards_nothing_is_told() -> None:
    assert all(
        math.isfinite(x) for x in compare(start(torch.tensor([1.0, 0.0])), torch.ones(2), torch.ones(2)).values()
    )
    unknown = Start(random_state(4), torch.ones(4))
    assert compare_with_replay(unknown, lambda feat: feat, target=torch.zeros(2, 4), lambda_=1.0) == {}


def test_where_dreams_begin_at_every_third_state_these_are_compared() -> None:
    reward, value = torch.arange(8.0), torch.linspace(1, 2, 8)
    every, some = start(reward), start(reward, every=3)
    assert some.state.h.shape == (2, 12) and some.discount.shape == (2,)
    told = compare(some, value, torch.tensor([4.0, 6.0]))
    assert told["start_return"] == pytest.approx(5.0)
    real = [float(reward[t]) for t in range(8)]
    for t in reversed(range(7)):
        real[t] += 0.5 * (real[t + 1] if t < 6 else float(value[7]))
    assert told["replay_return"] == pytest.approx((real[2] + real[5]) / 2)
    same = ("replay_return_spread", "replay_return_explained")  # the critic is judged by all states
    assert all(told[name] == pytest.approx(compare(every, value, torch.zeros(8))[name]) for name in same)


def test_chance_of_a_policy_as_a_share() -> None:
    assert describe_policy(torch.zeros(5, 4))["actor_entropy_share"] == pytest.approx(1.0)
    assert describe_policy(torch.tensor([[50.0, 0.0, 0.0]]))["actor_entropy_share"] == pytest.approx(0.0, abs=1e-6)
    assert describe_policy(torch.zeros(5, 1))["actor_entropy_share"] == 0.0  # nothing to choose


WITH_RETURNS = {name: one for name, one in BEHAVIORS.items() if one.name in ("actor_critic", "ppo", "mcts")}


@pytest.mark.parametrize("behavior", WITH_RETURNS.values(), ids=WITH_RETURNS.keys())
def test_every_update_tells_them(behavior) -> None:
    torch.manual_seed(0)
    agent, batch = make_agent(behavior), random_batch()
    step = make_grad_steps(make_optimizers(agent, TrainConfig()), clip=100.0)
    told = train_step(agent, step, batch, precision="float32")
    assert told["nonfinite"] == 0.0
    assert told["actor_entropy_share"].item() == pytest.approx(told["actor_entropy"].item() / math.log(3))
    # Rewards 0 to 4, squashed by tanh: the mean of returns lies well above that of what one step brings.
    assert told["replay_return"] > torch.tanh(batch.reward).mean() and told["replay_return_spread"] > 0
