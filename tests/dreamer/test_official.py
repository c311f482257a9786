"""Preset `paper` equals the official code: same weights, same batch, arg-max in place of every sample (official/)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import dreamer.equations
from dreamer.agent import Agent
from dreamer.config import BehaviorConfig, ModelConfig
from dreamer.equations import lambda_return
from dreamer.types import Batch, Start
from tests.dreamer.official import weights as official

NUMBERS = json.loads((Path(__file__).parent / "official" / "numbers.json").read_text())
LOSS = {"rtol": 1e-5}
GRAD = {"rtol": 1e-3}


def parameter_names() -> dict[str, str]:
    """Official array name -> name in Agent.state_dict()."""
    names = {}
    for k in range(4):
        names[f"enc.conv{k}"] = f"world.encoder.convs.{k}"
        names[f"dec.convt{k}"] = f"world.decoder.convs.{k}"
    names["dec.dense"] = "world.decoder.dense"
    for layer in ("img_in", "prior_in", "prior_out", "post_in", "post_out"):
        names[f"rssm.{layer}"] = f"world.rssm.{layer}"
    names["rssm.gru"] = "world.rssm.gru.dense"
    names["rssm.gru_norm"] = "world.rssm.gru.norm"
    for head, ours in {
        "reward": "world.reward",
        "discount": "world.discount",
        "actor": "behavior.actor",
        "critic": "behavior.critic",
        "slow_critic": "behavior.slow_critic",
    }.items():
        names |= {f"{head}.{k}": f"{ours}.hidden.{k}" for k in range(4)} | {f"{head}.out": f"{ours}.out"}
    return {f"{theirs}.{kind}": f"{ours}.{kind}" for theirs, ours in names.items() for kind in ("weight", "bias")}


def to_ours(name: str, array: np.ndarray) -> np.ndarray:
    """The official encoder flattens (h, w, c), ours (c, h, w): the embedding's columns of post_in move."""
    if name != "rssm.post_in.weight":
        return array
    h, embed = array[:, : official.D], array[:, official.D :]
    embed = embed.reshape(-1, 2, 2, 384).transpose(0, 3, 1, 2).reshape(-1, official.E)
    return np.concatenate([h, embed], 1)


def official_agent() -> Agent:
    """Ours with the official weights."""
    agent = Agent(ModelConfig(), BehaviorConfig(horizon=official.H), channels=1, num_actions=official.A)
    names = parameter_names()
    arrays = {names[name]: torch.tensor(to_ours(name, array)) for name, array in official.weights().items()}
    missing, unexpected = agent.load_state_dict(arrays, strict=False)
    assert missing == ["behavior.updates"] and not unexpected
    return agent


def official_batch() -> Batch:
    data = {key: torch.tensor(value).transpose(0, 1) for key, value in official.batch().items()}
    # Where a game begins the action may be anything: it is masked.
    return Batch(data["image"], data["action"].argmax(-1), data["reward"], data["is_first"], data["is_terminal"])


@pytest.fixture(scope="module")
def agent() -> Agent:
    return official_agent()


@pytest.fixture(scope="module")
def batch() -> Batch:
    return official_batch()


@pytest.fixture(autouse=True)
def no_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dreamer.equations, "gumbel_like", torch.zeros_like)


def batch_major(x: torch.Tensor) -> np.ndarray:
    return x.detach().transpose(0, 1).numpy()


