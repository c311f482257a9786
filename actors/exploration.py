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


def explore(chosen: Tensor, *, epsilon: np.ndarray, num_actions: int, rng: np.random.Generator) -> Tensor:
    """The chosen actions int64 [E], each replaced by a uniform one with its game's probability, epsilon float [E]."""
    at_random = torch.as_tensor(rng.random(len(epsilon)) < epsilon, device=chosen.device)
    uniform = torch.as_tensor(rng.integers(num_actions, size=len(epsilon)), device=chosen.device)
    return torch.where(at_random, uniform, chosen)
