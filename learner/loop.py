"""The learner's loop: it yields a report per update; whoever iterates decides what to publish, log and save."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch

from dreamer.agent import Agent
from dreamer.types import Batch, Metrics
from learner.config import TrainConfig
from learner.feed import to_batch
from learner.step import Optimizers, make_grad_steps, train_step
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
) -> Iterator[LearnerReport]:
    """Trains on every sample; `update` is the count to go on from. Ends when the samples end."""
    step = make_grad_steps(optimizers, clip=config.grad_clip)
    for sample in samples:
        age = float((update - sample.policy_version.clip(min=0)).mean())
        batch = to_batch(sample.sequences, device)
        metrics = train_step(agent, step, batch, precision=config.precision)
        update += 1
        yield LearnerReport(update, metrics, age, batch)
