"""Stage bench: updates and pictures per second, captured and eager, and the policy's steps per second."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from cluster.bench import ceilings
from cluster.bench.parts import bench_actor, bench_learner
from tests.gpu import numbers
from tests.gpu.settings import Stage, config_of, parse, precision

GAMES = 32  # side by side, of one batch of the policy
Measure = Callable[[], dict[str, Any]]


def measurements(stage: Stage) -> dict[str, Measure]:
    """The most wanted first."""
    found: dict[str, Measure] = {"ceilings": lambda: ceilings.measure(stage.device)._asdict()}
    for captured in (True, False) if stage.device.type == "cuda" else (False,):
        for name in ("fast", "paper"):
            mode = "captured" if captured else "eager"
            found[f"{name} {mode}"] = lambda name=name, captured=captured: updates(stage, name, captured)
    found["policy"] = lambda: policy(stage)
    return found


def updates(stage: Stage, name: str, captured: bool) -> dict[str, Any]:
    config = config_of(name, stage)
    config = replace(config, train=replace(config.train, capture=captured))
    found = bench_learner(name, config, stage.device, precision(stage.device))
    pictures = found.batch * found.length * found.updates_per_second
    return found._asdict() | {"pictures_per_second": pictures}


def policy(stage: Stage) -> dict[str, Any]:
    config = config_of("fast", stage)
    games = 2 if stage.tiny else GAMES
    config = replace(config, actor=replace(config.actor, games=games, workers=min(config.actor.workers, games)))
    return bench_actor(config, stage.device, seconds=1.0 if stage.tiny else 3.0)._asdict()


def run(stage: Stage, module: str, found: dict[str, Measure]) -> None:
    """One after the other. A device that answers nothing after a failure is left: a new process measures the rest."""
    done = list(stage.done)
    for name, measure in found.items():
        if name in done:
            continue
        done.append(name)
        good = numbers.note(stage.numbers, name, measure)
        if stage.device.type == "cuda":
            if not good and not answers(stage.device):
                words = ["--device", str(stage.device), "--numbers", str(stage.numbers), *["--tiny"] * stage.tiny]
                os.execv(sys.executable, [sys.executable, "-m", module, *words, "--done", *done])
            torch.cuda.empty_cache()


def answers(device: torch.device) -> bool:
    try:
        return torch.ones(2, device=device).sum().item() == 2
    except RuntimeError:
        return False


if __name__ == "__main__":
    told = parse()
    run(told, "tests.gpu.bench", measurements(told))
