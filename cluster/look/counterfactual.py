"""States of Breakout that play never reaches: does the world model know how a ball flies, or the games that it saw?

The emulator's memory is set: bricks of any pattern, the ball anywhere below them, in any direction, at any speed that
the game has. From there the agent plays as ever, and its world model is judged as in world_report.py.
"""

from __future__ import annotations

from contextlib import closing

import numpy as np

from actors.config import EnvConfig
from actors.env import Games, make_games
from actors.game import AtariGame
from actors.interface import Arrived
from actors.rollout import play
from cluster.look.evaluate import device_of, seeded
from cluster.look.world_report import AHEAD, CONTEXT, GAMES, Report, collect, judge
from dreamer.agent import Agent
from dreamer.types import Batch
from replay.errors import UserError
from replay.experience import EnvSpec

# Addresses in Breakout's 128 bytes. Found by watching them; ball and bricks as in Anand et al., Unsupervised State
# Representation Learning in Atari, 2019.
WALL = [0x3F] * 6 + [0xFF] * 24 + [0xC0] * 6  # bytes 0..35, two bits a brick: all of them stand
BALL_X, BALL_Y, BALL_DY, BALL_DX = 99, 101, 103, 105  # screen pixels; pixels a frame, down and left (signed)
LEFT, RIGHT, TOP, BOTTOM = 60, 190, 120, 160  # where the ball is put: between the walls, between bricks and paddle
BUILT = 100  # frames of a game after which the wall stands: before, the game builds it again
SPEEDS = [(dy, dx) for dy in (-2, -1, 1, 2) for dx in (-2, -1, 1, 2)]


class Altered:
    """Breakout whose state is changed every CONTEXT + AHEAD records: `AnyGames`. What follows counts as a new game."""

    def __init__(self, games: Games, rng: np.random.Generator) -> None:
        self._games, self._rng, self._records = games, rng, 0
        self.num: int = games.num
        self.spec: EnvSpec = games.spec
        self._atari = [game for game in games.games if isinstance(game, AtariGame)]

    def reset(self) -> Arrived:
        return self._games.reset()

    def send(self, actions: np.ndarray) -> None:
        self._games.send(actions)

    def receive(self) -> Arrived:
        changed = np.zeros(self.num, bool)
        if self._records % (CONTEXT + AHEAD) == 0:
            changed[:] = [alter(game, self._rng) for game in self._atari]
        self._records += 1
        arrived = self._games.receive()
        arrived.step.is_first[:] |= changed
        return arrived

    def step(self, actions: np.ndarray) -> Arrived:
        self.send(actions)
        return self.receive()

    def close(self) -> None:
        self._games.close()


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
        return judge(agent, env, altered_windows(agent, env, windows=windows, seed=seed))


def altered_windows(agent: Agent, env: EnvConfig, *, windows: int, seed: int) -> Batch:
    """Batch [CONTEXT + AHEAD, windows] on the agent's device."""
    rng = np.random.default_rng(seed)
    with closing(Altered(make_games(env, GAMES, seed), rng)) as games:
        return collect(play(games, agent, refresh=lambda: 0, rng=rng), windows, device_of(agent))
