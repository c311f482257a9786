"""Lives that were lost are played once more from shortly before: some games do nothing else (`actor.practice`).

    a game             x x x x x x x x x lost      a moment is kept every few steps
    one that practises         | a a a x x x x     begins at one of them, LEAST to MOST steps before the loss, with a
                                                   random action held for up to HOLD steps; ends with its life

A process whose games all practise has no lost lives: they play as ever.

What a player cannot do yet is what lives are lost by, so this is where play teaches most. Most of these lives are not
missed, but given up: the paddle never tries the ten equal moves in a row that would save them. Held, a random action
does. And the same ball is met by other actions: else a world model learns to read its way from those of the player.

That a game may be set back is more than a player of the real machine has; evaluations never do it. After Salimans and
Chen, Learning Montezuma's Revenge from a Single Demonstration, 2018, and Ecoffet et al., First Return, Then Explore,
2021.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from actors.game import AtariGame

# Policy steps before the loss. 8 before it a ball of Breakout has passed the paddle (docs/learning.md).
LEAST, MOST = 12, 40
HOLD = 15  # policy steps for which the first action is held, at most; as likely 0, 1, 2 ...
EVERY = 4  # policy steps from one kept moment to the next
REMEMBERED = 64  # lost lives, the newest: of players as good as today's


def practises(game: int, share: float) -> bool:
    """Whether game 0, 1, ... of a run is one that practises: evenly spread, `share` of them."""
    return int((game + 1) * share) > int(game * share)


class Practice:
    """What the games of this process have lost, and those of them that play it again."""

    def __init__(self, practises: list[bool], num_actions: int) -> None:
        """practises: [E], which games do nothing else."""
        num = len(practises)
        self._practises, self._num_actions = practises, num_actions
        self.running = np.zeros(num, bool)  # [E]  the game that runs began before a lost life
        self._held = np.zeros(num, np.int32)  # [E]  the action that it begins with
        self._held_for = np.zeros(num, np.int32)  # [E]  steps that it is still held
        self._steps = [0] * num  # of the life that each game plays
        self._moments: list[deque[tuple[int, bytes]]] = [deque(maxlen=MOST // EVERY) for _ in range(num)]
        self._lost: deque[list[bytes]] = deque(maxlen=REMEMBERED)

    def watch(self, e: int, game: AtariGame, *, lost: bool) -> None:
        """After each policy step of game e; lost: its life, with that step. Who practises is not watched."""
        if self._practises[e] or not any(self._practises):
            return
        self._steps[e] += 1
        if lost:
            last = self._steps[e] - LEAST
            if moments := [moment for step, moment in self._moments[e] if step <= last]:
                self._lost.append(moments)
            self._steps[e] = 0
            self._moments[e].clear()
        elif self._steps[e] % EVERY == 0:
            self._moments[e].append((self._steps[e], game.keep()))

    def begin(self, e: int, game: AtariGame, rng: np.random.Generator) -> bool:
        """Sets game e back to before a lost life; False if it does not practise or nothing was lost yet."""
        moment = self.draw(rng) if self._practises[e] else None
        self.running[e], self._held_for[e] = moment is not None, 0
        if moment is None:
            return False
        game.go_back(moment)
        game.frame(0)  # so that the screen follows
        self._held[e] = rng.integers(self._num_actions)
        self._held_for[e] = rng.integers(HOLD + 1)
        return True

    def draw(self, rng: np.random.Generator) -> bytes | None:
        """A moment before some loss; None while nothing was lost."""
        if not self._lost:
            return None
        moments = self._lost[rng.integers(len(self._lost))]
        return moments[rng.integers(len(moments))]

    def overrule(self, actions: np.ndarray) -> np.ndarray:
        """The player's actions int [E] -> with those that are held in their place; once for every step."""
        played = np.where(self._held_for > 0, self._held, actions)
        self._held_for = np.maximum(0, self._held_for - 1)
        return played
