"""Stage train: a real run of `fast`, a copy of it, a dream, what its world model sees, and 30 games."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.cluster.tiny import ROOT, TINY
from tests.gpu.bench import Measure, run
from tests.gpu.settings import Stage, parse

SETTLE_ROWS = 2  # logging intervals that are not counted: random play, capture
KEYS = ("updates_per_second", "policy_steps_per_second", "learner_wait", "actor_wait")


def measurements(stage: Stage) -> dict[str, Measure]:
    """What takes longest, games of an agent that may not know how to end them, comes last."""
    folder, games = str(stage.work / "run"), "1" if stage.tiny else "30"
    on, film = ("--device", stage.device.type, "--json"), str(stage.work / "dream.gif")
    return {
        "training": lambda: train(stage, Path(folder)),
        "export": lambda: command("export", folder, "--out", str(stage.work / "agent")),
        "dream": lambda: command("record", folder, "--kind", "dream", "--out", film),
        "world model": lambda: command("evaluate", folder, "--world-model", "--episodes", games, *on),
        "evaluation": lambda: command("evaluate", folder, "--episodes", games, *on),
    }


def train(stage: Stage, folder: Path) -> dict[str, Any]:
    """A run of the command line, as a person would start it, and what it settled at."""
    options = [*TINY, "--train.checkpoint-every", "2"] if stage.tiny else ["--preset", "fast"]
    options += ["--runtime", "inline", "--device", stage.device.type, "--run-dir", str(folder)]
    options += ["--minutes", str(stage.minutes), "--cluster.metrics-port", "-1"]
    found = command("train", *options)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    trained = [row for row in rows if row["update"] > 0]
    settled = trained[SETTLE_ROWS:-1] or trained
    medians = {key: statistics.median(row[key] for row in settled) for key in KEYS} if settled else {}
    return found | {"settled": medians, "last": rows[-1] if rows else {}}


def command(*words: str) -> dict[str, Any]:
    """What a command of ours prints as JSON, if it does. RuntimeError where it fails; its words are in the log."""
    print("$ dreamer", *words, flush=True)
    call = [sys.executable, "-m", "cluster", *words]
    done = subprocess.run(call, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    print(done.stdout, flush=True)
    if done.returncode:
        raise RuntimeError(f"dreamer {words[0]} ended with exit code {done.returncode}")
    return json.loads(done.stdout) if "--json" in words else {}


if __name__ == "__main__":
    told = parse()
    run(told, "tests.gpu.training", measurements(told))
