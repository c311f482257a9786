"""From records to finished games: what each of them came to."""

from __future__ import annotations

import time
from typing import NamedTuple

import numpy as np

from actors.interface import Arrived
from actors.lives import Lives


class EpisodeReport(NamedTuple):
    """One finished game."""

    game: int  # which of the E games
    score: float  # sum of raw rewards over all lives
    length: int  # policy steps
    policy_version: int  # update count of the policy that finished it; -1 = random play
    seconds: float  # wall clock
    lives: tuple[int, ...] = ()  # rewarded steps of each life in turn; a game without lives is one
    lost: int = 0  # how many of these lives were lost: all, or all but the last if a limit ended the game


class Episodes:
    """The books of E running games."""

    def __init__(self, num: int) -> None:
        self._score, self._length = np.zeros(num), np.zeros(num, int)
        self._began = np.full(num, time.monotonic())
        self._lives = Lives(num)

    def take(self, arrived: Arrived, *, policy_version: int) -> list[EpisodeReport]:
        """One record of every game, to which that policy led -> what became of those that ended with it.

        What only practises a lost life ends without a report.
        """
        step = arrived.step
        self._score = np.where(step.is_first, 0.0, self._score + step.reward)
        self._length = np.where(step.is_first, 0, self._length + 1)
        self._began = np.where(step.is_first, time.monotonic(), self._began)
        self._lives.take(reward=step.reward, is_first=step.is_first, life_lost=arrived.life_lost)
        return [
            EpisodeReport(
                int(e),
                float(self._score[e]),
                int(self._length[e]),
                policy_version,
                time.monotonic() - self._began[e],
                *self._lives.of(e, life_lost=bool(arrived.life_lost[e])),
            )
            for e in np.flatnonzero(arrived.is_last & ~arrived.practice)
        ]
