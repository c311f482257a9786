"""An update on a GPU: it is never waited for, whatever the behaviour. On the CPU the same under a mode that sees it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from dreamer.config import BehaviorConfig
from learner.loop import make_update
from tests.devices import CUDA, DEVICES
from tests.learner.test_graph import BEHAVIORS, CONFIG, PRECISIONS, STATES, NoQuestions, batches, start


@contextlib.contextmanager
def never_waiting(device: str) -> Iterator[None]:
    """Fails where the host asks the device for something; on a GPU by CUDA's own word besides."""
    with NoQuestions() as guard:
        if device == "cuda":
            torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            if device == "cuda":
                torch.cuda.set_sync_debug_mode("default")
    assert guard.seen > 0


@pytest.mark.parametrize("device", [CUDA])
def test_cuda_says_when_it_is_waited_for(device: str) -> None:
    x = torch.rand(3, device=device)
    for question in (lambda: x.sum().item(), lambda: x[x > 0.5], lambda: x.cpu(), lambda: x.nonzero()):
        torch.cuda.set_sync_debug_mode("error")
        try:
            with pytest.raises(RuntimeError):
                question()
        finally:
            torch.cuda.set_sync_debug_mode("default")


@PRECISIONS
@BEHAVIORS
@STATES
@pytest.mark.parametrize("device", DEVICES)
def test_an_eager_update_never_waits_for_its_device(
    device: str, precision: str, behavior: BehaviorConfig, states: bool
) -> None:
    agent, optimizers = start(device, behavior)
    data = batches(3, device, states=states)
    config = replace(CONFIG, precision=precision, capture=False)
    update = make_update(agent, optimizers, config, example=data[0])
    update(data[0])  # libraries make their plans, optimisers their moments
    with never_waiting(device):
        for batch in data[1:]:
            metrics = update(batch)
    assert all(value.isfinite() for value in metrics.values())
