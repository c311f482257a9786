"""How many operators an update calls: where the host launches every one, that is what an update costs."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from cluster.config import Config
from learner.step import make_grad_steps, train_step
from tests.gpu.settings import make_learner

CPU = torch.device("cpu")
VIEWS = ("view", "_unsafe_view", "expand", "permute", "transpose", "t", "select", "slice", "unsqueeze", "squeeze")
VIEWS += ("as_strided", "detach", "alias", "unbind", "split", "split_with_sizes", "_reshape_alias", "lift_fresh")


class Counting(TorchDispatchMode):
    """Counts what reaches the device, by phase of the update; views, which compute nothing, are left out."""

    def __init__(self) -> None:
        super().__init__()
        self.phases: Counter[str] = Counter()
        self.names: Counter[str] = Counter()
        self._phase = "other"

    def mark(self, phase: str) -> None:
        self._phase = phase

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = str(func).removeprefix("aten.").partition(".")[0]
        if name not in VIEWS:
            self.phases[self._phase] += 1
            self.names[name] += 1
        return func(*args, **(kwargs or {}))


def count_operators(config: Config) -> dict[str, Any]:
    """Of one eager update on the CPU. The number does not depend on the batch, so one window stands for all."""
    config = replace(config, replay=replace(config.replay, batch=1), train=replace(config.train, precision="float32"))
    agent, optimizers, batch = make_learner(config, CPU)
    step = make_grad_steps(optimizers, clip=config.train.grad_clip, keras=config.train.adam_keras)
    train_step(agent, step, batch, precision="float32")  # makes the moments
    with Counting() as counted:
        train_step(agent, step, batch, precision="float32", mark=counted.mark)
    return {"total": counted.phases.total(), "phases": dict(counted.phases), "most": counted.names.most_common(15)}
