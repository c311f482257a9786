"""Where lives are lost: how often each life of a game was rewarded before it ended."""

from __future__ import annotations

import numpy as np


class Lives:
    """Counts the rewarded steps of every life of E running games. A game without lives is one life.

    Not how much was won: a brick of Breakout is one reward of 1, 4 or 7 points.
    """

    def __init__(self, num: int) -> None:
        self._won: list[list[int]] = [[0] for _ in range(num)]

    def take(self, *, reward: np.ndarray, is_first: np.ndarray, life_lost: np.ndarray) -> None:
        """One record of every game, all [E]. A reward that comes with the loss is still the lost life's."""
        for e in np.flatnonzero(is_first):
            self._won[e] = [0]
        for e in np.flatnonzero(reward > 0):
            self._won[e][-1] += 1
        for e in np.flatnonzero(life_lost):
            self._won[e].append(0)

    def of(self, game: int, *, life_lost: bool) -> tuple[tuple[int, ...], int]:
        """Of a game that has just ended: rewarded steps of each life in turn, and how many of these lives were lost.

        All of them; all but the last where a limit ended the game, `life_lost` of its last record being false.
        """
        won = self._won[game][:-1] if life_lost else self._won[game]
        return tuple(won), len(self._won[game]) - 1
