"""One update of everything."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from dreamer.agent import Agent
from dreamer.behaviors import GradSteps, Mark, no_mark
from dreamer.types import Batch, Metrics, Replayed, Start
from dreamer.world_model import WorldModel
from learner.adam import keras_step
from learner.config import TrainConfig

Optimizers = dict[str, torch.optim.AdamW]  # group name -> its own optimiser


def make_optimizers(agent: Agent, config: TrainConfig) -> Optimizers:
    """One Adam for the world model and one for each parameter group of the behaviour.

    The official code takes the same share off every weight at each update, whatever the learning rate ("decoupled", not
    L2); AdamW multiplies its decay by the rate, hence the division.
    """
    rates = {"model": config.model_lr, "actor": config.actor_lr, "critic": config.critic_lr}
    groups = {"model": agent.world.parameters(), **agent.behavior.param_groups()}
    on_gpu = next(agent.parameters()).is_cuda
    return {
        name: torch.optim.AdamW(
            list(parameters),
            lr=rates[name],
            eps=config.adam_eps,
            weight_decay=config.weight_decay / rates[name],
            fused=True,
            capturable=on_gpu,  # counts its steps where a CUDA graph can
        )
        for name, parameters in groups.items()
    }


def make_grad_steps(optimizers: Optimizers, *, clip: float, keras: bool = True) -> GradSteps:
    """`step[name](loss)` improves that group of parameters alone and returns their gradient norm before clipping.

    A gradient that is not finite changes nothing, neither weights nor moments; the norm tells. `keras`: by Adam as
    Keras computes it, see adam.py; else as PyTorch does.
    """
    return {name: _make_grad_step(optimizer, clip, keras) for name, optimizer in optimizers.items()}


def _make_grad_step(optimizer: torch.optim.AdamW, clip: float, keras: bool) -> Callable[[Tensor], Tensor]:
    parameters = optimizer.param_groups[0]["params"]

    def step(loss: Tensor) -> Tensor:
        # Not loss.backward(): that would leave gradients in every weight on the way, the world model's included.
        gradients = torch.autograd.grad(loss, parameters)
        norm = torch.nn.utils.get_total_norm(gradients)
        clipped = torch._foreach_mul(gradients, clip / norm.clamp(min=clip))
        if keras:
            keras_step(optimizer, clipped, good=norm.isfinite())
            return norm.detach()
        optimizer.found_inf = (~norm.isfinite()).float()  # type: ignore[attr-defined]  # the fused kernels look at it
        for parameter, gradient in zip(parameters, clipped, strict=True):
            parameter.grad = gradient
        optimizer.step()
        optimizer.zero_grad()
        return norm.detach()

    return step


def train_step(agent: Agent, step: GradSteps, batch: Batch, *, precision: str, mark: Mark = no_mark) -> Metrics:
    """World model, then dreams from its posterior states, then the behaviour: one update. precision: not auto.

    The dreams begin at the states that the batch gave *before* the world model's step and run on its new weights, as in
    the official code.
    """
    mark("world_model")
    metrics, replayed = world_step(agent, step, batch, precision=precision)
    mark("dream")
    return counted(metrics | behavior_step(agent, agent.world, step, replayed, precision=precision, mark=mark))


def dream_step(agent: Agent, step: GradSteps, batch: Batch, *, precision: str, mark: Mark = no_mark) -> Metrics:
    """The behaviour alone, in a world model that stays as it is: it only says where the dreams begin."""
    mark("world_model")
    with arithmetic(precision, batch.obs.device):
        replayed = agent.world.replayed(batch)
    mark("dream")
    return counted(behavior_step(agent, agent.world, step, replayed, precision=precision, mark=mark))


def world_step(agent: Agent, step: GradSteps, batch: Batch, *, precision: str) -> tuple[Metrics, Replayed]:
    """The world model's part of an update, and what the behaviour's part begins with."""
    with arithmetic(precision, batch.obs.device):
        out = agent.world.loss(batch)
        metrics = out.metrics | {"model_grad": step["model"](out.loss)}
    prev_action = agent.world.one_hot(batch.prev_action)
    return metrics, Replayed(out.unroll.state.detach(), out.discount, out.reward, prev_action, batch.is_first)


def behavior_step(
    agent: Agent, world: WorldModel, step: GradSteps, replayed: Replayed, *, precision: str, mark: Mark = no_mark
) -> Metrics:
    """The behaviour's part: it dreams in `world`, the agent's own or a copy."""
    with arithmetic(precision, replayed.reward.device):
        start = Start.of(replayed, agent.behavior.config.start_every)
        return agent.behavior.update(world, start, step, mark)


def arithmetic(precision: str, device: torch.device) -> torch.autocast:
    """Weights are cast at every use (cache off): the cache would keep casts made without gradient."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16", cache_enabled=False)


def counted(metrics: Metrics) -> Metrics:
    """One update that is not finite would hide all the others in a mean: it counts as 0 there, and is counted here."""
    if not metrics:  # of a behaviour that tells nothing, alone
        return {"nonfinite": torch.zeros(())}
    values = torch.stack([value.float() for value in metrics.values()])
    finite = dict(zip(metrics, values.nan_to_num(0.0, 0.0, 0.0).unbind(), strict=True))
    return finite | {"nonfinite": (~values.isfinite().all()).float()}
