"""Command-line options: made from the types by tyro; what is wrong with them is said in one line."""

from __future__ import annotations

import contextlib
import difflib
import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import tyro

from actors.config import EnvConfig, Perturbation
from cluster.config import ClusterConfig, Config, flat
from cluster.presets import cpu
from replay.config import UserError

T = TypeVar("T")
Part = Literal["all", "env", "actor", "replay", "learner", "metrics", "train"]  # of the benchmark
Preset = Literal["paper", "fast", "cpu", "seed"]  # the names of cluster.presets.PRESETS


@dataclass(frozen=True)
class TrainOptions:
    """Learn a game. Ends at the first limit reached; the first Ctrl-C saves, the second quits."""

    config: Annotated[Config, tyro.conf.arg(name="")]
    preset: Preset | None = None  # default: fast with a GPU, cpu without
    runtime: Literal["ray", "inline"] | None = None  # inline: one process, no Ray; default: ray, or as it was
    run_dir: Path | None = None  # default: a new directory under runs/
    resume: bool = False  # go on with the run in --run-dir
    steps: int | None = None  # end after so many policy steps in all
    updates: int | None = None  # end after so many updates in all
    minutes: float | None = None  # end after so many minutes of this invocation
    seed: int | None = None  # short for --train.seed
    device: Literal["cpu", "cuda"] | None = None  # short for --train.device


@dataclass(frozen=True)
class StatusOptions:
    """How is it going? From the files of a run alone: while it trains and afterwards."""

    run: tyro.conf.Positional[Path]  # run directory
    json: bool = False  # one JSON document on stdout


@dataclass(frozen=True)
class EvaluateOptions:
    """Play full games (all lives, raw score) with a trained agent, and as many with random actions."""

    run: tyro.conf.Positional[Path]  # run directory
    episodes: int = 10  # games
    seed: int = 0  # of the games and of the draws
    sticky: float | None = None  # probability of sticky actions; default: as in training
    perturb: Perturbation = "none"  # another background or brightness, or no-ops where training had none
    action: Literal["sample", "mode"] = "sample"  # draw actions, or take the most probable one
    world_model: bool = False  # judge what the world model sees and foresees instead of the score
    checkpoint: Path | None = None  # file; default: the newest
    device: Literal["cpu", "cuda"] = "cpu"  # where the agent runs
    json: bool = False  # one JSON document on stdout


@dataclass(frozen=True)
class RecordOptions:
    """Film a real game, the game beside its reconstruction, or dreams beside what really happened."""

    run: tyro.conf.Positional[Path]  # run directory
    out: Path  # FILE.gif or FILE.mp4
    kind: Literal["play", "reconstruct", "dream"] = "dream"  # what to film
    seed: int = 0  # of the game and of the draws
    fps: float = 15.0  # pictures per second; the game itself has 15 policy steps per second
    steps: int = 1000  # policy steps of a game that are filmed at most (kind play)
    checkpoint: Path | None = None  # file; default: the newest


@dataclass(frozen=True)
class ExportOptions:
    """Make a small copy of a trained agent to give away: it plays, it cannot be trained on."""

    run: tyro.conf.Positional[Path]  # run directory
    out: Path  # a new directory
    checkpoint: Path | None = None  # file; default: the newest


@dataclass(frozen=True)
class PresetOptions:
    """Print what a preset is made of."""

    preset: Preset = "paper"  # which
    json: bool = False  # one JSON document on stdout


@dataclass(frozen=True)
class BenchOptions:
    """Measure how fast each part is, and how far from what the machine can do."""

    part: tyro.conf.Positional[Part] = "all"  # what to measure
    preset: Preset | None = None  # default: paper, and cpu or fast beside it
    device: Literal["cpu", "cuda"] | None = None  # default: cuda where there is one
    out: Path | None = None  # folder for a dated JSON file; default: none is written
    json: bool = False  # one JSON document on stdout


@dataclass(frozen=True)
class MonitorOptions:
    """Watch a training that runs, with the Prometheus of this machine and our rules; Ctrl-C ends it."""

    target: str = f"127.0.0.1:{ClusterConfig().metrics_port}"  # HOST:PORT of the metrics that the training has printed
    port: int = 9090  # TCP port of Prometheus, on 127.0.0.1
    storage: Path = Path("runs/.prometheus")  # folder for what it sees, its configuration and its log


@dataclass(frozen=True)
class DoctorOptions:
    """Check this machine: one line for each thing that must be right. With --env ID a game instead."""

    env: str | None = None  # Gymnasium id: play this game and say what is wrong or unusual about it
    json: bool = False  # one JSON document on stdout


@dataclass(frozen=True)
class DoctorEnvOptions:
    """Play a game and say what is wrong or unusual about it: one line each. --env ID is short for --env.id ID."""

    env: EnvConfig  # as training would play it
    preset: Preset | None = None  # whose settings; default: as for train
    steps: int = 200  # policy steps
    seed: int = 0  # of the game
    json: bool = False  # one JSON document on stdout


def parse(kind: type[T], arguments: list[str], *, command: str, default: T | None = None) -> T:
    """The options of one command. Raises UserError with one line where they are wrong; --help prints and exits."""
    said = io.StringIO()
    given = {} if default is None else {"default": default}
    try:
        with contextlib.redirect_stderr(said):
            options, unknown = tyro.cli(
                kind, args=arguments, prog=f"dreamer {command}", return_unknown_args=True, **given
            )
    except SystemExit as end:
        if not end.code:
            raise
        raise UserError(f"{one_line(said.getvalue())} (dreamer {command} --help lists the options)") from None
    if unknown:
        raise UserError(unknown_option(unknown[0], kind, command))
    return options


def one_line(box: str) -> str:
    """The first sentence of tyro's boxed message, without the box."""
    lines = [re.sub(r"[│╭╮╰╯]", "", line).strip() for line in box.splitlines()]
    text: list[str] = []
    for line in lines[1:]:
        if not line or set(line) <= {"─"}:
            break
        text.append(line)
    return " ".join(text) or "the options are wrong"


def unknown_option(word: str, kind: type[Any], command: str) -> str:
    """What to say of a word that is no option."""
    known = [f"--{name.replace('_', '-')}" for name in kind.__dataclass_fields__ if name != "config"]
    if "config" in kind.__dataclass_fields__:
        known += [f"--{name.replace('_', '-')}" for name in flat(cpu())]
    near = difflib.get_close_matches(word.split("=")[0].replace("_", "-"), known, n=3)
    hint = f": did you mean {' or '.join(near)}?" if near else f": see dreamer {command} --help"
    return f"there is no option {word}{hint}"


def value_of(option: str, arguments: list[str]) -> str | None:
    """What stands behind an option (its last use counts), before the others can be understood."""
    value = None
    for word, following in zip(arguments, [*arguments[1:], None], strict=True):
        if word == option:
            value = following
        elif word.startswith(f"{option}="):
            value = word.removeprefix(f"{option}=")
    return value
