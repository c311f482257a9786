"""Two threads compute what one computes in turns."""

from __future__ import annotations

import copy
import math
import threading

import pytest
import torch

from dreamer import equations
from dreamer.agent import Agent
from dreamer.behaviors import cem, mcts
from learner.config import TrainConfig
from learner.loop import make_update
from learner.step import behavior_step, counted, make_grad_steps, make_optimizers, world_step
from tests.dreamer.test_behavior_contract import BEHAVIORS
from tests.dreamer.tiny import make_agent, random_batch

CONFIG = TrainConfig(model_lr=1e-2, actor_lr=1e-2, critic_lr=1e-2, overlap=True)


def weights(agent: Agent) -> list[torch.Tensor]:
    return [weight.clone() for weight in agent.state_dict().values()]


@pytest.mark.parametrize("behavior", BEHAVIORS.values(), ids=BEHAVIORS.keys())
def test_the_same_is_computed(behavior, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without chance: the most probable is drawn, minibatches are the first rows."""
    batches = [random_batch() for _ in range(4)]
    one = make_agent(behavior)
    for place in (equations, cem, mcts):
        monkeypatch.setattr(place, "gumbel_like", torch.zeros_like)
    monkeypatch.setattr(torch, "rand_like", lambda like: torch.full_like(like, 0.4))
    monkeypatch.setattr(torch, "randn", lambda *size, **kw: torch.linspace(-1, 1, math.prod(size)).view(size))
    monkeypatch.setattr(torch, "randint", lambda high, size, **kw: torch.arange(math.prod(size)).view(size) % high)
    two = copy.deepcopy(one)
    update = make_update(one, make_optimizers(one, CONFIG), CONFIG, example=batches[0])
    step = make_grad_steps(make_optimizers(two, CONFIG), clip=CONFIG.grad_clip, keras=CONFIG.adam_keras)
    before = None
    for batch in batches:
        metrics = update(batch)
        if before is not None:  # the weights that update k left, before update k + 1
            told = behavior_step(two, copy.deepcopy(two.world), step, before, precision="float32")
        model, before_next = world_step(two, step, batch, precision="float32")
        if before is None:
            told = behavior_step(two, two.world, step, before_next, precision="float32")
        before = before_next
        assert list(metrics) == list(counted(model | told))
        for name, value in counted(model | told).items():
            torch.testing.assert_close(metrics[name], value, rtol=0, atol=0)
        for ours, theirs in zip(weights(one), weights(two), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_between_two_calls_both_are_at_rest_and_an_error_of_either_is_raised() -> None:
    agent, batch = make_agent(), random_batch()
    update = make_update(agent, make_optimizers(agent, CONFIG), CONFIG, example=batch)
    where: list[str] = []
    improve = agent.behavior.update

    def watched(*args, **kwargs):
        where.append(threading.current_thread().name)
        return improve(*args, **kwargs)

    agent.behavior.update = watched  # type: ignore[method-assign]
    update(batch)
    update(batch)
    now = weights(agent)
    assert all(name.startswith("behavior") for name in where) and len(where) == 2
    torch.testing.assert_close(now, weights(agent), rtol=0, atol=0)

    def breaks(*args, **kwargs):
        raise ValueError("in the thread")

    agent.behavior.update = breaks  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="in the thread"):
        update(batch)
    agent.behavior.update, agent.world.loss = watched, breaks  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="in the thread"):
        update(batch)
    assert len(where) == 3  # it was waited for
