"""The two lessons: what an update is, and what is measured now and then."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from actors.config import EnvConfig
from cluster.config import Config
from cluster.look.evaluate import device_of, evaluate, seeded
from cluster.look.world_report import LOOKS, judge
from dreamer.agent import Agent
from dreamer.types import Batch, Metrics
from learner.device import choose_precision
from learner.step import arithmetic, dream_step, make_grad_steps, make_optimizers

JUDGED, PLAYED = 1, 7  # seeds of what is measured: the same chance every time

Row = dict[str, float | None]


class Lesson(NamedTuple):
    """One learner by itself."""

    agent: Agent
    update: Callable[[Batch], Metrics]
    measure: Callable[[], Row]
    columns: dict[str, str]  # of the table: heading -> the number of `measure`, or of the updates before it
    every: int  # updates between measurements


def world_lesson(agent: Agent, config: Config, held: Batch) -> Lesson:
    """The world model alone: no dream is dreamt, no behaviour learns."""
    precision = choose_precision(config.train.precision, device_of(agent))
    groups = {"model": make_optimizers(agent, config.train)["model"]}
    step = make_grad_steps(groups, clip=config.train.grad_clip, keras=config.train.adam_keras)

    def update(batch: Batch) -> Metrics:
        with arithmetic(precision, batch.obs.device):
            out = agent.world.loss(batch)
            return out.metrics | {"model_grad": step["model"](out.loss)}

    def measure() -> Row:
        with seeded(JUDGED, device_of(agent)):
            return dict(judge(agent, config.env, held))

    balls = {f"{ahead} ahead": f"ball_recall_{ahead}_ahead" for ahead in LOOKS}
    fast = {f"fast, {ahead} ahead": f"ball_recall_{ahead}_ahead_fast" for ahead in LOOKS[:2]}
    columns = {"seen": "ball_recall", **balls, **fast, "rewards": "reward_recall", "KL": "kl"}
    return Lesson(agent, update, measure, columns, every=500)


def policy_lesson(agent: Agent, config: Config, games: int) -> Lesson:
    """A behaviour alone, in a world model that stays as it is; it is judged by real games."""
    precision = choose_precision(config.train.precision, device_of(agent))
    agent.world.requires_grad_(False)
    groups = {name: one for name, one in make_optimizers(agent, config.train).items() if name != "model"}
    step = make_grad_steps(groups, clip=config.train.grad_clip, keras=config.train.adam_keras)

    def update(batch: Batch) -> Metrics:
        return dream_step(agent, step, batch, precision=precision)

    columns = {
        "score": "score",
        "+-": "score_std",
        "lost at 0": "hazard_0",
        "lost at 4": "hazard_4",
        "imagined return": "imagined_return",
        "entropy": "actor_entropy",
    }
    return Lesson(agent, update, lambda: play_real(agent, config.env, games), columns, every=2000)


def play_real(agent: Agent, env: EnvConfig, games: int) -> Row:
    """Scores of real games, and the share of lives lost with 0 and with 4 bricks."""
    played = evaluate(agent, env, episodes=games, seed=PLAYED)
    lost = {one.rewards: one.lost for one in played.hazards}
    return {
        "score": float(np.mean(played.scores)),
        "score_std": float(np.std(played.scores)),
        "score_median": float(np.median(played.scores)),
        "length": float(np.mean(played.lengths)),
        "hazard_0": lost.get(0),
        "hazard_4": lost.get(4),
    }
