"""One page's dream, and the real game that gets the same actions."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import numpy as np
import torch

from actors.config import EnvConfig
from actors.env import make_games
from cluster.look.world_report import LEAST, ball_region, brightest_spot
from cluster.play.dream import DreamStep, Seen, draw_noise
from cluster.play.starts import StartingPoint, encoded, frame, to_pixels
from dreamer.agent import Agent
from dreamer.types import State

HOTTEST = 3.0  # the highest temperature that a page may ask for


class Begin(NamedTuple):
    """Begin anew at a starting point."""

    start: int


class Act(NamedTuple):
    """One step."""

    action: int
    temperature: float  # of the prior


def understand(text: str, *, starts: int, actions: int) -> Begin | Act:
    """{"start": 3} or {"action": 2, "temperature": 1.0}; raises ValueError for anything else."""
    match json.loads(text):
        case {"start": int(start), **rest} if not rest and 0 <= start < starts:
            return Begin(start)
        case {"action": int(action), "temperature": int(heat) | float(heat), **rest} if (
            not rest and 0 <= action < actions and 0 <= heat <= HOTTEST
        ):
            return Act(action, float(heat))
    raise ValueError("a page may ask for a start, or for an action at a temperature, and for nothing else")


class Session:
    """A dream, and beside it the real game where its emulator can be set to the same moment."""

    def __init__(self, agent: Agent, env: EnvConfig, starts: list[StartingPoint], *, seed: int) -> None:
        self._dream, self._env, self._starts = DreamStep(agent), env, starts
        self._chance = torch.Generator().manual_seed(seed)
        self._games = make_games(env, 1, seed) if starts[0].kept is not None else None
        self.answer(Begin(0))

    def close(self) -> None:
        if self._games is not None:
            self._games.close()

    @torch.no_grad()
    def answer(self, asked: Begin | Act) -> dict[str, Any]:
        """The frame that it leads to."""
        return self._begin(asked.start) if isinstance(asked, Begin) else self._act(asked.action, asked.temperature)

    def _begin(self, number: int) -> dict[str, Any]:
        start = self._starts[number]
        self._state, self._steps, self._score, self._real_is_over = start.state, 0, 0.0, False
        seen = self._dream.look(self._state)
        if self._games is None or start.kept is None:
            return frame(seen, steps=0)
        self._games.go_back(start.kept)
        return frame(seen, steps=0) | {"real": self._compare(start.picture, seen, life_lost=False)}

    def _act(self, action: int, temperature: float) -> dict[str, Any]:
        world = self._dream.world
        noise = draw_noise(self._state.z, self._chance)
        one_hot = world.one_hot(torch.tensor([action]))
        h, z, *found = self._dream(*self._state, one_hot, noise, torch.tensor(temperature))
        self._state, seen, self._steps = State(h, z), Seen(*found), self._steps + 1
        shown = frame(seen, steps=self._steps)
        if self._games is None or self._real_is_over:
            return shown
        arrived = self._games.step(np.array([action]))
        self._score += float(arrived.step.reward[0])
        self._real_is_over = bool(arrived.is_last[0])
        return shown | {"real": self._compare(arrived.step.obs[0], seen, life_lost=bool(arrived.life_lost[0]))}

    def _compare(self, real: np.ndarray, seen: Seen, *, life_lost: bool) -> dict[str, Any]:
        """The real game's part of a frame."""
        return {
            "picture": encoded(real),
            "score": self._score,
            "life_lost": life_lost,
            "over": self._real_is_over,
            **balls(real, to_pixels(seen.picture[0]), self._env),
        }


def balls(real: np.ndarray, dreamt: np.ndarray, env: EnvConfig) -> dict[str, Any]:
    """Where Breakout's ball is in two pictures uint8 [H, W, C], and how far apart, in pixels; {} in another game.

    `real_ball` and `dream_ball` are [row, column], or null where no ball is to be seen; then `distance` is null, too.
    """
    region = ball_region(env)
    if region is None:
        return {}
    rows, columns = region
    light = torch.as_tensor(np.stack([real, dreamt])[:, rows, columns]).float().mean(-1) / 255
    least = torch.tensor([LEAST, max(LEAST, 0.5 * light[0].max().item())])
    found = brightest_spot(light[:, None], least=least[:, None])[:, 0] + torch.tensor([rows.start, columns.start])
    apart = (found[0] - found[1]).norm().item()
    places = [None if spot.isnan().any() else [round(x, 2) for x in spot.tolist()] for spot in found]
    return {"real_ball": places[0], "dream_ball": places[1], "distance": round(apart, 2) if apart == apart else None}
