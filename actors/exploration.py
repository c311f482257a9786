"""Random actions on top of the policy's own draws: each game of a run has its share of them (Ape-X)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from actors.config import ActorConfig

SPREAD = 7.0  # the last game's exponent is 1 + this; Horgan et al., Distributed Prioritized Experience Replay, alpha
LEAST = 0.05  # share of random actions that every game has; the blog's


def epsilons(config: ActorConfig, *, actor: int = 0, actors: int = 1) -> np.ndarray | None:
    """How often each game of an actor, one of `actors`, acts at random: float64 [E]; None = never.

    epsilon_i = max(0.05, epsilon^(1 + 7 i / (n - 1))) for game i of the n games of the whole run: one game explores
    much, most stay near the policy.
    """
    if config.epsilon == 0:
        return None
    games = actors * config.games
    i = np.arange(actor * config.games, (actor + 1) * config.games)
    return np.maximum(LEAST, config.epsilon ** (1 + SPREAD * i / max(1, games - 1)))


def make_explorer(config: ActorConfig, num_actions: int, rng: np.random.Generator) -> Explorer | None:
    """For the only actor of a run; None where nothing is left to chance."""
    epsilon = epsilons(config)
    return None if epsilon is None else Explorer(epsilon, num_actions=num_actions, rng=rng)


class Explorer:
    """Puts random actions in the place of chosen ones, game by game."""

    def __init__(self, epsilon: np.ndarray, *, num_actions: int, rng: np.random.Generator, hold: int = 1) -> None:
        """epsilon: float [E], each game's share of random actions; may be changed in place.

        A random action is held for 1 to `hold` steps: drawn anew in each step, a paddle stays where it is (Dabney et
        al., Temporally-Extended epsilon-Greedy Exploration, 2021).
        """
        self.epsilon, self._hold, self._num_actions, self._rng = epsilon, hold, num_actions, rng
        self._held = np.zeros(len(epsilon), np.int64)  # [E]  the random action
        self._left = np.zeros(len(epsilon), np.int64)  # [E]  steps that it is still held

    def __call__(self, chosen: Tensor) -> Tensor:
        """Actions int64 [E] of the policy -> those that are played."""
        games, mean = len(self.epsilon), (1 + self._hold) / 2
        begin = self.epsilon / (self.epsilon + mean * (1 - self.epsilon))  # so that epsilon is the share of time
        begins = (self._left == 0) & (self._rng.random(games) < begin)
        drawn = self._rng.integers(self._num_actions, size=games)
        length = self._rng.integers(1, self._hold + 1, size=games) if self._hold > 1 else 1
        self._held = np.where(begins, drawn, self._held)
        self._left = np.where(begins, length, self._left)
        at_random = torch.as_tensor(self._left > 0, device=chosen.device)
        self._left = np.maximum(0, self._left - 1)
        return torch.as_tensor(self._held, device=chosen.device).where(at_random, chosen)
