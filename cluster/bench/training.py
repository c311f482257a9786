"""A real training run, looked at for a minute: who waits for whom when everything shares the machine."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from cluster.presets import preset

SETTLE_ROWS = 3  # logging intervals that are not counted: the random play before training, caches, graphs
LOG_SECONDS = 5.0


class TrainingBench(NamedTuple):
    """What a run of its own settled at."""

    preset: str
    runtime: str  # ray | inline
    device: str
    actors: int  # processes; inline: those of the games
    updates_per_second: float  # median of the logging intervals
    policy_steps_per_second: float
    learner_wait: float  # share of the learner's time without data
    replay_ratio: float  # trained steps per played step since training began
    replay_ratio_wanted: float
    spread: float  # of updates per second


def bench_training(name: str, *, runtime: str, device: str, actors: int, minutes: float = 1.5) -> TrainingBench:
    """Trains for `minutes` in a process of its own and reads its metrics. RuntimeError if the run fails."""
    config = preset(name)
    processes = config.actor.workers if runtime == "inline" else actors
    with tempfile.TemporaryDirectory() as folder:
        options = {
            "--preset": name,
            "--runtime": runtime,
            "--device": device,
            "--cluster.actors": str(actors),
            "--run-dir": f"{folder}/run",
            "--minutes": str(minutes),
            "--train.log-every": str(LOG_SECONDS),
            "--train.image-every": "0",
            "--train.video-every": "0",
            "--cluster.metrics-port": "-1",
        }
        command = [sys.executable, "-m", "cluster", "train", *(word for pair in options.items() for word in pair)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60 * minutes + 300)
        if done.returncode:
            raise RuntimeError(f"the training run failed ({done.returncode}): {done.stderr.strip()[-500:]}")
        lines = (Path(folder) / "run" / "metrics.jsonl").read_text().splitlines()
    trained = [row for row in map(json.loads, lines) if row["update"] > 0]
    rows = trained[SETTLE_ROWS:-1]  # the last interval is a piece of one
    if len(rows) < 3:
        raise RuntimeError(f"{minutes} minutes were too short to see anything: {len(trained)} intervals with updates")

    def median(field: str) -> float:
        return statistics.median(row[field] for row in rows)

    rates = [row["updates_per_second"] for row in rows]
    return TrainingBench(
        preset=name,
        runtime=runtime,
        device=device,
        actors=processes,
        updates_per_second=median("updates_per_second"),
        policy_steps_per_second=median("policy_steps_per_second"),
        learner_wait=median("learner_wait"),
        replay_ratio=rows[-1]["replay_ratio"],
        replay_ratio_wanted=config.replay.replay_ratio,
        spread=(max(rates) - min(rates)) / statistics.median(rates),
    )
