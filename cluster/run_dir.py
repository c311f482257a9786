"""What a run leaves behind, and how to get its agent back.

config.json        every value of the configuration         metrics.jsonl      one object per logging interval
run_id             names the run for its replay server      episodes.jsonl     one object per finished game
checkpoints/       see learner/checkpoint.py                tensorboard/       curves and pictures
replay/            the replay's own checkpoints             videos/  log.txt   recordings; what was said
actors.json        what became of every policy step    state.json         who trains here, see cluster/run_state.py
prometheus/        targets.json: where each process shows its metrics
"""

from __future__ import annotations

import json
import logging
import time
import uuid
from pathlib import Path
from typing import NamedTuple

import torch

from actors.env import check_game
from cluster.config import Config, changes, from_json, to_json
from dreamer.agent import Agent
from learner import checkpoint
from learner.checkpoint import Checkpoint
from replay.config import UserError
from replay.experience import EnvSpec

log = logging.getLogger("run")


class Run(NamedTuple):
    """A run directory."""

    path: Path
    id: str

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def replay(self) -> Path:
        return self.path / "replay"


def create(path: Path | None, config: Config) -> Run:
    """A new run directory; without a name, a new one under runs/. Raises UserError where one cannot be."""
    path = path or Path("runs") / time.strftime("%Y-%m-%d-%H%M%S")
    if (path / "config.json").exists():
        raise UserError(f"{path} holds a run already: add --resume to go on with it, or choose another --run-dir")
    if path.is_dir() and any(path.iterdir()):
        raise UserError(f"{path} is not empty and holds no run: choose another --run-dir")
    try:
        path.mkdir(parents=True, exist_ok=True)
        (path / "videos").mkdir(exist_ok=True)
        run = Run(path.resolve(), uuid.uuid4().hex[:12])
        checkpoint.write_atomically(path / "run_id", lambda file: file.write(run.id.encode()))
        write_config(run, config)
    except OSError as error:
        raise UserError(f"cannot write to {path} ({error.strerror}): choose another --run-dir") from error
    return run


def write_config(run: Run, config: Config) -> None:
    text = json.dumps(to_json(config), indent=2) + "\n"
    checkpoint.write_atomically(run.path / "config.json", lambda file: file.write(text.encode()))


def open_run(path: Path) -> tuple[Run, Config]:
    """An existing run directory and its configuration. Raises UserError where there is none."""
    try:
        config = from_json(json.loads((path / "config.json").read_text()))
        return Run(path.resolve(), (path / "run_id").read_text().strip()), config
    except FileNotFoundError as error:
        raise UserError(f"{path} holds no run ({Path(error.filename).name} is missing)") from error
    except (json.JSONDecodeError, TypeError, AttributeError) as error:
        raise UserError(f"{path}/config.json is damaged: {error}") from error


def change_config(run: Run, old: Config, new: Config) -> None:
    """Replaces a run's configuration; says key by key what changed."""
    for change in changes(old, new):
        log.warning("changed since this run began: %s", change)
    try:
        write_config(run, new)
    except OSError as error:
        raise UserError(f"cannot write to {run.path} ({error.strerror}): mend its permissions or free space") from error


def make_agent(config: Config, spec: EnvSpec) -> Agent:
    """A new agent for games that look like `spec`."""
    size, _, channels = spec.obs_shape
    return Agent(config.model, config.behavior, size=size, channels=channels, num_actions=spec.num_actions)


def env_spec(config: Config) -> EnvSpec:
    """Tries the game once to see what it looks like; raises UserError where it cannot be played."""
    return with_state(check_game(config.env), config)


def with_state(spec: EnvSpec, config: Config) -> EnvSpec:
    """`spec` as a replay must know it: with the size of the player's state if that is stored."""
    return spec._replace(state=(config.model.deter, config.model.stoch)) if config.replay.stored_state else spec


class Loaded(NamedTuple):
    """A trained agent, and where it is from."""

    agent: Agent
    config: Config
    checkpoint: Checkpoint


def load(run: str | Path, *, path: Path | None = None, device: str = "cpu") -> Loaded:
    """The agent of a run directory: its newest readable checkpoint, or the file `path`. Raises UserError."""
    opened, config = open_run(Path(run))
    found = checkpoint.load(path) if path else checkpoint.load_newest(opened.checkpoints)
    if found is None:
        raise UserError(f"{run} has no checkpoint yet: train it first")
    agent = make_agent(config, env_spec(config))
    checkpoint.restore(found, agent)
    return Loaded(agent.to(choose_device(device)).eval(), config, found)


def load_agent(run: str | Path, *, device: str = "cpu") -> Agent:
    """The trained agent of a run directory, ready for `policy_step`. Needs neither Ray nor Reverb. Raises UserError."""
    return load(run, device=device).agent


def choose_device(name: str) -> torch.device:
    """cpu, cuda or auto. A GPU that was asked for and is not there is an error, never a silent fall back."""
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("no CUDA device is there for train.device cuda: use --device cpu, or mend the driver")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)
