"""How well an agent plays: full games, all lives, raw score.

slot 0   | game 1 | game 2      | (ignored)       every slot plays a fixed number of games, whoever is ready first:
slot 1   | game 1     | game 2 | (ignored)        "the first ten games to finish" would be mostly short ones
slot 2   | game 1               | (ignored)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch

from actors.config import EnvConfig
from actors.env import make_games
from actors.episodes import EpisodeReport
from actors.rollout import Tick, play
from cluster.look.hazard import Hazard, hazards
from dreamer.agent import Agent
from dreamer.chance import seeded
from dreamer.config import BehaviorConfig, ModelConfig

MAX_PARALLEL = 16  # games side by side, one batch of the policy; more would wait longer for the last of them


class Evaluation(NamedTuple):
    """The games that count, in the order of slots and then of time."""

    scores: list[float]  # sum of raw rewards over all lives
    lengths: list[int]  # policy steps
    seconds: float  # wall clock of the whole evaluation
    hazards: Sequence[Hazard] = ()  # where lives were lost


def evaluate(
    agent: Agent,
    env: EnvConfig,
    *,
    episodes: int,
    seed: int,
    sample: bool = True,
    max_parallel: int = MAX_PARALLEL,
    progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """Plays `episodes` full games with the agent where it lives; `progress` hears how many have been counted.

    A game longer than env.time_limit is cut off there and counts with its score so far. The result is a function of the
    weights, env, episodes, seed, sample and max_parallel; the caller's random numbers go on as if nothing had happened.
    """
    began = time.monotonic()
    slots = min(max_parallel, episodes)
    with (
        seeded(seed, device_of(agent)),
        closing(full_games(agent, env, slots=slots, seed=seed, sample=sample)) as ticks,
    ):
        games = count_games(ticks, quotas(episodes, slots), progress)
    return judged(games, time.monotonic() - began)


def play_random(env: EnvConfig, *, episodes: int, seed: int) -> Evaluation:
    """The baseline: uniformly random actions, played and counted in the same way."""
    began = time.monotonic()
    slots = min(MAX_PARALLEL, episodes)
    with closing(random_games(env, slots=slots, seed=seed)) as ticks:
        games = count_games(ticks, quotas(episodes, slots), progress=None)
    return judged(games, time.monotonic() - began)


def judged(games: list[EpisodeReport], seconds: float) -> Evaluation:
    """What is told of the games that count."""
    return Evaluation([g.score for g in games], [g.length for g in games], seconds, hazards(games))


def summary(
    evaluation: Evaluation,
    random: Evaluation,
    *,
    checkpoint: Mapping[str, int],
    env: EnvConfig,
    behavior: BehaviorConfig,
) -> dict[str, object]:
    """What `evaluate --json` prints. std is that of the games played (divided by their number): one game has 0."""
    scores = np.array(evaluation.scores)
    return {
        "scores": evaluation.scores,
        "mean": float(scores.mean()),
        "std": float(scores.std()),
        "min": float(scores.min()),
        "max": float(scores.max()),
        "lengths": evaluation.lengths,
        "frames": sum(evaluation.lengths) * env.frame_skip,
        "perturb": env.perturb,
        "sticky": env.sticky,
        "behavior": behavior.name,
        "checkpoint": {"update": checkpoint["update"], "policy_step": checkpoint["policy_step"]},
        "random": {
            "mean": float(np.mean(random.scores)),
            "std": float(np.std(random.scores)),
            "episodes": len(random.scores),
        },
        "hazard": [one._asdict() for one in evaluation.hazards],
    }


# --- The games ---


def as_played(env: EnvConfig) -> EnvConfig:
    """The rules of a real game: a lost life is not an end, and nobody serves for the player."""
    return replace(env, life_loss=False, auto_fire=False)


def full_games(agent: Agent, env: EnvConfig, *, slots: int, seed: int, sample: bool = True) -> Iterator[Tick]:
    """The agent's games for ever, with its weights as they are. Draws from torch's global generators: see `seeded`."""
    with closing(make_games(as_played(env), slots, seed)) as games:
        rng = np.random.default_rng(seed)
        yield from play(games, agent, refresh=lambda: 0, sample=sample, rng=rng)


def random_games(env: EnvConfig, *, slots: int, seed: int) -> Iterator[Tick]:
    """Random games for ever: `play` without weights (version -1). The agent that it asks for is a dummy of one unit."""
    with closing(make_games(as_played(env), slots, seed)) as games:
        model = ModelConfig(cnn="same", cnn_depth=1, deter=1, hidden=1, stoch=1, classes=1, head_layers=0, head_units=1)
        shape = {"channels": games.spec.obs_shape[-1], "num_actions": games.spec.num_actions}
        with seeded(seed, torch.device("cpu")):
            dummy = Agent(model, BehaviorConfig(layers=0, units=1), size=8, **shape)
        yield from play(games, dummy, refresh=lambda: -1, rng=np.random.default_rng(seed))


def quotas(episodes: int, slots: int) -> list[int]:
    """How many games count in each slot: `episodes` shared out as evenly as possible."""
    return [episodes // slots + (slot < episodes % slots) for slot in range(slots)]


def count_games(ticks: Iterator[Tick], quota: list[int], progress: Callable[[int], None] | None) -> list[EpisodeReport]:
    """The first quota[e] games of every slot e; those that a slot finishes beyond that are ignored."""
    counted: list[list[EpisodeReport]] = [[] for _ in quota]
    for tick in ticks:
        for report in tick.episodes:
            if len(counted[report.game]) < quota[report.game]:
                counted[report.game].append(report)
                if progress:
                    progress(sum(map(len, counted)))
        if [len(games) for games in counted] == quota:
            break
    return [report for games in counted for report in games]


def device_of(agent: Agent) -> torch.device:
    """Where the agent lives."""
    return next(agent.parameters()).device
