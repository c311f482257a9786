"""A configuration so small that the whole system runs in seconds, as command-line options."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
NETS = (
    "--model.cnn-depth 2 --model.deter 16 --model.hidden 16 --model.stoch 4 --model.classes 4 --model.head-layers 1 "
    "--model.head-units 16 --behavior.layers 1 --behavior.units 16 --behavior.horizon 3"
)
REPLAY = "--replay.capacity 20000 --replay.length 8 --replay.stride 4 --replay.batch 4 --replay.prefill 100"
GAMES = "--actor.games 2 --env.time-limit 60"
RHYTHM = "--train.log-every 0.5 --train.image-every 0 --train.video-every 0 --train.threads 1 --cluster.metrics-port 0"
SYSTEMS = {  # the other ways to get a policy
    "cem": "--behavior.name cem --behavior.cem-candidates 12 --behavior.cem-rounds 2 --behavior.cem-elites 3",
    "cem with a value": "--behavior.name cem --behavior.cem-candidates 12 --behavior.cem-elites 3 "
    "--behavior.cem-score value --behavior.cem-rounds 1 --behavior.cem-hold 0.5",
    "cma_es": "--behavior.name cma_es --behavior.es-population 6 --behavior.es-starts 2",
    "mcts": "--behavior.name mcts --behavior.search-learning 4 --behavior.search-acting 2",
}
TINY = f"--preset cpu {NETS} {REPLAY} {GAMES} {RHYTHM}".split()


def train_options(run_dir: Path, *more: str) -> list[str]:
    return ["train", *TINY, "--run-dir", str(run_dir), *more]


def start(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    """The command line in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "cluster", *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str], seconds: float = 240) -> tuple[int, str, str]:
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        raise AssertionError(f"did not end in {seconds} s:\n{out}\n{err}") from None
    return process.returncode, out, err


def command(*arguments: str, seconds: float, **environment: str) -> str:
    """The command line's stdout. SystemExit with its last words where it fails."""
    code, out, err = finish(start(*arguments, **environment), seconds=seconds)
    if code:
        raise SystemExit(f"{' '.join(arguments)}\n{err[-2000:]}")
    return out


def rows(path: Path) -> list[dict[str, Any]]:
    """The objects of a .jsonl file; a last line that is being written is left out."""
    if not path.exists():
        return []
    lines = path.read_text().split("\n")[:-1]
    return [json.loads(line) for line in lines]


def wait_for(what: str, condition: Callable[[], Any], *, seconds: float = 180) -> Any:
    """Polls until the condition is true; returns what it gave."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.1)
    raise AssertionError(f"waited {seconds} s in vain for {what}")


def update_of(run: Path) -> int:
    found = rows(run / "metrics.jsonl")
    return found[-1]["update"] if found else 0
