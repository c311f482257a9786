"""A game played for its examination: some hundred steps, slowly, everything that shows is kept. For doctor_env.py."""

from __future__ import annotations

import hashlib
import math
import time
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from actors.config import EnvConfig, GameBroke
from actors.game import AtariGame, PictureGame, open_game
from actors.screen import level_table, shrink

STRETCH = 100  # policy steps after which a game is reset in its middle


class Played(NamedTuple):
    """N policy steps with random actions, and what resets showed between them."""

    pictures: np.ndarray  # uint8 [M, size, size, C]  observations, of every reset and every policy step
    screens: list[bytes]  # [M]  what tells the screens apart from which they were made
    range: tuple[int, int]  # least and most level of these screens
    rewards: list[float]  # [N]  sum over the frames of a step
    lengths: list[int]  # policy steps of every game that ended by itself
    broken_off: list[int]  # likewise of those that were reset before
    lives: list[int | str | None]  # [M]  as told; None = not told, text = what is wrong with them
    seconds: float


def play(config: EnvConfig, steps: int, seed: int, *, seconds: float = math.inf) -> Played:
    """Plays the game as it is, without our sticky actions and no-ops, and with the same actions. Raises GameBroke.

    seconds: after which it is enough, however few steps that were.
    """
    config = replace(config, sticky=0.0, noop_max=0)
    game = open_game(config, seed)
    if isinstance(game, PictureGame):
        game.foreign.thorough = True
    try:
        rng = np.random.default_rng(0)
        actions = [int(rng.integers(len(game.names))) for _ in range(steps)]  # of fewer steps the first ones
        return play_game(game, config, actions, seconds)
    finally:
        game.close()


def play_game(game: AtariGame | PictureGame, config: EnvConfig, actions: list[int], limit: float) -> Played:
    """The same of an open game. limit: seconds."""
    screen = np.zeros(game.screen_shape if config.grayscale else (*game.screen_shape, 3), np.uint8)
    table, pictures, screens, lives = level_table(config), [], [], []
    rewards, lengths, broken_off, least, most = [], [], [], 255, 0

    def see() -> None:
        nonlocal least, most
        game.look(screen)
        least, most = min(least, int(screen.min())), max(most, int(screen.max()))
        screens.append(hashlib.sha1(screen.tobytes(), usedforsecurity=False).digest())
        pictures.append(shrink(screen, config, table).copy())  # it may be a view of the screen
        lives.append(lives_of(game))

    began, length, ended = time.perf_counter(), 0, True
    for action in actions:
        if ended or length == STRETCH:
            broken_off += [] if ended else [length]
            game.start()
            see()
            length = 0
        reward, ended = policy_step(game, action, config.frame_skip)
        see()
        length += 1
        rewards.append(reward)
        lengths += [length] if ended else []
        if time.perf_counter() - began > limit:
            break
    broken_off += [] if ended else [length]
    seconds = time.perf_counter() - began
    return Played(np.stack(pictures), screens, (least, most), rewards, lengths, broken_off, lives, seconds)


def policy_step(game: AtariGame | PictureGame, action: int, frames: int) -> tuple[float, bool]:
    """Sum of the rewards, and whether the game ended."""
    total = 0.0
    for _ in range(frames):
        reward, over, cut = game.frame(action)
        total += reward
        if over or cut:
            return total, True
    return total, False


def lives_of(game: AtariGame | PictureGame) -> int | str | None:
    """What the game tells of them, or what is wrong with that."""
    try:
        return game.told_lives()
    except GameBroke as error:
        return str(error)


def alike(one: Played, other: Played) -> bool:
    """Whether two games went the same way."""
    return (one.screens, one.rewards, one.lengths) == (other.screens, other.rewards, other.lengths)
