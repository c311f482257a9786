"""The mistakes of the table of Catch still fit the code, and change what they are meant to change."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from dreamer import equations, rssm, world_model
from dreamer.behaviors import actor_critic
from dreamer.rssm import RSSM
from dreamer.world_model import WorldModel
from learner.config import TrainConfig
from learner.step import make_grad_steps, make_optimizers, train_step
from tests.cluster.broken import MISTAKES
from tests.dreamer.tiny import BEHAVIOR_SWITCHES, SWITCHES, make_agent, random_batch

PLACES = (equations, rssm, world_model, actor_critic, RSSM, WorldModel)


@pytest.fixture(autouse=True)
def mended() -> Iterator[None]:
    """The mistakes are made for a whole process: here they are undone."""
    whole = {place: dict(vars(place)) for place in PLACES}
    yield
    for place, names in whole.items():
        for name, value in names.items():
            if vars(place)[name] is not value:
                setattr(place, name, value)


def weights_after_an_update() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    agent = make_agent(BEHAVIOR_SWITCHES, model=replace(SWITCHES, kl_scale=1.0))
    torch.nn.init.normal_(agent.behavior.slow_critic.out.weight)  # a new one expects the same of every state
    batch = random_batch()
    train_step(agent, make_grad_steps(make_optimizers(agent, TrainConfig()), clip=100), batch, precision="float32")
    return agent.state_dict()


@pytest.mark.parametrize("mistake", MISTAKES)
def test_every_mistake_can_be_made_and_changes_an_update(mistake: str) -> None:
    before = weights_after_an_update()
    MISTAKES[mistake]()
    after = weights_after_an_update()
    changed = {name.split(".")[0] for name, value in after.items() if not torch.equal(value, before[name])}
    assert ("behavior" in changed) == (mistake != "none")  # what the world model learns shows in dreams, too
    assert ("world" in changed) == (mistake not in ("none", "baseline of the next state"))
