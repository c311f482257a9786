"""From a configuration to games, their spec and an agent; from a run directory to its trained agent."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch

from actors.env import check_game
from cluster.config import Config, check_agent
from cluster.run.directory import open_run
from dreamer.agent import Agent
from dreamer.behaviors import VALUE_AFTER
from dreamer.config import BehaviorConfig
from learner import checkpoint
from learner.checkpoint import Checkpoint
from learner.device import choose_device
from replay import MemoryReplay, ReplayConfig, UserError, in_memory, on_device
from replay.experience import EnvSpec

log = logging.getLogger("games")


def make_agent(config: Config, spec: EnvSpec) -> Agent:
    """A new agent for games that look like `spec`."""
    size, _, channels = spec.obs_shape
    return Agent(config.model, config.behavior, size=size, channels=channels, num_actions=spec.num_actions)


def make_replay(config: ReplayConfig, spec: EnvSpec, *, seed: int, device: torch.device) -> MemoryReplay:
    """An empty replay in this process, on the learner's GPU if it has one."""
    if device.type == "cuda":
        return on_device(config, spec, seed=seed, device=str(device))
    return in_memory(config, spec, seed=seed)


def check_network(config: Config, spec: EnvSpec, available: int) -> None:
    """Raises a UserError for a network that cannot be trained in so many bytes. Takes no memory itself."""
    with torch.device("meta"):
        numbers = sum(parameter.numel() for parameter in make_agent(config, spec).parameters())
    need = 4 * 4 * numbers  # float32: weights, gradients, Adam's two moments
    if need > available:
        raise UserError(
            f"a network of {numbers / 1e6:,.0f}M parameters takes {need / 2**30:,.1f} GiB to train, "
            f"{available / 2**30:,.1f} GiB are free: lower the sizes of model and behavior"
        )


def env_spec(config: Config, say: Callable[[str], None] | None = None) -> EnvSpec:
    """Tries the game once to see what it looks like; raises UserError where it cannot be played.

    say: hears what else is wrong with it.
    """
    return with_state(check_game(config.env, say), config)


def with_state(spec: EnvSpec, config: Config) -> EnvSpec:
    """`spec` as a replay must know it: with the size of the player's state if that is stored."""
    return spec._replace(state=(config.model.deter, config.model.stoch)) if config.replay.stored_state else spec


class Loaded(NamedTuple):
    """A trained agent, and where it is from."""

    agent: Agent
    config: Config
    checkpoint: Checkpoint


def load(
    run: str | Path, *, path: Path | None = None, device: str = "cpu", behavior: BehaviorConfig | None = None
) -> Loaded:
    """The agent of a run directory: its newest readable checkpoint, or the file `path`. Raises UserError.

    behavior: another one than the run's own, on its world model.
    """
    opened, config = open_run(Path(run).expanduser())
    own = config.behavior
    config = replace(config, behavior=behavior or own)
    check_agent(config)
    found = checkpoint.load(path) if path else checkpoint.load_newest(opened.checkpoints)
    if found is None:
        raise UserError(f"{run} has no checkpoint yet: train it first")
    agent = make_agent(config, env_spec(config, log.warning))
    if config.behavior != own:
        found = weights_for(agent, found, own=own, run=run)
    checkpoint.restore(found, agent)
    return Loaded(agent.to(choose_device(device)).eval(), config, found)


def weights_for(agent: Agent, found: Checkpoint, *, own: BehaviorConfig, run: str | Path) -> Checkpoint:
    """What an agent of another behaviour takes of a run's weights. Raises UserError where it would have to learn."""
    asked, weights, needed = agent.behavior.config, found.agent, agent.behavior.state_dict(prefix="behavior.")
    alike = own.name == asked.name or {own.name, asked.name} <= VALUE_AFTER
    for name, weight in needed.items():
        if not alike or name not in weights or weights[name].shape != weight.shape:
            raise UserError(
                f"{run} has not learned what behavior.name {asked.name} acts by: let it learn in this world model, "
                f"dream {run} with the same --behavior options, and evaluate that"
            )
    mine = {name: weight for name, weight in weights.items() if name in needed or not name.startswith("behavior.")}
    return found._replace(agent=mine)
