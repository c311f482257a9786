"""What is wrong or unusual about a game: `doctor --env ID`. Plays it (doctor_trial.py) and looks at everything.

BAD    training on it would fail, or learn nothing
note   it can be trained on; whoever trains should know
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import numpy as np

from actors.calling import more_advice
from actors.config import EnvConfig, GameBroke
from actors.env import check_game
from actors.game import AtariGame, PictureGame, is_emulator_below, open_game, resolve
from actors.opening import official_findings
from cluster.commands.doctor_trial import Played, alike, play
from cluster.commands.options import DoctorEnvOptions, parse
from cluster.commands.train import base_config
from cluster.console.json_text import print_json
from replay.errors import UserError

ENOUGH = 3  # games that must have ended before anything is concluded from how long they were
LARGE_REWARD = 100.0  # a reward beyond it is said
TINY = 32  # pixels: a screen with a shorter side is said
DARK = 64  # level: an observation without a brighter one is said
LONG = 20.0  # seconds that a game is played for its examination, and twice more
SLOW = 60  # policy steps per second: less is said
PLAIN: dict[str, Any] = {  # settings that suit every game
    "life_loss": False,
    "auto_fire": False,
    "crop": (0, 0, 0, 0),
    "shrink": "area",
    "perturb": "none",
}
Level = Literal["ok", "note", "BAD"]


class Finding(NamedTuple):
    """One line of the report."""

    level: Level
    name: str
    found: str
    mend: str = ""

    def __str__(self) -> str:
        return f"{self.level:4} {self.name:10} {self.found}" + (f": {self.mend}" if self.mend else "")


def doctor_env(arguments: list[str]) -> int:
    """Plays a game and says what is wrong with it; 1 if training on it would fail, 2 if it does not even start."""
    base = base_config(arguments)
    words = [re.sub(r"^--env(?=$|=)", "--env.id", word) for word in arguments]
    options = parse(DoctorEnvOptions, words, command="doctor", default=DoctorEnvOptions(base.env))
    return report(options.env, steps=options.steps, seed=options.seed, length=base.replay.length, as_json=options.json)


def report(config: EnvConfig, *, steps: int, seed: int, length: int, as_json: bool) -> int:
    """Prints what was found; 1 if something is bad, 2 if the game cannot even be started.

    length: T, records of a training window.
    """
    found = []
    for finding in examine(config, steps=steps, seed=seed, length=length):
        found.append(finding)
        if not as_json:
            print(finding, flush=True)  # at once: what comes next may take its time, or never end
    if as_json:
        print_json([finding._asdict() | {"ok": finding.level != "BAD"} for finding in found])
    bad = {finding.name for finding in found if finding.level == "BAD"}
    return 2 if "game" in bad else 1 if bad else 0


def examine(config: EnvConfig, *, steps: int, seed: int, length: int) -> Iterator[Finding]:
    """Everything that can be said of a game."""
    try:
        config = resolve(config)
        plain = replace(config, **PLAIN)
        check_game(plain)
        game = open_game(plain, seed)
    except UserError as error:
        yield Finding("BAD", "game", str(error).removesuffix(more_advice(config.id)))
        yield from gymnasiums_word(config)
        return
    yield Finding("ok", "game", f"{config.id} starts")
    yield from about_actions(game, config)
    yield from about_screen(game)
    yield from about_manners(game)
    game.close()
    wrong = list(about_settings(config, plain))
    yield from wrong
    try:
        yield from about_play(plain if wrong else config, steps=steps, seed=seed, length=length)
    except GameBroke as error:
        yield Finding("BAD", "steps", str(error), "mend the game")
    yield from gymnasiums_word(config)


def about_play(config: EnvConfig, *, steps: int, seed: int, length: int) -> Iterator[Finding]:
    """What shows when it is played. Raises GameBroke."""
    played = play(config, steps, seed, seconds=LONG)
    steps = len(played.rewards)
    yield about_pictures(played)
    yield about_rewards(played)
    yield about_lengths(played, config, length)
    yield about_lives(played, config)
    if alike(played, play(config, steps, seed)):
        yield Finding("ok", "seed", "two games of one seed and the same actions are alike")
    else:
        mend = "runs cannot be repeated; draw from self.np_random, which reset seeds"
        yield Finding("note", "seed", "two games of one seed differ under the same actions", mend)
    if not alike(played, play(config, steps, seed + 1)):
        yield Finding("ok", "chance", "games of two seeds differ")
    elif config.sticky or config.noop_max:
        yield Finding("ok", "chance", "games of two seeds differ by env.sticky and no-ops alone")
    else:
        mend = "a larger env.sticky, or no-ops (env.noop_max) where NOOP is known, would make them differ"
        yield Finding("note", "chance", "games of two seeds are alike under the same actions", mend)
    yield about_speed(played)


# --- One aspect each ---


def about_actions(game: AtariGame | PictureGame, config: EnvConfig) -> Iterator[Finding]:
    """How many, and what is known of their meaning."""
    names = f"{len(game.names)}: {' '.join(game.names)}"
    lacking = [name for name in ("NOOP", "FIRE") if name not in game.names]
    without = {"NOOP": "no no-ops at a game's start (env.noop_max)", "FIRE": "no automatic FIRE (env.auto_fire)"}
    if not game.named:
        names = f"{len(game.names)}; what they mean is not told, or a wrapper changes it"
    if len(game.names) == 1:
        yield Finding("BAD", "actions", "one only", "there is nothing to choose, and so nothing to learn")
        return
    yield Finding("note" if lacking else "ok", "actions", names, "; ".join(without[name] for name in lacking))


def about_screen(game: AtariGame | PictureGame) -> Iterator[Finding]:
    """Its size, and whether Gymnasium's emulator is below it."""
    high, wide = game.screen_shape
    if min(high, wide) < TINY:
        yield Finding("note", "screen", f"{high}x{wide} pixels, which is tiny", "is that the whole picture?")
    else:
        yield Finding("ok", "screen", f"{high}x{wide} pixels")
    if is_emulator_below(game):
        mend = "env.frame_skip and env.sticky come on top of what it does itself (in ALE/...-v5 4 frames and 0.25)"
        yield Finding("note", "emulator", "an Atari game in a wrapper", mend)


