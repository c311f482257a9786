"""The learner's loop: it yields a report per update; whoever iterates decides what to publish, log and save."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch

from dreamer.agent import Agent
from dreamer.behaviors import Mark, no_mark
from dreamer.types import Batch, Metrics
from learner.config import TrainConfig
from learner.device import choose_precision
from learner.feed import to_batch
from learner.graph import Update, capture
from learner.overlap import SideBySide
from learner.step import Optimizers, dream_step, make_grad_steps, train_step
from replay import Sample


class LearnerReport(NamedTuple):
    """One update."""

    update: int  # updates so far, this one included
    metrics: Metrics  # detached scalars, still on the device
    policy_age: float  # updates since the policy that played the batch, mean
    batch: Batch  # that it was trained on


def learn(
    agent: Agent,
    optimizers: Optimizers,
    samples: Iterable[Sample],
    config: TrainConfig,
    *,
    device: torch.device,
    update: int = 0,
    mark: Mark = no_mark,
) -> Iterator[LearnerReport]:
    """Trains on every sample; `update` is the count to go on from. Ends when the samples end.

    A world model whose weights take no gradient (`requires_grad_(False)`) stays as it is: the behaviour learns alone.

    `mark` hears when an update begins and, where the CPU does the work, its parts; then "other", before the report.
    """
    step_of: Update | None = None
    for sample in samples:
        age = float((update - sample.policy_version.clip(min=0)).mean())
        batch = to_batch(sample.sequences, device)
        step_of = step_of or make_update(agent, optimizers, config, example=batch, mark=mark)
        mark("update")
        metrics = step_of(batch)
        mark("other")
        update += 1
        yield LearnerReport(update, metrics, age, batch)


def make_update(
    agent: Agent, optimizers: Optimizers, config: TrainConfig, *, example: Batch, mark: Mark = no_mark
) -> Update:
    """What improves the agent by a batch like `example` [T, B, ...]: on a GPU one captured graph, else plain calls.

    config.overlap: on a CPU in two threads; not where the world model stays as it is.
    A GPU works later than it is told to, and its graph in one piece: there no part of the update is marked.
    """
    step = make_grad_steps(optimizers, clip=config.grad_clip, keras=config.adam_keras)
    parts = no_mark if example.obs.is_cuda else mark
    precision = choose_precision(config.precision, example.obs.device)
    learns_all = next(agent.world.parameters()).requires_grad
    if config.overlap and learns_all and not example.obs.is_cuda:
        return SideBySide(agent, step, precision=precision, mark=parts)

    one = train_step if learns_all else dream_step

    def update(batch: Batch) -> Metrics:
        return one(agent, step, batch, precision=precision, mark=parts)

    return capture(update, agent, optimizers, example) if config.capture and example.obs.is_cuda else update
