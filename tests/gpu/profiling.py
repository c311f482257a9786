"""Stage profile: how many kernels an update launches, which take longest, and how much of its time the GPU computes."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from cluster.bench.ceilings import synchronize
from learner.loop import make_update
from learner.step import make_grad_steps, train_step
from tests.gpu.bench import Measure, run
from tests.gpu.operators import count_operators
from tests.gpu.settings import Stage, config_of, make_learner, parse

UPDATES = 20
TRACED = 5  # of these; reading the trace of more would take longer than they do
TOP = 15  # kernels


def measurements(stage: Stage) -> dict[str, Measure]:
    """The most wanted first."""
    found: dict[str, Measure] = {}
    for name in ("fast", "paper"):
        found[f"{name} kernels"] = lambda name=name: kernels(stage, name)
    for name in ("fast", "paper"):
        found[f"{name} phases"] = lambda name=name: phases(stage, name)
    for name in ("cpu", "fast", "paper"):
        found[f"{name} operators"] = lambda name=name: count_operators(config_of(name, stage))
    return found


def kernels(stage: Stage, name: str) -> dict[str, Any]:
    """Of the update as it is trained with: on a GPU captured."""
    config = config_of(name, stage)
    agent, optimizers, batch = make_learner(config, stage.device)
    update = make_update(agent, optimizers, config.train, example=batch)
    seconds = timed(lambda: update(batch), stage)
    on_gpu = stage.device.type == "cuda"
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * on_gpu
    with profile(activities=activities) as traced:
        for _ in range(TRACED):
            update(batch)
        synchronize(stage.device)
    times: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    for event in traced.events():
        if event.device_type == (DeviceType.CUDA if on_gpu else DeviceType.CPU):
            times[event.name] += (event.time_range.elapsed_us() if on_gpu else event.self_cpu_time_total) / 1e6 / TRACED
            counts[event.name] += 1
    top = [
        {"name": kernel[:160], "seconds": each, "count": counts[kernel] / TRACED}
        for kernel, each in times.most_common(TOP)
    ]
    return {
        "seconds_per_update": seconds,
        "kernels_per_update": counts.total() / TRACED,
        "kernel_seconds_per_update": times.total(),
        "busy_share": times.total() / seconds,
        "top": top,
    }


def timed(update: Callable[[], object], stage: Stage) -> float:
    """Seconds per update."""
    updates = TRACED if stage.tiny else UPDATES
    for _ in range(3):
        update()
    synchronize(stage.device)
    began = time.perf_counter()
    for _ in range(updates):
        update()
    synchronize(stage.device)
    return (time.perf_counter() - began) / updates


class Stopwatch:
    """Moments at which phases begin: the host's, and on a GPU the device's."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.moments: list[tuple[str, float, torch.cuda.Event | None]] = []

    def mark(self, phase: str) -> None:
        event = None
        if self._device.type == "cuda":
            event = torch.cuda.Event(enable_timing=True)
            event.record()
        self.moments.append((phase, time.perf_counter(), event))

    def seconds(self) -> dict[str, dict[str, float]]:
        """Phase -> host's and device's seconds in it."""
        synchronize(self._device)
        found: dict[str, dict[str, float]] = {}
        for (phase, began, start), (_, ended, end) in zip(self.moments, self.moments[1:], strict=False):
            each = found.setdefault(phase, {"host": 0.0, "device": 0.0})
            each["host"] += ended - began
            each["device"] += start.elapsed_time(end) / 1000 if start and end else ended - began
        return found


def phases(stage: Stage, name: str) -> dict[str, Any]:
    """Of the eager update. Where the device's time is the host's, launching is what it waits for."""
    config = config_of(name, stage)
    config = replace(config, train=replace(config.train, capture=False))
    agent, optimizers, batch = make_learner(config, stage.device)
    step = make_grad_steps(optimizers, clip=config.train.grad_clip)
    for _ in range(2):
        train_step(agent, step, batch, precision=config.train.precision)
    watch = Stopwatch(stage.device)
    for _ in range(TRACED):
        train_step(agent, step, batch, precision=config.train.precision, mark=watch.mark)
        watch.mark("end")
    found = watch.seconds()
    found.pop("end", None)
    return {phase: {side: seconds / TRACED for side, seconds in each.items()} for phase, each in found.items()}


if __name__ == "__main__":
    told = parse()
    run(told, "tests.gpu.profiling", measurements(told))
