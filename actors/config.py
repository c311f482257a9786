"""Settings of the games and of those who play them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from replay.config import UserError


class GameBroke(RuntimeError):
    """A game's own code has failed, or returned what it does not declare: one line; exit code 1, or 2 at the start."""


Perturbation = Literal["none", "background", "brightness", "noop"]


@dataclass(frozen=True)
class EnvConfig:
    """Which game, and how its screen becomes an observation."""

    id: str = "ALE/Breakout-v5"  # Gymnasium id; BreakoutDeterministic-v4 = skip 4, no sticky actions; ours
    import_module: str = ""  # Python module to import first, if it registers the id; ours
    size: int = 64  # pixels, height and width of the observation; dreamerv2 configs.yaml render_size
    grayscale: bool = True  # one channel instead of three; dreamerv2 configs.yaml atari_grayscale
    frame_skip: int = 4  # emulator frames per policy step; dreamerv2 configs.yaml action_repeat
    sticky: float = 0.25  # probability that the emulator repeats the previous action; dreamerv2 envs.py
    noop_max: int = 30  # a game starts with 1..noop_max no-ops, 0 = none; dreamerv2 envs.py
    max_pool: bool = True  # pixelwise maximum of the last two frames, else the last frame; dreamerv2 envs.py
    full_action_set: bool = False  # 18 actions instead of the game's own; dreamerv2 envs.py all_actions
    crop: tuple[int, int, int, int] = (0, 0, 0, 0)  # screen pixels cut away: top, bottom, left, right; ours
    shrink: str = "area"  # a pixel becomes the mean (area) or the maximum (max) of its screen pixels; ours
    contrast: float = 1.0  # gray levels are multiplied by it, then clipped at 255; the seed used 1.8
    binary: bool = False  # white is what differs from the screen's most frequent gray level, all else black; ours
    life_loss: bool = False  # a lost life counts as terminal for the discount target, without a reset; the seed's
    auto_fire: bool = False  # FIRE is pressed for the player at a game's start and after a lost life; ours
    time_limit: int = 27_000  # policy steps after which a game is cut off (not a terminal); dreamerv2 configs.yaml
    perturb: str = "none"  # none, background, brightness or noop: for evaluation, never for training; ours


@dataclass(frozen=True)
class ActorConfig:
    """How games are played for training."""

    games: int = 16  # E, games that one actor process steps together; dreamerv2: 1
    epsilon: float = 0.0  # share of random actions of the game that has most (all have 0.05), 0 = none; the seed's
    pull_every: int = 8  # steps of its games between an actor's looks for newer weights; ours
    threads: int = 1  # CPU threads of one actor process; ours
    workers: int = 0  # processes that step the games of an inline run, 0 = its own process; ours


def check_numbers(config: EnvConfig) -> None:
    """Raises a UserError for a setting that is wrong whatever the game."""
    choices = get_args(Perturbation)
    rules = [
        (config.size > 0, f"env.size must be at least 1 pixel, not {config.size}"),
        (config.frame_skip > 0, f"env.frame_skip must be at least 1, not {config.frame_skip}"),
        (0 <= config.sticky <= 1, f"env.sticky is a probability, 0 to 1, not {config.sticky}"),
        (config.noop_max >= 0, f"env.noop_max must be 0 or more, not {config.noop_max}"),
        (min(config.crop) >= 0, f"env.crop must be four numbers of pixels, 0 or more, not {config.crop}"),
        (config.shrink in ("area", "max"), f"env.shrink must be area or max, not {config.shrink!r}"),
        (config.contrast > 0, f"env.contrast must be positive, not {config.contrast}"),
        (config.grayscale or not config.binary, "env.binary needs env.grayscale: set env.binary to false"),
        (config.time_limit > 0, f"env.time_limit must be at least 1 policy step, not {config.time_limit}"),
        (config.perturb in choices, f"env.perturb must be one of {', '.join(choices)}, not {config.perturb}"),
    ]
    for holds, message in rules:
        if not holds:
            raise UserError(message)


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