def test_world_model_equals_the_official_numbers(agent: Agent, batch: Batch) -> None:
    out = agent.world.loss(batch)
    for ours, theirs in {
        "model_loss": "model_loss",
        "kl_loss": "kl_loss",
        "image_loss": "image_loss",
        "reward_loss": "reward_loss",
        "discount_loss": "discount_loss",
        "kl": "model_kl",
        "prior_entropy": "prior_ent",
        "post_entropy": "post_ent",
    }.items():
        np.testing.assert_allclose(out.metrics[ours].item(), NUMBERS[theirs], **LOSS, err_msg=ours)

    state = out.unroll.state
    np.testing.assert_array_equal(batch_major(out.unroll.post.argmax(-1))[..., :8], NUMBERS["post_index"])
    np.testing.assert_allclose(batch_major(state.h)[..., :8], NUMBERS["deter_first8"], atol=2e-6)
    feat = state.feat()
    np.testing.assert_allclose(
        batch_major(agent.world.predict_reward(feat)), NUMBERS["reward_pred"], rtol=1e-5, atol=1e-5
    )
    np.testing.assert_allclose(batch_major(agent.world.predict_discount(feat)), NUMBERS["discount_pred"], rtol=1e-5)
    image_mean = agent.world.decode(state).mean((-3, -2, -1))
    np.testing.assert_allclose(batch_major(image_mean), NUMBERS["image_mean"], rtol=1e-4, atol=1e-6)


def test_world_model_gradients_equal_the_official_numbers(agent: Agent, batch: Batch) -> None:
    parameters = dict(agent.named_parameters())
    names = {theirs: ours for theirs, ours in parameter_names().items() if ours.startswith("world.")}
    grads = torch.autograd.grad(agent.world.loss(batch).loss, [parameters[ours] for ours in names.values()])
    assert set(names) == set(NUMBERS["grad_norms"])
    for theirs, grad in zip(names, grads, strict=True):
        np.testing.assert_allclose(grad.norm().item(), NUMBERS["grad_norms"][theirs], **GRAD, err_msg=theirs)


def test_behavior_equals_the_official_numbers(agent: Agent, batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = NUMBERS["behavior"]
    slow = {key: value.clone() for key, value in agent.behavior.slow_critic.state_dict().items()}
    out = agent.world.loss(batch)
    # Starts are flattened batch-major here only because the official numbers are.
    state = type(out.unroll.state)(*(x.detach().transpose(0, 1).flatten(0, 1) for x in out.unroll.state))
    start = Start(state, out.discount.transpose(0, 1).flatten())

    behavior, grads, dreams = agent.behavior, {}, []

    def grad_norms(name: str, module: torch.nn.Module):
        def step(loss: torch.Tensor) -> torch.Tensor:
            parameters = dict(module.named_parameters())
            parts = torch.autograd.grad(loss, list(parameters.values()))
            keys = [f"{name}.{key.removeprefix('hidden.')}" for key in parameters]
            grads[name] = {key: part.norm().item() for key, part in zip(keys, parts, strict=True)}
            return loss.detach()

        return step

    imagine = agent.world.imagine
    monkeypatch.setattr(agent.world, "imagine", lambda *args: dreams.append(imagine(*args)) or dreams[0])
    metrics = behavior.update(
        agent.world,
        start,
        {"actor": grad_norms("actor", behavior.actor), "critic": grad_norms("critic", behavior.critic)},
    )

    for ours, theirs in {
        "actor_loss": "actor_loss",
        "critic_loss": "critic_loss",
        "slow_value": "critic_slow",
        "imagined_return": "critic_target",
        "actor_entropy": "actor_ent",
        "imagined_reward": "reward_mean",
        "imagined_discount": "discount_mean",
        "imagined_weight": "weight_mean",
    }.items():
        np.testing.assert_allclose(metrics[ours].item(), expected[theirs], **LOSS, err_msg=ours)
    for name in ("actor", "critic"):
        assert set(grads[name]) == set(expected[f"{name}_grad_norms"])
        for key, norm in expected[f"{name}_grad_norms"].items():
            np.testing.assert_allclose(grads[name][key], norm, **GRAD, err_msg=key)

    dream = dreams[0]
    np.testing.assert_array_equal(dream.action.argmax(-1).numpy(), expected["action_index"])
    # The target critic has been overwritten by now (update 0 copies): the official one is put back for the targets.
    behavior.slow_critic.load_state_dict(slow)
    value = behavior.slow_critic(dream.state.feat()).squeeze(-1)
    target = lambda_return(dream.reward, discount=dream.discount, value=value, lambda_=0.95)
    np.testing.assert_allclose(target.detach().numpy(), expected["target"], rtol=1e-4, atol=1e-5)
