"""A configuration that learns Catch in minutes on a CPU, and what it takes to be learned."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cluster import assemble
from cluster.look.evaluate import Evaluation, evaluate
from tests.cluster.tiny import finish, rows, start

SHARE = 0.9  # of the best possible mean score with which a game counts as learned
SEED = 10_000  # of an evaluation's games: other ones than those of training


class Game(NamedTuple):
    """One of the games of tests/catch_game.py."""

    id: str
    best: float  # possible score: every ball caught
    evaluated: int  # games of an evaluation: 500 balls
    options: str  # windows that fit into it


CATCH = Game("Toy/Catch-v0", 10.0, 50, "--replay.length 8 --replay.stride 4 --replay.batch 16")
CATCH_ONE = Game("Toy/CatchOne-v0", 1.0, 500, "--replay.length 6 --replay.stride 3 --replay.batch 20")

# Breakout's crop, white, lives and serve are switched off. Shrunk to a quarter, ball and paddle are 2 x 3 pixels.
PICTURE = (
    "--env.import-module tests.catch_game --env.frame-skip 1 --env.size 16 --env.crop 0 0 0 0 "
    "--env.no-binary --env.no-life-loss --env.no-auto-fire"
)
NETS = (
    "--model.cnn-depth 16 --model.deter 128 --model.hidden 128 --model.stoch 8 --model.classes 8 "
    "--model.head-units 64 --behavior.units 64"
)
# A ball is six steps from its first picture to the paddle: a dream a little longer sees the catch from every start.
LEARNING = (
    "--behavior.horizon 8 --model.gamma 0.95 --train.model-lr 1e-3 --train.actor-lr 3e-4 --train.critic-lr 3e-4 "
    "--behavior.entropy-scale 2e-2"
)
REPLAY = "--replay.capacity 100000 --replay.prefill 6000 --replay.replay-ratio 8"
RHYTHM = "--actor.games 8 --train.log-every 10 --train.image-every 0 --train.threads 1 --cluster.metrics-port 0"
TINY_CATCH = f"--preset cpu --device cpu {PICTURE} {NETS} {LEARNING} {REPLAY} {RHYTHM}".split()


class Learned(NamedTuple):
    """How a training went."""

    score: float  # mean of the evaluation
    update: int
    policy_step: int
    seconds: float  # of training, the start of its processes included


def train_options(game: Game, run: Path, seed: int, *more: str) -> list[str]:
    fitting = ["--env.id", game.id, *game.options.split()]
    return ["train", *TINY_CATCH, *fitting, "--run-dir", str(run), "--seed", str(seed), *more]


def train_until_learned(game: Game, run: Path, seed: int, *more: str, seconds: float) -> Learned:
    """Trains until the last games played in training reach the goal, `seconds` at most; then plays others.

    Games of training are drawn from the policy, so they score no better than those of the evaluation.
    """
    began, goal = time.monotonic(), SHARE * game.best
    process = start(*train_options(game, run, seed, *more))
    try:
        while process.poll() is None and recent_score(run, game.evaluated) < goal:
            if time.monotonic() > began + seconds:
                break
            time.sleep(1)
        process.send_signal(signal.SIGTERM)
        code, _, err = finish(process)
    finally:
        end(process)
    assert code in (0, 128 + signal.SIGTERM), err  # 0: the limit of `more` came first
    took = time.monotonic() - began
    found = assemble.load(run).checkpoint
    return Learned(float(np.mean(play(game, run).scores)), found.update, found.policy_step, took)


def end(process: subprocess.Popen[str]) -> None:
    """Of a test that failed on the way."""
    if process.poll() is None:
        process.kill()
        process.communicate()


def recent_score(run: Path, games: int) -> float:
    """Mean of the last games of training; minus infinity while there are too few."""
    scores = [row["score"] for row in rows(run / "episodes.jsonl")[-games:]]
    return float(np.mean(scores)) if len(scores) == games else -np.inf


def play(game: Game, run: Path) -> Evaluation:
    """Games of the trained agent, its best actions instead of draws."""
    loaded = assemble.load(run)
    return evaluate(loaded.agent, loaded.config.env, episodes=game.evaluated, seed=SEED, sample=False)
