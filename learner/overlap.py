"""World model and behaviour side by side, each in a thread of its own: on two cores 1.7 times as many updates.

    thread 1    world model 1 | world model 2         | world model 3         | ...
    thread 2                  | behaviour, of batch 1 | behaviour, of batch 2 | ...

The behaviour's part of update k needs the weights that the world model has after update k, and the world model needs
nothing of the behaviour. So the behaviour dreams in a copy of those weights while update k + 1 changes them, and every
part computes what it would compute in turns. Only the random numbers are drawn in another order each time: no two runs
are alike, so the inline runtime, which promises that they are, takes its turns.

When somebody looks between two calls, both threads are at rest; what the newest batch brings the behaviour comes with
the next call, and is lost if there is none. To whoever measures, "dream" is the copying of the weights and "behavior"
the waiting for the other thread.
"""

from __future__ import annotations

import copy
from concurrent.futures import Future, ThreadPoolExecutor

import torch

from dreamer.agent import Agent
from dreamer.behaviors import GradSteps, Mark
from dreamer.types import Batch, Metrics, Replayed
from learner.step import behavior_step, counted, world_step


class SideBySide:
    """An update like `train_step`: batch [T, B, ...] -> metrics, the behaviour's being of the batch before."""

    def __init__(self, agent: Agent, step: GradSteps, *, precision: str, mark: Mark) -> None:
        self._agent, self._step, self._precision, self._mark = agent, step, precision, mark
        self._world = copy.deepcopy(agent.world).requires_grad_(False)  # where the behaviour dreams
        threads = torch.get_num_threads()
        self._thread = ThreadPoolExecutor(1, "behavior", initializer=torch.set_num_threads, initargs=(threads,))
        self._replayed: Replayed | None = None  # of the batch before

    def __call__(self, batch: Batch) -> Metrics:
        if self._replayed is None:
            self._mark("world_model")
            metrics, replayed = world_step(self._agent, self._step, batch, precision=self._precision)
            behavior = self._begin(replayed)  # that batch is dreamt of twice
        else:
            behavior = self._begin(self._replayed)
            self._mark("world_model")
            try:
                metrics, replayed = world_step(self._agent, self._step, batch, precision=self._precision)
            except BaseException:
                behavior.exception()  # nobody may find it at work
                raise
        self._mark("behavior")
        metrics |= behavior.result()
        self._replayed = replayed
        return counted(metrics)

    def _begin(self, replayed: Replayed) -> Future[Metrics]:
        """Copies the weights that the behaviour dreams in, and sets it to work."""
        self._mark("dream")
        with torch.no_grad():
            torch._foreach_copy_(list(self._world.parameters()), list(self._agent.world.parameters()))
        return self._thread.submit(self._improve, replayed)

    def _improve(self, replayed: Replayed) -> Metrics:
        return behavior_step(self._agent, self._world, self._step, replayed, precision=self._precision)