def about_manners(game: AtariGame | PictureGame) -> Iterator[Finding]:
    """What it changes of what is not its own."""
    if isinstance(game, PictureGame) and (changed := game.foreign.changed()):
        yield Finding("note", "manners", f"it changes {changed} of its process", "that is put back each time")


def about_settings(config: EnvConfig, plain: EnvConfig) -> Iterator[Finding]:
    """Each setting that does not suit this game."""
    screen = {"crop": config.crop, "shrink": config.shrink}
    for setting in (
        {"life_loss": config.life_loss},
        {"auto_fire": config.auto_fire},
        screen,
        {"perturb": config.perturb},
    ):
        try:
            check_game(replace(plain, **setting))
        except UserError as error:
            yield Finding("BAD", "settings", str(error).removesuffix(more_advice(config.id)))


def about_pictures(played: Played) -> Finding:
    """What is left to see after crop, contrast and size."""
    seen, (least, most) = played.pictures, played.range
    size = "x".join(map(str, seen.shape[1:]))
    changing = (seen[1:] != seen[:-1]).mean()
    text = (
        f"{size}, levels {seen.min()} to {seen.max()} ({len(np.unique(seen))}), {changing:.1%} of it changes in a step"
    )
    if most <= 1:
        return Finding("BAD", "picture", f"black: no level above {most} of 255", "should it be multiplied by 255?")
    if seen.min() == seen.max():
        mend = "env.crop, env.contrast or env.binary take everything away" if least < most else "mend the game"
        return Finding("BAD", "picture", f"{size}, nothing but level {seen.max()}", mend)
    if (seen == seen[0]).all():
        mend = "env.crop or env.size take it away" if len(set(played.screens)) > 1 else "mend the game"
        return Finding("BAD", "picture", f"{size}, the same at every step", mend)
    if seen.max() < DARK:
        return Finding("note", "picture", text, "that is dark: a larger env.contrast shows more")
    return Finding("ok", "picture", text)


def about_rewards(played: Played) -> Finding:
    """Their range, and how often there is one."""
    rewards = np.array(played.rewards)
    text = f"{rewards.min():g} to {rewards.max():g}, in {(rewards != 0).mean():.0%} of the steps not 0"
    if not rewards.any():
        return Finding("note", "rewards", "none in random play", "what is rare is slow to learn from")
    if np.abs(rewards).max() > LARGE_REWARD:
        return Finding("note", "rewards", text, "that is large: see model.reward_squash")
    return Finding("ok", "rewards", text)


def about_lengths(played: Played, config: EnvConfig, length: int) -> Finding:
    """length: T, records of a training window; a game has one record more than policy steps."""
    ended = played.lengths
    if not ended:
        text = f"no game ended within {max(played.broken_off)} policy steps"
        return Finding("ok", "ends", f"{text}; env.time_limit cuts it off after {config.time_limit:,}")
    span = f"{min(ended)} to {max(ended)}" if min(ended) < max(ended) else f"{max(ended)}"
    text = f"{len(ended)} game(s) ended, after {span} policy steps"
    short = sum(steps + 1 < length for steps in ended)
    if short == len(ended) >= ENOUGH and all(steps + 1 < length for steps in played.broken_off):
        longest = max(ended) + 1
        mend = f"take --replay.length {longest} --replay.stride {max(1, longest // 2)}, or a smaller --env.frame-skip"
        return Finding("BAD", "ends", f"{text}, all before the {length} records of a training window", mend)
    if short:
        mend = f"{short} of them before the {length} records of a training window, and are left out of training"
        return Finding("note", "ends", text, mend)
    return Finding("ok", "ends", text)


def about_lives(played: Played, config: EnvConfig) -> Finding:
    """Whether they are told, and make sense."""
    wrong = [lives for lives in played.lives if isinstance(lives, str)]
    told = [lives for lives in played.lives if isinstance(lives, int)]
    if wrong:
        needed = config.life_loss or config.auto_fire
        return Finding("BAD" if needed else "note", "lives", wrong[0], "mend it, or set env.life_loss to false")
    if not told:
        return Finding("note", "lives", "not told (info['lives'])", "env.life_loss needs them")
    if len(told) < len(played.lives):
        mend = "mend it, or set env.life_loss to false"
        return Finding("BAD" if config.life_loss else "note", "lives", "told at some steps only", mend)
    return Finding("ok", "lives", f"{min(told)} to {max(told)}")


def about_speed(played: Played) -> Finding:
    """Of one game, and of whoever looks at it."""
    rate = len(played.rewards) / max(played.seconds, 1e-9)
    if rate < SLOW:
        return Finding(
            "note", "speed", f"{rate:.1f} policy steps per second", "training will wait for it (actor.workers)"
        )
    return Finding("ok", "speed", f"{rate:,.0f} policy steps per second")


def gymnasiums_word(config: EnvConfig) -> Iterator[Finding]:
    """What Gymnasium's own checker says of it; nothing where it cannot be made."""
    said = official_findings(config.id)
    for text in said or []:
        yield Finding("note", "gymnasium", text)
    if said == []:
        yield Finding("ok", "gymnasium", "its own checker finds nothing")
