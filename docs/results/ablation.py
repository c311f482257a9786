"""What each option of preset `cpu` is worth: trains with one of them off at a time, then judges world model and score.

`python docs/results/ablation.py OUT [--updates 3000] [--seed 0] [--only NAME ...] [--jobs 2]` keeps a run directory
for each under OUT (one that is complete is not trained again) and prints a table. One thread each.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

AREA = "--env.size 64 --env.shrink area"
VARIANTS = {
    "as it is": "",
    "pictures shrunk by area, 64x64": AREA,
    "the same in gray, the whole screen": f"{AREA} --env.crop 0 0 0 0 --env.no-binary",
    "gray levels, the ball white": "--env.no-binary --env.contrast 2.32",
    "motion not weighted": "--model.motion-weight 0",
    "neither blocks nor motion": f"{AREA} --model.motion-weight 0",
    "ELU, no layer norm": "--model.no-norm --behavior.no-norm",
    "no unimix": "--model.unimix 0 --behavior.unimix 0",
    "normal heads, tanh rewards": "--model.reward-bins 0 --behavior.value-bins 0 --model.reward-squash tanh",
    "free nats of the mean": "--model.no-free-each",
    "dreamerv2's KL": "--model.kl-scale 0.1 --model.kl-balance 0.8 --model.free-nats 0",
    "returns not scaled": "--behavior.return-scale 0",
    "target critic copied every 100 updates": "--behavior.slow-every 100 --behavior.slow-fraction 1",
    "rewards weigh 1": "--model.reward-scale 1",
}
COLUMNS = ("moved_recall", "ball_recall", "ball_recall_5_ahead", "reward_recall", "terminal_recall")


def command(*words: str) -> str:
    """Runs the command line; returns its stdout."""
    done = subprocess.run([sys.executable, "-m", "cluster", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}\n{done.stderr[-2000:]}")
    return done.stdout


def run(name: str, path: Path, updates: int, seed: int) -> str:
    """Trains and judges one variant -> its row."""
    if not list(path.glob(f"checkpoints/update-{updates:09d}.pt")):
        rhythm = "--cluster.metrics-port -1 --train.image-every 0 --train.checkpoint-every 0"
        where = ["--runtime", "inline", "--device", "cpu", "--run-dir", str(path)]
        limits = ["--updates", str(updates), "--seed", str(seed)]
        command("train", "--preset", "cpu", *where, *limits, *rhythm.split(), *VARIANTS[name].split())
    score = json.loads(command("evaluate", str(path), "--episodes", "20", "--seed", "1", "--json"))
    found = json.loads(command("evaluate", str(path), "--world-model", "--episodes", "10", "--seed", "1", "--json"))
    numbers = [f"{found[column]:.2f}" if column in found else "-" for column in COLUMNS]
    return f"| {name} | {seed} | {score['mean']:.2f} +- {score['std']:.2f} | {' | '.join(numbers)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--updates", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    print(f"| {options.updates} updates | seed | score, 20 games | {' | '.join(COLUMNS)} |")
    print("|" + "---|" * (3 + len(COLUMNS)))
    with ThreadPoolExecutor(options.jobs) as pool:
        paths = [options.out / f"{name.replace(' ', '-')}-{options.seed}" for name in options.only]
        rows = [
            pool.submit(run, name, path, options.updates, options.seed)
            for name, path in zip(options.only, paths, strict=True)
        ]
        for row in rows:
            print(row.result(), flush=True)


if __name__ == "__main__":
    main()
