"""Catch: a game small enough to be learned in minutes, so that a test can show that the whole system learns.

    column   0 1 2 3 4      A ball appears in a random column of the top row and falls a row per step while the wind of
    row 0      o            this game takes it -1, 0 or 1 columns along; what leaves at one side, ball or paddle,
        1        o          comes in at the other. When it reaches the lowest row it has landed: +1 if the paddle is
       ...                  exactly below. The next step shows the next ball.
        6        o          A step too much or too little misses: who mistakes when an action acts, misses.
    paddle       =          A picture does not show the wind: who has no memory must guess the last column.

Toy/Catch-v0 is a game of ten balls, Toy/CatchOne-v0 of one. There no window shows one ball follow another, and nobody
learns to give up what he knew of the last: who carries his state over from game to game, misses. Importing this module
registers both.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

STAY, LEFT, RIGHT = range(3)
SIZE, COLUMNS, ROWS = 64, 5, 7
WIDTH, HEIGHT = 12, 8  # pixels of ball and paddle; large, so that they weigh in the loss of a picture
# Six falls bring a ball down. The wind shows after the first, and no column is further away than two steps: a perfect
# player catches every ball. With walls instead, the columns beside them are rarely visited, and a policy that never
# sees a catch there gives them up: 8.5 of 10 for long.


class Catch(gymnasium.Env):
    """Picture uint8 [64, 64, 1]; actions stay, left, right; the score is the number of balls caught, at best `balls`.

    A game is balls * ROWS - 1 steps: a ball is in seven pictures, the first of which is the reset's.
    """

    observation_space = spaces.Box(0, 255, (SIZE, SIZE, 1), np.uint8)
    action_space = spaces.Discrete(3)

    def __init__(self, balls: int = 10) -> None:
        self.balls = balls

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        """A new game: another wind, the paddle anywhere, the first ball at the top."""
        super().reset(seed=seed)
        self.landed = 0
        self.wind = int(self.np_random.integers(-1, 2))
        self.paddle = int(self.np_random.integers(COLUMNS))
        self._drop()
        return self._picture(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        """The paddle moves, then the ball."""
        assert self.action_space.contains(action), action
        self.paddle = (self.paddle + (action == RIGHT) - (action == LEFT)) % COLUMNS
        reward = 0.0
        if self.row == ROWS - 1:
            self._drop()
        else:
            self.row += 1
            self.column = (self.column + self.wind) % COLUMNS
            if self.row == ROWS - 1:
                self.landed += 1
                reward = float(self.column == self.paddle)
        return self._picture(), reward, self.landed == self.balls, False, {}

    def landing(self) -> int:
        """The column where the ball will land. A perfect player knows it, a picture alone does not show it."""
        return (self.column + self.wind * (ROWS - 1 - self.row)) % COLUMNS

    def _drop(self) -> None:
        self.row, self.column = 0, int(self.np_random.integers(COLUMNS))

    def _picture(self) -> np.ndarray:
        picture = np.zeros((SIZE, SIZE, 1), np.uint8)
        for column, row in ((self.column, self.row), (self.paddle, ROWS)):
            x, y = column * WIDTH, row * HEIGHT
            picture[y : y + HEIGHT, x : x + WIDTH] = 255
        return picture


gymnasium.register("Toy/Catch-v0", Catch)
gymnasium.register("Toy/CatchOne-v0", Catch, kwargs={"balls": 1})
