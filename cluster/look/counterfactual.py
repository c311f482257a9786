"""States of Breakout that play never reaches: does the world model know how a ball flies, or the games that it saw?

The emulator's memory is set: bricks of any pattern, the ball anywhere below them, in any direction, at any speed that
the game has. From there the agent plays as ever, and its world model is judged as in world_report.py.
"""

from __future__ import annotations

import numpy as np

from actors.config import EnvConfig
from actors.game import AtariGame
from cluster.look.evaluate import device_of, seeded
from cluster.look.windows import Windowed, play_windows
from cluster.look.world_report import Report, judge
from dreamer.agent import Agent
from replay.errors import UserError

# Addresses in Breakout's 128 bytes. Found by watching them; ball and bricks as in Anand et al., Unsupervised State
# Representation Learning in Atari, 2019.
WALL = [0x3F] * 6 + [0xFF] * 24 + [0xC0] * 6  # bytes 0..35, two bits a brick: all of them stand
BALL_X, BALL_Y, BALL_DY, BALL_DX = 99, 101, 103, 105  # screen pixels; pixels a frame, down and left (signed)
LEFT, RIGHT, TOP, BOTTOM = 60, 190, 120, 160  # where the ball is put: between the walls, between bricks and paddle
BUILT = 100  # frames of a game after which the wall stands: before, the game builds it again
SPEEDS = [(dy, dx) for dy in (-2, -1, 1, 2) for dx in (-2, -1, 1, 2)]


class Altered(Windowed):
    """Breakout whose state is changed every CONTEXT + AHEAD records. What follows counts as a new game."""

    def begin(self) -> np.ndarray:
        return np.array([isinstance(game, AtariGame) and alter(game, self.rng) for game in self.games.games])


def alter(game: AtariGame, rng: np.random.Generator) -> bool:
    """Half of the bricks, drawn one by one, and a ball in flight; False where the game is too young for it."""
    emulator = game.ale
    if emulator.getEpisodeFrameNumber() < BUILT:
        return False
    for address, all_stand in enumerate(WALL):
        stands = sum(0b11 << 2 * brick for brick in range(4) if rng.random() < 0.5)
        emulator.setRAM(address, stands & all_stand)
    dy, dx = SPEEDS[rng.integers(len(SPEEDS))]
    where = {BALL_X: rng.integers(LEFT, RIGHT), BALL_Y: rng.integers(TOP, BOTTOM), BALL_DY: dy, BALL_DX: dx}
    for address, value in where.items():
        emulator.setRAM(address, int(value) % 256)
    return True


def counterfactual_report(agent: Agent, env: EnvConfig, *, windows: int, seed: int) -> Report:
    """The numbers of `world_report` for windows that begin in states that play never reaches. Raises UserError."""
    if "Breakout" not in env.id:
        raise UserError(f"--counterfactual sets the memory of Breakout, and this is {env.id}")
    with seeded(seed, device_of(agent)):
        return judge(agent, env, play_windows(agent, env, windows=windows, seed=seed, through=Altered))
