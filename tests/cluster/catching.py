"""A configuration that learns Catch in minutes on a CPU, and what it takes to be learned."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cluster import run_dir
from cluster.evaluate import Evaluation, evaluate
from tests.catch_game import BEST_SCORE
from tests.cluster.tiny import finish, rows, start

GOAL = 0.9 * BEST_SCORE  # mean score with which the game counts as learned
GAMES = 50  # of an evaluation
SEED = 10_000  # of an evaluation's games: other ones than those of training
# Breakout's crop, contrast, lives and serve are switched off. Shrunk to a quarter, ball and paddle are 2 x 3 pixels.
GAME = (
    "--env.id Toy/Catch-v0 --env.import-module tests.catch_game --env.frame-skip 1 --env.size 16 --env.crop 0 0 0 0 "
    "--env.contrast 1 --env.no-life-loss --env.no-auto-fire"
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
REPLAY = (
    "--replay.capacity 100000 --replay.length 8 --replay.stride 4 --replay.batch 16 --replay.prefill 2000 "
    "--replay.replay-ratio 8"
)
RHYTHM = "--actor.games 8 --train.log-every 5 --train.image-every 0 --train.threads 1 --cluster.metrics-port 0"
TINY_CATCH = f"--preset cpu --device cpu {GAME} {NETS} {LEARNING} {REPLAY} {RHYTHM}".split()


class Learned(NamedTuple):
    """How a training went."""

    score: float  # mean of the evaluation
    update: int
    policy_step: int
    seconds: float  # of training, the start of its processes included


def train_options(run: Path, seed: int, *more: str) -> list[str]:
    return ["train", *TINY_CATCH, "--run-dir", str(run), "--seed", str(seed), *more]


def train_until_learned(run: Path, seed: int, *more: str, seconds: float) -> Learned:
    """Trains until the last games played in training reach the goal, `seconds` at most; then plays others.

    Games of training are drawn from the policy, so they score no better than those of the evaluation.
    """
    began = time.monotonic()
    process = start(*train_options(run, seed, *more))
    try:
        while process.poll() is None and time.monotonic() < began + seconds and recent_score(run) < GOAL:
            time.sleep(1)
        process.send_signal(signal.SIGTERM)
        code, _, err = finish(process)
    finally:
        end(process)
    assert code == 128 + signal.SIGTERM, err
    took = time.monotonic() - began
    found = run_dir.load(run).checkpoint
    return Learned(float(np.mean(play(run).scores)), found.update, found.policy_step, took)


def end(process: subprocess.Popen[str]) -> None:
    """Of a test that failed on the way."""
    if process.poll() is None:
        process.kill()
        process.communicate()


def recent_score(run: Path) -> float:
    """Mean of the last games of training; minus infinity while there are too few."""
    scores = [row["score"] for row in rows(run / "episodes.jsonl")[-GAMES:]]
    return float(np.mean(scores)) if len(scores) == GAMES else -np.inf


def play(run: Path) -> Evaluation:
    """Games of the trained agent, its best actions instead of draws."""
    loaded = run_dir.load(run)
    return evaluate(loaded.agent, loaded.config.env, episodes=GAMES, seed=SEED, sample=False)
