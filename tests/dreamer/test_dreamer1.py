"""What Dreamer V1 does otherwise: actors that learn by nothing but gradients through dreams of gaussian latents."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from dreamer.agent import Agent
from dreamer.config import ModelConfig
from dreamer.equations import lambda_return, one_hot_mode, straight_through_sample
from dreamer.types import State
from tests.dreamer.test_world_model import starts
from tests.dreamer.test_world_model_learns import REWARDED, TOY, toy_batch, train
from tests.dreamer.tiny import (
    ACTIONS,
    BEHAVIOR,
    GAUSSIAN,
    WORLD_MODELS,
    copy_weights,
    make_agent,
    make_steps,
    random_start,
    random_state,
    same_weights,
)

close = torch.testing.assert_close
V1 = replace(BEHAVIOR, rho=0.0, entropy_scale=0.0, slow_every=1)


@pytest.fixture(params=[GAUSSIAN, WORLD_MODELS], ids=["gaussian RSSM", "vae_rnn"])
def agent(request: pytest.FixtureRequest) -> Agent:
    return make_agent(V1, model=request.param)


def start(agent: Agent, games: int = 6):
    return random_start(games, agent.world.config)


@pytest.mark.parametrize(
    ("probs", "golden"), [((0.25,) * 4, (-0.375, -0.125, 0.125, 0.375)), ((0.1, 0.2, 0.3, 0.4), (-0.2, -0.2, 0.0, 0.4))]
)
def test_a_drawn_action_is_one_hot_and_has_the_gradient_of_the_probabilities(
    probs: tuple[float, ...], golden: tuple[float, ...]
) -> None:
    """Of action i, which pays i + 1: p_i * (w_i - mean). Neither a soft action nor none at all."""
    logits, pays = torch.tensor(probs).log().requires_grad_(), torch.tensor([1.0, 2.0, 3.0, 4.0])
    action = straight_through_sample(logits)
    assert torch.equal(action, one_hot_mode(action))
    (grad,) = torch.autograd.grad((action * pays).sum(), logits)
    close(grad, torch.tensor(golden))


def test_a_return_two_steps_on_knows_the_action_now(agent: Agent) -> None:
    logits: list[Tensor] = []

    def act(state: State) -> Tensor:
        logits.append(torch.zeros(len(state.h), ACTIONS, requires_grad=True))
        return straight_through_sample(logits[-1])

    dream = agent.world.imagine(act, start(agent), 4)
    for reached in range(4):
        for left in range(3):  # action i leads from state i to the next one
            (grad,) = torch.autograd.grad(dream.reward[reached].sum(), logits[left], retain_graph=True)
            assert (grad.abs().max() > 0) == (reached > left)


def test_an_update_leaves_the_world_model_alone_and_moves_actor_and_critic(agent: Agent) -> None:
    world = copy_weights(agent.world)
    actor, critic = copy_weights(agent.behavior.actor), copy_weights(agent.behavior.critic)
    metrics = agent.behavior.update(agent.world, start(agent), make_steps(agent.behavior))
    assert same_weights(agent.world, world) and all(p.grad is None for p in agent.world.parameters())
    assert not same_weights(agent.behavior.actor, actor) and not same_weights(agent.behavior.critic, critic)
    assert all(value.isfinite() for value in metrics.values())


def test_the_target_critic_is_the_critic_of_the_update_before(agent: Agent) -> None:
    steps = make_steps(agent.behavior)
    agent.behavior.update(agent.world, start(agent), steps)
    assert same_weights(agent.behavior.slow_critic, copy_weights(agent.behavior.critic))


def test_the_actors_loss_is_the_weighted_return_of_what_was_reached(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By loops: no baseline, no entropy, weights without the discount of the state itself."""
    dreams, imagine = [], agent.world.imagine
    monkeypatch.setattr(agent.world, "imagine", lambda *args: dreams.append(imagine(*args)) or dreams[0])
    idle = {name: Tensor.detach for name in agent.behavior.param_groups()}
    with torch.no_grad():
        first = start(agent)
        slow = agent.behavior.slow_critic
        loss = agent.behavior.update(agent.world, first, idle)["actor_loss"]
        dream = dreams[0]
        value = slow(dream.state.feat()).squeeze(-1)
        target = lambda_return(dream.reward, discount=dream.discount, value=value, lambda_=0.95)
        total, horizon, games = 0.0, V1.horizon, len(first.discount)
        for n in range(games):
            weight = 1.0
            for i in range(horizon - 1):  # the state that is left, and the one that its action leads to
                total += weight * target[i + 1, n].item()
                weight *= dream.discount[i, n].item()
    assert loss.item() == pytest.approx(-total / (games * (horizon - 1)), rel=1e-4)


def test_it_learns_to_choose_what_a_dream_pays_for(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    """Arriving by action 2 pays. Nothing tells the actor so but the gradient of the reward in the action."""
    imagine = agent.world.imagine

    def pays(act, start, *how):
        dream = imagine(act, start, *how)
        reward = torch.cat([torch.zeros(1, len(start.discount)), dream.action[..., 2]])
        return dream._replace(reward=reward, discount=torch.full_like(reward, 0.9))

    monkeypatch.setattr(agent.world, "imagine", pays)
    steps = make_steps(agent.behavior, lr=1e-2, optimizer=torch.optim.Adam)
    for _ in range(80):
        agent.behavior.update(agent.world, start(agent, 32), steps)
    with torch.no_grad():
        chosen = agent.behavior.act(agent.world, random_state(500, agent.world.config), sample=True)
    assert chosen[:, 2].mean() > 0.9


@pytest.mark.parametrize(("model", "seed"), [(GAUSSIAN, 0), (WORLD_MODELS, 1)], ids=["gaussian RSSM", "vae_rnn"])
def test_it_learns_through_the_dynamics_of_a_world_that_was_learned(model: ModelConfig, seed: int) -> None:
    """An action shows in the next picture, and REWARDED pays one step later: only h and z carry that."""
    torch.manual_seed(seed)
    toy = replace(TOY, latent="gaussian", cnn="blocks", cnn_depth=4, gamma=0.8)
    if model.dynamics == "vae_rnn":
        toy = replace(toy, dynamics="vae_rnn", deter=64, kl_scale=0.5, free_nats=2.0, free_each=True)
    agent = make_agent(V1, model=toy)
    train(agent.world, 160, toy_batch)
    with torch.no_grad():
        dreams = starts(agent.world, toy_batch(6, 16))
    steps = make_steps(agent.behavior, lr=3e-3, optimizer=torch.optim.Adam)
    for _ in range(120):
        agent.behavior.update(agent.world, dreams, steps)
    chosen = agent.behavior.act(agent.world, dreams.state, sample=True)
    assert chosen[:, REWARDED].mean() > 0.9
