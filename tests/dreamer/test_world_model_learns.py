"""The world model learns: two toys that only a well-aligned model can learn, and one batch by heart."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dreamer.config import ModelConfig
from dreamer.types import Batch, State
from dreamer.world_model import WorldModel
from tests.dreamer.test_world_model import LOG_2PI, starts
from tests.dreamer.tiny import ACTIONS, make_agent, random_actions, random_batch

TOY = ModelConfig(
    cnn_depth=2, deter=32, hidden=32, stoch=4, classes=4, head_layers=1, head_units=32, kl_scale=1.0, reward_scale=20.0
)
REWARDED = 0  # the reward comes one step after the picture of this action


def toy_batch(time: int = 6, batch: int = 8) -> Batch:
    """Every picture shows the action that led to it as one of three bars; REWARDED pays one step later."""
    action = torch.randint(0, ACTIONS, (time, batch))
    is_first = torch.zeros(time, batch, dtype=torch.bool)
    is_first[0] = True
    shown = F.one_hot(action, ACTIONS).bool() & ~is_first[..., None]
    columns = shown.repeat_interleave(22, -1)[..., :64]
    obs = columns[:, :, None, :, None].expand(time, batch, 64, 64, 1).to(torch.uint8) * 255
    reward = torch.zeros(time, batch)
    reward[1:] = shown[:-1, :, REWARDED].float()
    return Batch(obs, action, reward, is_first, torch.zeros_like(is_first))


def shown_action(image: Tensor) -> Tensor:
    """Which of the three bars is the brightest: [..., 1, 64, 64] -> [...]."""
    column = image.mean((-3, -2))
    return torch.stack([part.mean(-1) for part in column.split(22, -1)], -1).argmax(-1)


def train(world: WorldModel, updates: int, next_batch: Callable[[], Batch]) -> Tensor:
    """-> the image loss of every update."""
    optimizer = torch.optim.Adam(world.parameters(), lr=1e-2, eps=1e-5)
    losses = []
    for _ in range(updates):
        out = world.loss(next_batch())
        optimizer.zero_grad()
        out.loss.backward()
        torch.nn.utils.clip_grad_norm_(world.parameters(), 100.0)
        optimizer.step()
        losses.append(out.metrics["image_loss"])
    return torch.stack(losses)


def toy_world() -> WorldModel:
    torch.manual_seed(0)
    return make_agent(model=TOY).world


@pytest.fixture(scope="module")
def trained() -> WorldModel:
    world = toy_world()
    train(world, 220, toy_batch)
    return world


@torch.no_grad()
def right_bars(world: WorldModel, shift: int = 0) -> float:
    """How often one step of a dream, without the picture, shows the bar of the true action.

    `shift` changes the action that is dreamt.
    """
    batch = toy_batch(6, 40)
    state = world.observe(batch).state
    prev = State(state.h[:-1], state.z[:-1]).flatten()
    action = batch.prev_action[1:].flatten()
    dreamt = world.rssm.imagine_step(prev, world.one_hot((action + shift) % ACTIONS))
    return (shown_action(world.decode(dreamt)) == action).float().mean().item()


def test_the_prior_shows_what_the_action_brings_about(trained: WorldModel) -> None:
    assert right_bars(trained) > 0.95


def test_the_prior_shows_another_picture_for_another_action(trained: WorldModel) -> None:
    assert right_bars(trained, shift=1) < 0.05


def test_an_open_loop_dream_shows_the_actions_of_the_batch(trained: WorldModel) -> None:
    batch = toy_batch(6, 40)
    shown = shown_action(trained.decode(trained.open_loop(batch, context=2)))
    assert (shown == batch.prev_action)[1:].float().mean() > 0.95


def test_actions_stored_one_step_off_would_leave_the_prior_blind() -> None:
    """The mistake itself: each picture with the action chosen after it."""
    world = toy_world()

    def misaligned() -> Batch:
        batch = toy_batch()
        return batch._replace(prev_action=batch.prev_action.roll(-1, 0))

    image_loss = train(world, 120, misaligned)
    assert image_loss[-1] < 3800  # the pictures as such are learned all the same
    assert right_bars(world) < 0.75


def test_a_delayed_reward_is_dreamt_at_the_index_at_which_it_arrives(trained: WorldModel) -> None:
    batch = toy_batch(6, 40)
    with torch.no_grad():
        start = starts(trained, batch)
        dream = trained.imagine(lambda state: random_actions(len(state.h)), start, 3)
    rewarded = math.tanh(1.0)
    shown = (batch.prev_action == REWARDED) & ~batch.is_first
    chosen = dream.action[..., REWARDED] == 1
    expected = torch.stack([batch.reward.flatten() > 0, shown.flatten(), chosen[0], chosen[1]])
    assert ((dream.reward > rewarded / 2) == expected).float().mean(1).min() > 0.95
    early = torch.stack([shown.flatten(), chosen[0], chosen[1], chosen[2]])
    assert ((dream.reward > rewarded / 2) == early).float().mean(1).max() < 0.8


def test_one_batch_can_be_overfitted() -> None:
    batch, world = random_batch(4, 2), toy_world()
    batch = batch._replace(obs=toy_batch(4, 2).obs, is_terminal=torch.zeros(4, 2, dtype=torch.bool))
    image_loss = train(world, 100, lambda: batch) - 0.5 * LOG_2PI * 4096
    assert image_loss[-1] < 0.03 * image_loss[0]
    assert world.loss(batch).metrics["reward_loss"] < LOG_2PI / 2 + 0.05
