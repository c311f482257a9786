"""What the stages measure: presets as they are, or so small that a CPU can rehearse the command."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch

from cluster.assemble import env_spec, make_agent
from cluster.bench.parts import random_play
from cluster.config import Config
from cluster.presets import preset
from dreamer.agent import Agent
from dreamer.types import Batch
from learner.device import has_bfloat16_units, prepare_learner
from learner.feed import to_batch
from learner.step import Optimizers, make_optimizers
from tests.dreamer.tiny import BEHAVIOR, MODEL


class Stage(NamedTuple):
    """What a stage's process is told."""

    device: torch.device
    numbers: Path  # what it fills
    tiny: bool
    done: tuple[str, ...]  # what was measured already, by a process whose device then failed
    minutes: float  # of training
    work: Path  # folder for the run and what is made of it


class Learner(NamedTuple):
    """A new agent and what it is trained with."""

    agent: Agent
    optimizers: Optimizers
    batch: Batch


def parse() -> Stage:
    """The options of a stage's process, which tests/gpu/__main__.py gives it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", required=True)
    parser.add_argument("--numbers", required=True, type=Path)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--done", nargs="*", default=())
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--work", type=Path, default=Path())
    given = parser.parse_args()
    device = torch.device(given.device)
    return Stage(device, given.numbers, given.tiny, tuple(given.done), given.minutes, given.work)


def config_of(name: str, stage: Stage) -> Config:
    """Preset `name` in bfloat16, on the CPU in float32."""
    config = preset(name)
    threads = 1 if stage.tiny else config.train.threads
    train = replace(config.train, precision=precision(stage.device), device=stage.device.type, threads=threads)
    config = replace(config, train=train)
    if not stage.tiny:
        return config
    return replace(
        config,
        env=replace(preset("cpu").env, time_limit=60),
        model=replace(MODEL, cnn="same"),
        behavior=BEHAVIOR,
        replay=replace(config.replay, length=6, stride=3, batch=3, prefill=20, capacity=2000),
        actor=replace(config.actor, games=2, workers=0),
    )


def precision(device: torch.device) -> str:
    return "bfloat16" if device.type == "cuda" and has_bfloat16_units(device) else "float32"


def make_learner(config: Config, device: torch.device) -> Learner:
    """With a batch of random play."""
    prepare_learner(config.train)
    torch.manual_seed(0)
    agent = make_agent(config, env_spec(config)).to(device)
    batch = to_batch(random_play(config).sequences, device)
    return Learner(agent, make_optimizers(agent, config.train), batch)
