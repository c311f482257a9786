"""Sizes small enough for milliseconds, and random data that fit them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn

from dreamer.agent import Agent
from dreamer.behaviors import Behavior, GradSteps
from dreamer.config import BehaviorConfig, ModelConfig
from dreamer.types import Batch, Replayed, Start, State

ACTIONS = 3
MODEL = ModelConfig(cnn_depth=2, deter=12, hidden=10, stoch=4, classes=5, head_layers=1, head_units=11)
BEHAVIOR = BehaviorConfig(layers=1, units=13, horizon=4)
# Everything that `paper` has off.
SWITCHES = replace(
    MODEL,
    cnn="same",
    norm=True,
    unimix=0.01,
    reward_squash="none",
    reward_bins=11,
    picture="bernoulli",
    motion_weight=9.0,
    free_each=True,
)
GAUSSIAN = replace(MODEL, latent="gaussian")
WORLD_MODELS = replace(GAUSSIAN, dynamics="vae_rnn", mixtures=3, kl_scale=0.5, free_nats=2.0, free_each=True)
PLANNED = {"cem_candidates": 24, "cem_rounds": 3, "cem_elites": 4}
SEARCHED = {"search_learning": 4, "search_acting": 3, "search_unroll": 2}
BRED = {"es_population": 16, "es_starts": 3}
BEHAVIOR_SWITCHES = replace(
    BEHAVIOR,
    temperature=0.5,
    start_every=2,
    norm=True,
    unimix=0.01,
    value_bins=11,
    return_scale=0.99,
    slow_every=2,
    slow_fraction=0.02,
)


def make_agent(behavior: BehaviorConfig = BEHAVIOR, *, model: ModelConfig = MODEL, channels: int = 1) -> Agent:
    return Agent(model, behavior, channels=channels, num_actions=ACTIONS)


def random_batch(time: int = 5, batch: int = 2, *, channels: int = 1, states: bool = False) -> Batch:
    """Noise that begins with a new game, has another one in row 1 at t=3 and a terminal just before.

    With `states` it begins in the middle of games, but for row 1, and brings the state before every record.
    """
    is_first = torch.zeros(time, batch, dtype=torch.bool)
    is_first[0] = True
    is_first[3:4, 1:2] = True
    is_terminal = torch.zeros(time, batch, dtype=torch.bool)
    is_terminal[2:3, 1:2] = True
    steps = Batch(
        obs=torch.randint(0, 256, (time, batch, 64, 64, channels), dtype=torch.uint8),
        prev_action=torch.randint(0, ACTIONS, (time, batch)),
        reward=torch.randint(0, 5, (time, batch)).float(),
        is_first=is_first,
        is_terminal=is_terminal,
    )
    if not states:
        return steps
    is_first[0] = torch.arange(batch) == 1
    h, z = random_state(time * batch).pack()
    return steps._replace(prev_h=h.unflatten(0, (time, batch)), prev_z=z.unflatten(0, (time, batch)))


def random_state(games: int, model: ModelConfig = MODEL) -> State:
    if model.latent == "gaussian":
        z = torch.randn(games, model.stoch, 1)
    else:
        z = torch.nn.functional.one_hot(torch.randint(0, model.classes, (games, model.stoch)), model.classes).float()
    return State(torch.rand(games, model.deter) * 2 - 1, z)


def random_start(games: int = 6, model: ModelConfig = MODEL) -> Start:
    return Start(random_state(games, model), torch.full((games,), model.gamma))


def random_windows(time: int = 3, batch: int = 2, *, every: int = 1) -> Start:
    """Starts at states of random windows, of which is known what really came."""
    h, z = random_state(time * batch)
    state = State(h.unflatten(0, (time, batch)), z.unflatten(0, (time, batch)))
    going_on, no_start = torch.full((time, batch), MODEL.gamma), torch.zeros(time, batch, dtype=torch.bool)
    seen = Replayed(state, going_on, torch.rand(time, batch), random_actions(time, batch), no_start)
    return Start.of(seen, every)


def random_actions(*shape: int) -> Tensor:
    return torch.nn.functional.one_hot(torch.randint(0, ACTIONS, shape), ACTIONS).float()


def make_steps(behavior: Behavior, *, lr: float = 1e-2, optimizer: type = torch.optim.SGD) -> GradSteps:
    """A gradient step for each of the behaviour's groups, over the parameters of that group alone."""
    groups = {name: list(parameters) for name, parameters in behavior.param_groups().items()}
    return {name: make_step(group, optimizer(group, lr=lr)) for name, group in groups.items()}


def make_step(parameters: list[nn.Parameter], optimizer: torch.optim.Optimizer):
    def step(loss: Tensor) -> Tensor:
        grads = torch.autograd.grad(loss, parameters)
        for parameter, grad in zip(parameters, grads, strict=True):
            parameter.grad = grad
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return torch.stack([grad.norm() for grad in grads]).norm()

    return step


def copy_weights(module: nn.Module) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in module.state_dict().items()}


def same_weights(module: nn.Module, weights: dict[str, Tensor]) -> bool:
    return all(torch.equal(weight, weights[name]) for name, weight in module.state_dict().items())


@contextmanager
def bfloat16() -> Iterator[None]:
    """Mixed precision as the learner uses it: without the cache of cast weights, which outlives an update."""
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        yield
