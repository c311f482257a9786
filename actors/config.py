"""Settings of the games and of those who play them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, Literal, TypeAlias

from replay.bounds import Rule, first_fault
from replay.errors import UserError


class GameBroke(RuntimeError):
    """A game's own code has failed, or returned what it does not declare: one line; exit code 1, or 2 at the start."""


Perturbation = Literal["none", "background", "brightness", "noop"]
Shrink = Literal["area", "max"]
Size: TypeAlias = Annotated[int, "1 <= x <= 1024"]  # pixels
Cut: TypeAlias = Annotated[int, "0 <= x <= 10000"]  # pixels
Frames: TypeAlias = Annotated[int, "1 <= x <= 1000"]
Noops: TypeAlias = Annotated[int, "0 <= x <= 10000"]
Share: TypeAlias = Annotated[float, "0 <= x <= 1"]
Part: TypeAlias = Annotated[float, "0 <= x < 1", "a game that practises needs others that lose lives"]
Factor: TypeAlias = Annotated[float, "0.05 <= x <= 255", "with less all is black"]
Count: TypeAlias = Annotated[int, "1 <= x <= 1e9"]
Games: TypeAlias = Annotated[int, "1 <= x <= 10000"]
Threads: TypeAlias = Annotated[int, "1 <= x <= 1024"]
Workers: TypeAlias = Annotated[int, "0 <= x <= 10000"]

MAY_CHANGE = {"import_module", "sticky", "noop_max", "auto_fire", "time_limit"}  # of a game while a run goes on


@dataclass(frozen=True)
class EnvConfig:
    """Which game, and how its screen becomes an observation."""

    id: str = "ALE/Breakout-v5"  # Gymnasium id; BreakoutDeterministic-v4 = skip 4, no sticky actions; ours
    import_module: str = ""  # Python module to import first, if it registers the id; ours
    size: Size = 64  # pixels, height and width of the observation; dreamerv2 configs.yaml render_size
    grayscale: bool = True  # one channel instead of three; dreamerv2 configs.yaml atari_grayscale
    frame_skip: Frames = 4  # emulator frames per policy step; dreamerv2 configs.yaml action_repeat
    sticky: Share = 0.25  # probability that the emulator repeats the previous action; dreamerv2 envs.py
    noop_max: Noops = 30  # a game starts with 1..noop_max no-ops, 0 = none; dreamerv2 envs.py
    max_pool: bool = True  # pixelwise maximum of the last two frames, else the last frame; dreamerv2 envs.py
    full_action_set: bool = False  # 18 actions instead of the game's own; dreamerv2 envs.py all_actions
    crop: tuple[Cut, Cut, Cut, Cut] = (0, 0, 0, 0)  # screen pixels cut away: top, bottom, left, right; ours
    shrink: Shrink = "area"  # a pixel becomes the mean (area) or the maximum (max) of its screen pixels; ours
    contrast: Factor = 1.0  # gray levels are multiplied by it, then clipped at 255; the blog used 1.8
    binary: bool = False  # white is what differs from the screen's most frequent gray level, all else black; ours
    life_loss: bool = False  # a lost life counts as terminal for the discount target, without a reset; the blog's
    auto_fire: bool = False  # FIRE is pressed for the player at a game's start and after a lost life; ours
    time_limit: Count = 27_000  # policy steps after which a game is cut off (not a terminal); dreamerv2 configs.yaml
    perturb: Perturbation = "none"  # what is changed of the game: for evaluation, never for training; ours


@dataclass(frozen=True)
class ActorConfig:
    """How games are played for training."""

    games: Games = 16  # E, games that one actor process steps together; dreamerv2: 1
    epsilon: Share = 0.0  # share of random actions of the game that has most (all have 0.05), 0 = none; the blog's
    practice: Part = 0.0  # share of an emulator's games that begin before lost lives of the others, practice.py; ours
    pull_every: Count = 8  # steps of its games between an actor's looks for newer weights; ours
    threads: Threads = 1  # CPU threads of one actor process; ours
    workers: Workers = 0  # processes that step the games of an inline run, 0 = its own process; ours


def check_numbers(config: EnvConfig) -> None:
    """Raises a UserError for a setting that is wrong whatever the game."""
    if fault := first_fault("env", config, env_rules):
        raise UserError(fault)


def env_rules(config: EnvConfig) -> list[Rule]:
    """What must hold whatever the game."""
    module = config.import_module
    return [
        (config.grayscale or not config.binary, "env.binary needs env.grayscale: set env.binary to false"),
        (
            not module or all(part.isidentifier() for part in module.split(".")),
            f"env.import_module must be the name of a Python module such as my_games.maze, not {module!r}",
        ),
    ]


def check_same_game(old: EnvConfig, new: EnvConfig) -> None:
    """Raises a UserError where pictures, actions, rewards or ends that `new` gives mean something else than `old`'s.

    A replay and a world model are of one game; the two would be mixed without a sign of it. MAY_CHANGE is only how a
    game is played.
    """
    before, after = asdict(old), asdict(new)
    for name, value in before.items():
        if name not in MAY_CHANGE and after[name] != value:
            raise UserError(
                f"this run's replay was played with env.{name} {value}, not {after[name]}, and would mix the two: "
                "leave it as it was, or begin a new run in another --run-dir"
            )


def actor_rules(config: ActorConfig) -> list[Rule]:
    """What must hold of several values together."""
    return [
        (
            config.workers <= config.games,
            f"actor.workers must be 0 to actor.games ({config.games}), not {config.workers}",
        ),
    ]


def check_crop(shape: tuple[int, ...], config: EnvConfig) -> None:
    top, bottom, left, right = config.crop
    if top + bottom >= shape[0] or left + right >= shape[1]:
        raise UserError(f"env.crop {config.crop} leaves nothing of the {shape[0]}x{shape[1]} screen: cut away less")
    high, wide = shape[0] - top - bottom, shape[1] - left - right
    if config.shrink == "max" and (high % config.size or wide % config.size):
        raise UserError(
            f"env.shrink max needs whole blocks: env.size {config.size} must divide the {high}x{wide} pixels that "
            "env.crop leaves"
        )
