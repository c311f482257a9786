"""Command-line options: made from the types by tyro; what is wrong with them is said in one line."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

import tyro
import tyro._errors

from actors.config import EnvConfig, Perturbation, Share
from cluster.config import SECTIONS, ClusterConfig, Config, changed
from cluster.presets import OLD_NAMES
from dreamer.config import BehaviorConfig
from learner.config import Seed
from replay.bounds import Kind, kinds, misfits
from replay.errors import UserError

T = TypeVar("T")
Limit: TypeAlias = Annotated[int, "1 <= x <= 1e15"]
Minutes: TypeAlias = Annotated[float, "0 < x <= 1e9"]
Episodes: TypeAlias = Annotated[int, "1 <= x <= 1e6"]
Fps: TypeAlias = Annotated[float, "0.1 <= x <= 1000"]
Port: TypeAlias = Annotated[int, "1 <= x <= 65535"]
Part = Literal["all", "env", "actor", "replay", "learner", "metrics", "train"]  # of the benchmark
# The names of cluster.presets.PRESETS.
Preset = Literal["paper", "fast", "cpu", "blog", "dreamer1", "planet", "world_models"]
SHIPPED = Path(__file__).parents[2] / "deploy" / "agents" / "breakout-cpu"
LONGEST = 100  # letters of a wrong value that are repeated


@dataclass(frozen=True)
class TrainOptions:
    """Learn a game. Ends at the first limit reached; the first Ctrl-C saves, the second quits."""

    config: Annotated[Config, tyro.conf.arg(name="")]
    preset: Preset | None = None  # default: fast with a GPU, cpu without
    runtime: Literal["ray", "inline"] | None = None  # inline: one process, no Ray; default: ray, or as it was
    run_dir: Path | None = None  # default: a new directory under runs/
    resume: bool = False  # go on with the run in --run-dir
    steps: Limit | None = None  # end after so many policy steps in all
    updates: Limit | None = None  # end after so many updates in all
    minutes: Minutes | None = None  # end after so many minutes of this invocation
    seed: Seed | None = None  # short for --train.seed
    device: Literal["cpu", "cuda"] | None = None  # short for --train.device


@dataclass(frozen=True)
class DreamOptions:
    """Learn a new behaviour in the world model of a run, which stays as it is, from dreams that begin in its replay.

    Ends at the first limit reached; the first Ctrl-C saves, the second quits. The run itself is only read.
    """

    config: Annotated[Config, tyro.conf.arg(name="")]
    run: tyro.conf.Positional[Path | None] = None  # run directory to dream of; not needed with --resume
    run_dir: Path | None = None  # of the dream; default: a new directory under runs/
    resume: bool = False  # go on with the dream in --run-dir
    collect: Limit | None = None  # policy steps that RUN's agent plays first; default: RUN's replay, without one 20,000
    updates: Limit | None = None  # end after so many updates in all
    minutes: Minutes | None = None  # end after so many minutes of learning in this invocation
    seed: Seed | None = None  # short for --train.seed
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
    episodes: Episodes = 10  # games
    seed: Seed = 0  # of the games and of the draws
    sticky: Share | None = None  # probability of sticky actions; default: as in training
    perturb: Perturbation = "none"  # another background or brightness, or no-ops where training had none
    action: Literal["sample", "mode"] = "sample"  # draw actions, or take the most probable one
    world_model: bool = False  # judge what the world model sees and foresees instead of the score
    counterfactual: bool = False  # the same, and beside it in states of Breakout that play never reaches
    checkpoint: Path | None = None  # file; default: the newest
    device: Literal["cpu", "cuda"] = "cpu"  # where the agent runs
    json: bool = False  # one JSON document on stdout
    behavior: BehaviorConfig = field(default_factory=BehaviorConfig)  # default: the run's; another need not learn


@dataclass(frozen=True)
class RecordOptions:
    """Film a real game, the game beside its reconstruction, or dreams beside what really happened."""

    run: tyro.conf.Positional[Path]  # run directory
    out: Path  # FILE.gif or FILE.mp4
    kind: Literal["play", "reconstruct", "dream"] = "dream"  # what to film
    seed: Seed = 0  # of the game and of the draws
    fps: Fps = 15.0  # pictures per second; the game itself has 15 policy steps per second
    steps: Limit = 1000  # policy steps of a game that are filmed at most (kind play)
    checkpoint: Path | None = None  # file; default: the newest


@dataclass(frozen=True)
class PlayOptions:
    """Play inside the dream of a trained agent, in a browser, with the real game beside it; Ctrl-C ends it."""

    run: tyro.conf.Positional[Path] = SHIPPED  # run directory; default: the agent that comes with the code
    port: Port = 8080  # TCP port of the page
    host: str = "127.0.0.1"  # address to listen on; any other than this machine's own needs --token
    token: str | None = None  # word without which nobody is let in; it stands in the address that is printed
    browser: bool = True  # open the page in the browser of this machine, if it has one
    seed: Seed = 0  # of the games and of the draws
    checkpoint: Path | None = None  # file; default: the newest


@dataclass(frozen=True)
class ExportOptions:
    """Make a small copy of a trained agent to give away (--out), or a web page to play inside its dream (--web)."""

    run: tyro.conf.Positional[Path]  # run directory
    out: Path | None = None  # a new directory for the copy, which plays and cannot be trained on
    web: Path | None = None  # a new directory for the page, which any web server can show
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
    port: Port = 9090  # TCP port of Prometheus, on 127.0.0.1
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
    steps: Limit = 200  # policy steps
    seed: Seed = 0  # of the game
    json: bool = False  # one JSON document on stdout


def parse(kind: type[T], arguments: list[str], *, command: str, default: T | None = None) -> T:
    """The options of one command. Raises UserError with one line where they are wrong; --help prints and exits."""
    given = {} if default is None else {"default": default}
    known = option_kinds(kind)
    arguments = by_todays_names(arguments)
    # Private to tyro, whose version is pinned; all that it offers else is a drawing of the error for a person.
    with tyro._errors.on_parse_error(refuse(arguments, known, command)):
        options, unknown = tyro.cli(kind, args=arguments, prog=f"dreamer {command}", return_unknown_args=True, **given)
    if unknown:
        raise UserError(unknown_option(unknown[0], list(known), command))
    for name, must in misfits(options):
        raise UserError(f"{as_option(name)} {must}")
    return replace(options, **{name: at_home(path) for name, path in vars(options).items() if isinstance(path, Path)})


def by_todays_names(arguments: list[str]) -> list[str]:
    """The same words, where a preset has its old name with the one that it has now."""
    words = list(arguments)
    for n, (word, before) in enumerate(zip(words, ["", *words], strict=False)):
        name, equals, value = word.partition("=")
        if before == "--preset":
            words[n] = OLD_NAMES.get(word, word)
        elif name == "--preset" and equals:
            words[n] = f"{name}={OLD_NAMES.get(value, value)}"
    return words


def check_parts(base: Config, asked: Config, has_part: Callable[[str], bool], *, where: str) -> None:
    """Raises a UserError for a value that was changed though it has no part in what is asked for."""
    for name in changed(base, asked):
        if not has_part(name):
            raise UserError(f"{as_option(name)} has no part in {where}")


def option_kinds(kind: type[Any]) -> dict[str, Kind]:
    """Option -> what it may be; a section stands for all of its values, "config" for those of all sections."""
    fields = kinds(kind)
    mine = {name: settings for name, settings in SECTIONS.items() if name in fields and fields[name].plain is settings}
    sections = SECTIONS if "config" in fields else mine
    found = {as_option(name): allowed for name, allowed in fields.items() if name != "config" and name not in sections}
    for section, settings in sections.items():
        found |= {as_option(f"{section}.{name}"): allowed for name, allowed in kinds(settings).items()}
    return found


def as_option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def refuse(
    arguments: list[str], known: dict[str, Kind], command: str
) -> Callable[[tyro._errors.ParseErrorEvent], None]:
    """Raises a UserError for what tyro cannot read."""

    def hook(event: tyro._errors.ParseErrorEvent) -> None:
        match event:
            case tyro._errors.MissingArgs(missing_arguments=missing):
                names = " and ".join(shown_name(one.arg) for one in missing)
                raise UserError(f"{command} needs {names}: see dreamer {command} --help")
            case (
                tyro._errors.InvalidChoice(argument=argument)
                | tyro._errors.BadValue(argument=argument)
                | tyro._errors.InstantiationFailure(argument=argument)
            ) if argument is not None:
                name = shown_name(argument)
                if not name.startswith("-") and (strange := [word for word in arguments if is_strange(word, known)]):
                    raise UserError(unknown_option(strange[0], list(known), command))
                allowed = known[as_option(name.lower().lstrip("-"))]
                is_choice = isinstance(event, tyro._errors.InvalidChoice)
                value = event.value if is_choice else value_of(name, arguments)
                if value is None:
                    raise UserError(f"{name} needs a value: {allowed.in_full()} (see dreamer {command} --help)")
                raise UserError(f"{name} must be {allowed.in_full()}, not {value[:LONGEST]!r}")
        raise UserError(f"the options are wrong: see dreamer {command} --help")

    return hook


def is_strange(word: str, known: dict[str, Kind]) -> bool:
    """Whether it looks like an option and is none: a RUN that may be left away is looked for in it."""
    name = word.partition("=")[0].replace("_", "-")
    return word.startswith("--") and name not in known and name.replace("--no-", "--", 1) not in known


def shown_name(argument: Any) -> str:
    """--run-dir of an option, RUN of what is given without one."""
    name: str = argument.display_name().split("/")[0]
    return name if name.startswith("-") else name.upper()


def unknown_option(word: str, known: list[str], command: str) -> str:
    """What to say of a word that is no option."""
    near = difflib.get_close_matches(as_option(word.split("=")[0].lstrip("-")), known, n=3)
    hint = f": did you mean {' or '.join(near)}?" if near else f": see dreamer {command} --help"
    return f"there is no option {word}{hint}"


def at_home(path: Path) -> Path:
    """The whole path: a shell leaves the ~ in --run-dir=~/x, and a game may go to another folder later on."""
    try:
        return path.expanduser().absolute()
    except RuntimeError as error:
        raise UserError(f"{path} is in nobody's home directory: write the whole path") from error


def value_of(option: str, arguments: list[str]) -> str | None:
    """What stands behind an option (its last use counts), before the others can be understood."""
    value = None
    for word, following in zip_longest(arguments, arguments[1:]):
        name, equals, behind = word.partition("=")
        if name.replace("_", "-") == option:  # tyro takes both
            value = behind if equals else following
    return value
