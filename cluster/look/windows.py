"""Windows of fresh games by which a world model is judged: CONTEXT real steps, then AHEAD that it has to foresee."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from itertools import islice

import numpy as np
import torch

from actors.config import EnvConfig
from actors.env import Games, make_games
from actors.exploration import Explorer
from actors.interface import AnyGames, Arrived
from actors.rollout import Tick, play
from cluster.look.evaluate import device_of
from dreamer.agent import Agent
from dreamer.types import Batch
from replay.errors import UserError
from replay.experience import EnvSpec

CONTEXT, AHEAD = 16, 15  # steps
GAMES = 8  # played side by side
PATIENCE = 3000  # steps of all games without a window, after which it is no longer waited for
HOLD = 8  # steps for which `Wandering` holds an action, at most


def play_windows(
    agent: Agent,
    env: EnvConfig,
    *,
    windows: int,
    seed: int,
    through: Callable[[Games, np.random.Generator], AnyGames] | None = None,
) -> Batch:
    """Batch [CONTEXT + AHEAD, windows] on the agent's device, none of which crosses a game.

    `through` is what stands between policy and games, such as `Wandering`. Raises UserError where games are too short.
    """
    rng = np.random.default_rng(seed)
    games = make_games(env, GAMES, seed)
    with closing(through(games, rng) if through else games) as played:
        return collect(play(played, agent, refresh=lambda: 0, rng=rng), windows, device_of(agent))


def collect(ticks: Iterable[Tick], windows: int, device: torch.device) -> Batch:
    """The first windows of these games."""
    cut = islice(cut_windows(ticks), windows)
    fields = [np.stack(field, axis=1) for field in zip(*cut, strict=True)]
    batch = Batch(*(torch.as_tensor(field, device=device) for field in fields))
    return batch._replace(prev_action=batch.prev_action.long())


def cut_windows(ticks: Iterable[Tick]) -> Iterator[Batch]:
    """Windows of single games [CONTEXT + AHEAD], one after the other without overlap; they begin as if from nothing.

    Raises UserError where no game lasts that long.
    """
    pieces: dict[int, list[tuple[np.ndarray, ...]]] = {}
    waited = 0  # ticks since the last window
    for tick in ticks:
        waited += 1
        if waited > PATIENCE:
            raise UserError(f"the games are over within {CONTEXT + AHEAD - 1} steps, too few to judge a world model by")
        for game, is_first in enumerate(tick.step.is_first):
            piece = pieces.setdefault(game, [])
            if is_first:
                piece.clear()
            piece.append(tuple(field[game] for field in tick.step))
            if len(piece) == CONTEXT + AHEAD:
                window = Batch(*(np.stack(field) for field in zip(*piece, strict=True)))
                window.is_first[0] = True
                yield window
                piece.clear()
                waited = 0


class Windowed:
    """Games whose every CONTEXT + AHEAD records count as a game of their own: `AnyGames`."""

    def __init__(self, games: Games, rng: np.random.Generator) -> None:
        self.games, self.rng, self._records = games, rng, 0
        self.num: int = games.num
        self.spec: EnvSpec = games.spec

    def begin(self) -> np.ndarray:
        """Does what is to be done before a window's first record -> bool [E], the games that begin one."""
        return np.ones(self.num, bool)

    def acting(self, actions: np.ndarray, place: int) -> np.ndarray:
        """The policy's actions int [E] -> those that lead to the windows' record `place`."""
        return actions

    def reset(self) -> Arrived:
        return self.games.reset()

    def send(self, actions: np.ndarray) -> None:
        self.games.send(self.acting(actions, self._records % (CONTEXT + AHEAD)))

    def receive(self) -> Arrived:
        begins = self._records % (CONTEXT + AHEAD) == 0
        first = self.begin() if begins else np.zeros(self.num, bool)
        self._records += 1
        arrived = self.games.receive()
        arrived.step.is_first[:] |= first
        return arrived

    def step(self, actions: np.ndarray) -> Arrived:
        self.send(actions)
        return self.receive()

    def close(self) -> None:
        self.games.close()


class Wandering(Windowed):
    """After the context not the policy acts, but chance: one action after the other, each held for up to HOLD steps."""

    def __init__(self, games: Games, rng: np.random.Generator) -> None:
        super().__init__(games, rng)
        self._chance = Explorer(np.ones(games.num), hold=HOLD, num_actions=games.spec.num_actions, rng=rng)

    def acting(self, actions: np.ndarray, place: int) -> np.ndarray:
        return actions if place < CONTEXT else self._chance(torch.as_tensor(actions)).numpy()
