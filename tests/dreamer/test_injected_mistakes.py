"""Mistakes of test_classic_mistakes.py, made on purpose: the numbers of the official code must notice each."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import dreamer.behaviors.actor_critic as actor_critic
import dreamer.equations as equations
import dreamer.rssm as rssm
import dreamer.world_model as world_model
from dreamer.agent import Agent
from dreamer.config import ModelConfig
from dreamer.nets import LayerNormGRUCell
from dreamer.rssm import RSSM
from dreamer.types import Batch, Start, State
from tests.dreamer.test_official import NUMBERS, official_agent, official_batch


@pytest.fixture(scope="module")
def agent() -> Agent:
    return official_agent()


@pytest.fixture(scope="module")
def batch() -> Batch:
    return official_batch()


@pytest.fixture(autouse=True)
def no_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(equations, "gumbel_like", torch.zeros_like)


def set_config(agent: Agent, monkeypatch: pytest.MonkeyPatch, **changes: float) -> None:
    monkeypatch.setattr(agent.world, "config", ModelConfig(**changes))


def mask_state_only(self: RSSM, prev: State, prev_action: Tensor, is_first: Tensor, embed: Tensor):
    keep = 1.0 - is_first.float()
    h = self.recur(State(prev.h * keep[:, None], prev.z * keep[:, None, None]), prev_action)
    post = self.post(h, embed)
    return State(h, equations.straight_through_sample(post)), post


def mask_nothing(self: RSSM, prev: State, prev_action: Tensor, is_first: Tensor, embed: Tensor):
    h = self.recur(prev, prev_action)
    post = self.post(h, embed)
    return State(h, equations.straight_through_sample(post)), post


def norm_per_gate(self: LayerNormGRUCell, u: Tensor, h: Tensor) -> Tensor:
    """Every gate with its own norm."""
    parts = self.dense(torch.cat([u, h], -1)).unflatten(-1, (3, -1))
    parts = F.layer_norm(parts, parts.shape[-1:], eps=1e-3).flatten(-2) * self.norm.weight + self.norm.bias
    reset, cand, update = parts.chunk(3, -1)
    update = torch.sigmoid(update - 1)
    return update * torch.tanh(torch.sigmoid(reset) * cand) + (1 - update) * h


def mean_over_pixels(image: Tensor, *, drawn: Tensor, what: str) -> Tensor:
    return equations.picture_nll(image, drawn=drawn, what=what) / 4096


kl_balancing = equations.kl_balancing


def swapped_kl(*, post: Tensor, prior: Tensor, **others) -> Tensor:
    return kl_balancing(post=prior, prior=post, **others)


def mean_kl(*, post: Tensor, prior: Tensor, **others) -> Tensor:
    return kl_balancing(post=post, prior=prior, **others) / post.shape[-2]


Inject = Callable[[Agent, Batch, pytest.MonkeyPatch], Batch | None]  # a changed batch, or None

WORLD_MISTAKES: dict[str, tuple[str, Inject]] = {  # mistake -> (metric that notices, how to make it)
    "1 action of the next record": ("model_kl", lambda a, b, m: b._replace(prev_action=b.prev_action.roll(-1, 0))),
    "2 reward of the next record": ("reward_loss", lambda a, b, m: b._replace(reward=b.reward.roll(-1, 0))),
    "2 discount of the next record": (
        "discount_loss",
        lambda a, b, m: b._replace(is_terminal=b.is_terminal.roll(-1, 0)),
    ),
    "3 action not masked": ("model_kl", lambda a, b, m: m.setattr(RSSM, "observe_step", mask_state_only)),
    "3 nothing masked": ("model_kl", lambda a, b, m: m.setattr(RSSM, "observe_step", mask_nothing)),
    "4 hard discount target": ("discount_loss", lambda a, b, m: set_config(a, m, gamma=1.0)),
    "8 mean over pixels": ("image_loss", lambda a, b, m: m.setattr(world_model, "picture_nll", mean_over_pixels)),
    "9 KL swapped": ("kl_loss", lambda a, b, m: m.setattr(rssm, "kl_balancing", swapped_kl)),
    "9 mean over categoricals": ("kl_loss", lambda a, b, m: m.setattr(rssm, "kl_balancing", mean_kl)),
    "10 no update bias": ("model_kl", lambda a, b, m: m.setattr(LayerNormGRUCell, "UPDATE_BIAS", 0.0)),
    "10 epsilon 1e-5": ("model_kl", lambda a, b, m: m.setattr(a.world.rssm.gru.norm, "eps", 1e-5)),
    "10 a norm per gate": ("model_kl", lambda a, b, m: m.setattr(LayerNormGRUCell, "forward", norm_per_gate)),
    "15 reward squashed twice": ("reward_loss", lambda a, b, m: b._replace(reward=b.reward.tanh())),
}
OURS = {"model_kl": "kl"}  # official name -> ours, where they differ


@pytest.mark.parametrize("mistake", WORLD_MISTAKES)
def test_injected_mistakes_of_the_world_model_change_the_official_numbers(
    agent: Agent, batch: Batch, monkeypatch: pytest.MonkeyPatch, mistake: str
) -> None:
    metric, inject = WORLD_MISTAKES[mistake]
    monkeypatch.setattr(world_model, "fast_observe", RSSM.observe)  # mistakes are made in the plain form
    batch = inject(agent, batch, monkeypatch) or batch
    with torch.no_grad():
        metrics = agent.world.loss(batch).metrics
    ours, theirs = metrics[OURS.get(metric, metric)].item(), NUMBERS[metric]
    assert abs(ours / theirs - 1) > 5e-5  # five times the tolerance of test_official


def test_without_a_mistake_the_numbers_are_the_official_ones(agent: Agent, batch: Batch) -> None:
    with torch.no_grad():
        metrics = agent.world.loss(batch).metrics
    for metric in {metric for metric, _ in WORLD_MISTAKES.values()}:
        assert abs(metrics[OURS.get(metric, metric)].item() / NUMBERS[metric] - 1) < 1e-5


def prior_gradient(agent: Agent, batch: Batch) -> float:
    (grad,) = torch.autograd.grad(agent.world.loss(batch).loss, agent.world.rssm.prior_out.weight)
    return grad.norm().item()


def test_injected_swap_of_the_kl_balance_changes_the_official_gradients(
    agent: Agent, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = NUMBERS["grad_norms"]["rssm.prior_out.weight"]
    assert abs(prior_gradient(agent, batch) / expected - 1) < 1e-3
    set_config(agent, monkeypatch, kl_balance=0.2)
    assert prior_gradient(agent, batch) / expected < 0.5


actor_loss, lambda_return = equations.actor_loss, equations.lambda_return


def next_reward(reward: Tensor, *, discount: Tensor, value: Tensor, lambda_: float) -> Tensor:
    return lambda_return(reward.roll(-1, 0), discount=discount, value=value, lambda_=lambda_)


def next_discount(reward: Tensor, *, discount: Tensor, value: Tensor, lambda_: float) -> Tensor:
    return lambda_return(reward, discount=discount.roll(-1, 0), value=value, lambda_=lambda_)


def no_bootstrap(reward: Tensor, *, discount: Tensor, value: Tensor, lambda_: float) -> Tensor:
    return lambda_return(reward, discount=discount, value=torch.zeros_like(value), lambda_=lambda_)


def shifted_weight(discount: Tensor) -> Tensor:
    return discount.cumprod(0).detach()


def next_baseline(logits: Tensor, *, baseline: Tensor, **others) -> Tensor:
    return actor_loss(logits, baseline=baseline.roll(-1, 0), **others)


def own_target(logits: Tensor, *, target: Tensor, **others) -> Tensor:
    return actor_loss(logits, target=target.roll(1, 0), **others)


def entropy_costs(logits: Tensor, *, entropy_scale: float, **others) -> Tensor:
    return actor_loss(logits, entropy_scale=-entropy_scale, **others)


def predicted_first_discount(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    imagine = agent.world.imagine

    def dream(act, start, *how):
        predicted = agent.world.predict_discount(start.state.feat())
        return imagine(act, start._replace(discount=predicted), *how)

    monkeypatch.setattr(agent.world, "imagine", dream)


def put(name: str, function: Callable) -> Callable[[Agent, pytest.MonkeyPatch], None]:
    return lambda agent, monkeypatch: monkeypatch.setattr(actor_critic, name, function)


BEHAVIOR_MISTAKES: dict[str, tuple[str, Callable[[Agent, pytest.MonkeyPatch], None]]] = {
    "2 return with the next reward": ("critic_loss", put("lambda_return", next_reward)),
    "2 return with the next discount": ("critic_loss", put("lambda_return", next_discount)),
    "2 return without bootstrap": ("critic_loss", put("lambda_return", no_bootstrap)),
    "5 predicted first discount": ("actor_loss", predicted_first_discount),
    "5 weight not shifted": ("actor_loss", put("survival_weight", shifted_weight)),
    "7 baseline of the next state": ("actor_loss", put("actor_loss", next_baseline)),
    "7 target of the state that is left": ("actor_loss", put("actor_loss", own_target)),
    "14 online critic": (
        "actor_loss",
        lambda agent, monkeypatch: agent.behavior.slow_critic.load_state_dict(agent.behavior.critic.state_dict()),
    ),
    "20 entropy costs": ("actor_loss", put("actor_loss", entropy_costs)),
}


def behavior_metrics(agent: Agent, batch: Batch) -> dict[str, Tensor]:
    """An update's metrics without any step."""
    with torch.no_grad():
        out = agent.world.loss(batch)
    start = Start(out.unroll.state.flatten(), out.discount.flatten())
    return agent.behavior.update(agent.world, start, {"actor": Tensor.detach, "critic": Tensor.detach})


@pytest.fixture
def restored(agent: Agent) -> Iterator[Agent]:
    before = {name: weight.clone() for name, weight in agent.behavior.state_dict().items()}
    yield agent
    agent.behavior.load_state_dict(before)


@pytest.mark.parametrize("mistake", BEHAVIOR_MISTAKES)
def test_injected_mistakes_of_the_behavior_change_the_official_numbers(
    restored: Agent, batch: Batch, monkeypatch: pytest.MonkeyPatch, mistake: str
) -> None:
    metric, inject = BEHAVIOR_MISTAKES[mistake]
    inject(restored, monkeypatch)
    ours, theirs = behavior_metrics(restored, batch)[metric].item(), NUMBERS["behavior"][metric]
    assert abs(ours / theirs - 1) > 1e-4


def test_without_a_mistake_the_behaviors_numbers_are_the_official_ones(restored: Agent, batch: Batch) -> None:
    metrics = behavior_metrics(restored, batch)
    for metric in ("actor_loss", "critic_loss"):
        assert abs(metrics[metric].item() / NUMBERS["behavior"][metric] - 1) < 1e-5
