"""PPO in imagination, beyond what the contract asks of every behaviour."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from dreamer.agent import Agent
from dreamer.behaviors import ppo
from dreamer.equations import actor_loss
from dreamer.types import Dream, Start
from tests.dreamer.tiny import ACTIONS, BEHAVIOR, copy_weights, make_agent, make_steps, random_start, same_weights

HORIZON, STARTS = 4, 6
ONE_PASS = replace(
    BEHAVIOR, name="ppo", horizon=HORIZON, return_lambda=0.95, ppo_minibatches=1, ppo_batch=HORIZON * STARTS
)
close = torch.testing.assert_close


@pytest.fixture
def agent() -> Agent:
    """Its target critic is another one than its critic, and stays so: no copy is due."""
    made = make_agent(ONE_PASS)
    with torch.no_grad():
        made.behavior.slow_critic.out.bias += 0.7
        made.behavior.updates += 1
    return made


@pytest.fixture
def everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """A minibatch is every transition of the dream once."""
    monkeypatch.setattr(ppo, "minibatches", lambda dreamt, **_: [dreamt])


@pytest.fixture
def dreams(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> list[Dream]:
    seen, imagine = [], agent.world.imagine
    monkeypatch.setattr(agent.world, "imagine", lambda *args: seen.append(imagine(*args)) or seen[-1])
    return seen


def random_starts() -> Start:
    """One of them is the end of a game."""
    start = random_start(STARTS)
    discount = start.discount.clone()
    discount[2] = 0.0
    return start._replace(discount=discount)


def idle(agent: Agent) -> dict[str, Tensor]:
    """The metrics of an update without any step."""
    return agent.behavior.update(agent.world, random_starts(), {"actor": Tensor.detach, "critic": Tensor.detach})


@pytest.mark.usefixtures("everything")
@pytest.mark.parametrize("lambda_", [1.0, 0.95])
@pytest.mark.parametrize("later", [False, True], ids=["paper", "mixed policy and scaled returns"])
def test_both_losses_written_out_once_more(agent: Agent, dreams: list[Dream], lambda_: float, later: bool) -> None:
    """Reward and discount of the state reached, weight of what comes after the state left, baseline the critic of now.

    Before any step the ratio is 1, so the surrogate is the advantage itself.
    """
    share, decay = (0.3, 0.5) if later else (0.0, 0.0)
    agent.behavior.config = replace(ONE_PASS, return_lambda=lambda_, unimix=share, return_scale=decay)
    if later:
        agent.behavior.return_range = torch.tensor([0.0, 20.0])
        agent.behavior.actor.out.bias.data[0] = 2.0
    metrics = idle(agent)
    (dream,) = dreams
    with torch.no_grad():
        feat = dream.state.feat()
        online, slow = (net(feat)[..., 0] for net in (agent.behavior.critic, agent.behavior.slow_critic))
        log_pi = ((1 - share) * agent.behavior.actor(feat).softmax(-1) + share / ACTIONS).log()
        target, future = [None] * HORIZON, slow[HORIZON]
        for i in reversed(range(HORIZON)):
            future = dream.reward[i + 1] + dream.discount[i + 1] * ((1 - lambda_) * slow[i + 1] + lambda_ * future)
            target[i] = future
        low, high = torch.stack(target).flatten().quantile(torch.tensor([0.05, 0.95]))
        scale = 10.0 + (high - low) / 2 if later else 1.0
        policy, regression, weight = [], [], torch.ones(STARTS)
        for i in range(HORIZON):
            weight = weight * dream.discount[i]
            surprise = -(log_pi[i].exp() * log_pi[i]).sum(-1)
            policy.append(-weight * ((target[i] - online[i]) / scale + ONE_PASS.entropy_scale * surprise))
            regression.append(weight * ((target[i] - online[i]).square() / 2 + math.log(2 * math.pi) / 2))
    close(metrics["actor_loss"], torch.stack(policy).mean())
    close(metrics["critic_loss"], torch.stack(regression).mean())
    assert metrics["ppo_clipped"] == 0


@pytest.mark.usefixtures("everything")
def test_the_first_step_is_that_of_reinforce_with_the_same_advantage(agent: Agent, dreams: list[Dream]) -> None:
    gradients = []

    def keep(loss: Tensor) -> Tensor:
        gradients.extend(torch.autograd.grad(loss, list(agent.behavior.actor.parameters())))
        return loss.detach()

    agent.behavior.update(agent.world, random_starts(), {"actor": keep, "critic": Tensor.detach})
    (dream,) = dreams
    feat = dream.state.feat()
    target = agent.behavior.slow_critic(feat[-1])[..., 0]
    targets = []
    for i in reversed(range(HORIZON)):
        later = agent.behavior.slow_critic(feat[i + 1])[..., 0]
        target = dream.reward[i + 1] + dream.discount[i + 1] * (0.05 * later + 0.95 * target)
        targets.insert(0, target)
    loss = actor_loss(
        agent.behavior.policy(feat[:-1]),
        action=dream.action,
        target=torch.stack(targets),
        baseline=agent.behavior.critic(feat[:-1])[..., 0],
        weight=dream.discount[:-1].cumprod(0),
        rho=1.0,
        entropy_scale=ONE_PASS.entropy_scale,
    )
    for ours, theirs in zip(gradients, torch.autograd.grad(loss, agent.behavior.actor.parameters()), strict=True):
        close(ours, theirs)


def test_a_dream_has_no_graph(agent: Agent, dreams: list[Dream]) -> None:
    idle(agent)
    (dream,) = dreams
    assert not any(tensor.requires_grad for tensor in (*dream.state, dream.action, dream.reward, dream.discount))


def test_each_loss_reaches_its_own_network_and_nothing_else(agent: Agent) -> None:
    wanted = {name: p for name, p in agent.named_parameters() if p.requires_grad}
    reached = {}

    def spy(group: str):
        def step(loss: Tensor) -> Tensor:
            grads = torch.autograd.grad(loss, list(wanted.values()), allow_unused=True)
            reached[group] = {name for name, grad in zip(wanted, grads, strict=True) if grad is not None}
            return loss.detach()

        return step

    agent.behavior.update(agent.world, random_starts(), {name: spy(name) for name in ("actor", "critic")})
    for group, names in reached.items():
        assert names == {name for name in wanted if name.startswith(f"behavior.{group}.")}


def test_minibatches_are_drawn_from_all_transitions_and_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = make_agent(replace(ONE_PASS, ppo_minibatches=40, ppo_batch=5))
    seen, improve_on = [], ppo.improve_on
    monkeypatch.setattr(
        ppo, "improve_on", lambda own, batch, *rest: seen.append(batch) or improve_on(own, batch, *rest)
    )
    idle(agent)
    assert len(seen) == 40 and all(len(field) == 5 for batch in seen for field in batch)
    rows = torch.cat([batch.feat for batch in seen]).unique(dim=0)
    assert len(rows) == HORIZON * STARTS  # 200 draws of 24
    assert not torch.equal(seen[0].target, seen[1].target)


def test_a_policy_that_has_moved_is_held_back() -> None:
    """Steps much too large, without entropy: nobody pushes the chances further than the clip lets one step go."""
    moved = {}
    for clip in (0.01, 0.9):
        torch.manual_seed(0)
        agent = make_agent(replace(ONE_PASS, ppo_minibatches=50, ppo_batch=64, ppo_clip=clip, entropy_scale=0.0))
        before = copy_weights(agent.behavior.actor)
        metrics = agent.behavior.update(agent.world, random_starts(), make_steps(agent.behavior, lr=0.3))
        after = agent.behavior.actor.state_dict()
        moved[clip] = torch.cat([(after[name] - before[name]).flatten() for name in before]).norm()
        assert (metrics["ppo_clipped"] > 0.5) == (clip == 0.01)
    assert moved[0.01] < 0.5 * moved[0.9]


def test_the_critic_is_copied_after_update_0_and_every_few() -> None:
    agent = make_agent(replace(ONE_PASS, slow_every=3))
    behavior = agent.behavior
    for k in range(5):
        agent.behavior.update(agent.world, random_starts(), make_steps(behavior))
        assert same_weights(behavior.slow_critic, copy_weights(behavior.critic)) == (k % 3 == 0)
