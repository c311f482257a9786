"""The whole update as one CUDA graph: one launch by the host instead of some ten thousand.

A graph repeats what was recorded: the same kernels on the same addresses. So an update must read its batch from where
it was when recorded, keep every weight and every optimiser's moment in place, and never ask the device for a value. On
a CPU `StaticUpdate` runs the same update from the same fixed places without a graph.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from dreamer.agent import Agent
from dreamer.types import Batch, Metrics
from learner.step import Optimizers

WARM_UP = 3  # updates before the recording: libraries make their plans, optimisers their moments; PyTorch's manual

Update = Callable[[Batch], Metrics]


class StaticUpdate:
    """`update` from fixed places: batch [T, B, ...] copied in, metrics out as one tensor [M]."""

    def __init__(self, update: Update, example: Batch) -> None:
        self._update = update
        self._batch = Batch(*(field.clone() for field in example))
        self._names: list[str] = []
        self._values = torch.empty(0)  # [M]
        self._launch: Callable[[], None] = self.run  # once recorded: the graph

    def __call__(self, batch: Batch) -> Metrics:
        for place, given in zip(self._batch, batch, strict=True):
            place.copy_(given)
        self._launch()
        return dict(zip(self._names, self._values.clone().unbind(), strict=True))

    def run(self) -> None:
        """One update, kernel by kernel."""
        metrics = self._update(self._batch)
        self._names = list(metrics)
        self._values = torch.stack([value.float() for value in metrics.values()])

    def record(self) -> None:
        """From now on an update is one launch. Weights, moments and generator must not be replaced afterwards."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.run()
        self._launch = graph.replay


def capture(update: Update, agent: Agent, optimizers: Optimizers, example: Batch) -> StaticUpdate:
    """`update` as a CUDA graph for batches like `example`; leaves agent, optimisers and draws as they were."""
    static = StaticUpdate(update, example)
    device = example.obs.device
    with without_trace(agent, optimizers, device):
        stream = torch.cuda.Stream(device)
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                static.run()
        torch.cuda.current_stream(device).wait_stream(stream)
        static.record()
    return static


@contextmanager
def without_trace(agent: Agent, optimizers: Optimizers, device: torch.device) -> Iterator[None]:
    """For updates that leave weights and moments, in place, and the draws on `device` as they were before."""
    saved = {id(tensor): tensor.clone() for tensor in tensors_of(agent, optimizers)}
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield
    restore(saved, agent, optimizers)


def tensors_of(agent: Agent, optimizers: Optimizers) -> Iterator[Tensor]:
    """All that an update changes: weights, buffers, moments and step counts."""
    yield from agent.state_dict(keep_vars=True).values()
    for optimizer in optimizers.values():
        for state in optimizer.state.values():
            yield from (value for value in state.values() if isinstance(value, Tensor))


@torch.no_grad()
def restore(saved: dict[int, Tensor], agent: Agent, optimizers: Optimizers) -> None:
    """Writes back, in place, what was saved; moments that were not there before begin at zero."""
    for tensor in tensors_of(agent, optimizers):
        if id(tensor) in saved:
            tensor.copy_(saved[id(tensor)])
        else:
            tensor.zero_()
