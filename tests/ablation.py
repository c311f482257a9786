"""What each option is worth: trains preset `cpu` with one of its own off, or one of those that `fast` has besides on.

    python -m tests.ablation breakout runs/ablation --updates 3000      # then judges world model and score
    python -m tests.ablation catch runs/ablation --seeds 0 1 2          # how many updates until Catch is learned

A table is printed, and a run directory kept for each row; one that is complete is not made again. One thread each.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.cluster.catching import CATCH, train_until_learned
from tests.cluster.tiny import command

AREA = "--env.size 64 --env.shrink area"
PICTURES = {  # of Breakout
    "gray levels, the ball white": "--env.no-binary --env.contrast 2.32",
    "pictures shrunk by area, 64x64": AREA,
    "the same in gray, the whole screen": f"{AREA} --env.crop 0 0 0 0 --env.no-binary",
    "neither blocks nor motion": f"{AREA} --model.motion-weight 0",
}
FURTHER = {  # what `fast` has besides, given to `cpu`
    "unimix": "--model.unimix 0.01",
    "free nats of each step": "--model.free-each",
    "returns scaled": "--behavior.return-scale 0.99",
    "target critic follows": "--behavior.slow-every 1 --behavior.slow-fraction 0.02",
    "rewards weigh 2.5": "--model.reward-scale 2.5",
}
OPTIONS = {
    "as it is": "",
    "motion not weighted": "--model.motion-weight 0",
    "ELU, no layer norm": "--model.no-norm --behavior.no-norm",
    "normal heads, tanh rewards": "--model.reward-bins 0 --behavior.value-bins 0 --model.reward-squash tanh",
    "dreamerv2's KL": "--model.kl-scale 0.1 --model.kl-balance 0.8 --model.free-nats 0",
    "pixels normal": "--model.picture normal --model.kl-scale 0.55 --model.kl-balance 0.9091",
    "convolutions that overlap": "--model.cnn same",
    "dreams as wide as the prior": "--behavior.temperature 1",
    "dreams from every state": "--behavior.start-every 1",
    "dreams of 10 steps": "--behavior.horizon 10",
    "slow learners": "--train.model-lr 4e-4 --train.actor-lr 1e-4 --train.critic-lr 1e-4",
    "little entropy": "--behavior.entropy-scale 1e-3",
    "float32": "--train.precision float32",
    "no practice": "--actor.practice 0 --replay.replay-ratio 8",
    **FURTHER,
    "all five of fast": " ".join(FURTHER.values()),
}
COLUMNS = ("moved_recall", "ball_recall", "ball_recall_5_ahead", "reward_recall", "terminal_recall")
SECONDS = 7200.0  # for one training or evaluation, on however busy a machine

Row = list[str]


def breakout(options: str, path: Path, updates: int, seed: int) -> Row:
    """Trains on Breakout and judges what came of it."""
    if not list(path.glob(f"checkpoints/update-{updates:09d}.pt")):
        rhythm = "--cluster.metrics-port -1 --train.image-every 0 --train.checkpoint-every 0"
        where = ["--runtime", "inline", "--device", "cpu", "--run-dir", str(path)]
        limits = ["--updates", str(updates), "--seed", str(seed)]
        command("train", "--preset", "cpu", *where, *limits, *rhythm.split(), *options.split(), seconds=SECONDS)
    judged = ["evaluate", str(path), "--seed", "1", "--json"]
    score = json.loads(command(*judged, "--episodes", "20", seconds=SECONDS))
    found = json.loads(command(*judged, "--world-model", "--episodes", "10", seconds=SECONDS))
    numbers = [f"{found[column]:.2f}" if column in found else "-" for column in COLUMNS]
    return [f"{score['mean']:.2f} +- {score['std']:.2f}", *numbers]


def catch(options: str, path: Path, updates: int, seed: int) -> Row:
    """Trains on Catch until it is learned -> updates that took, score of other games."""
    result = path / "result.json"
    if not result.exists():
        words = ["--runtime", "inline", "--updates", str(updates), *options.split()]
        learned = train_until_learned(CATCH, path, seed, *words, seconds=SECONDS)
        result.write_text(json.dumps(learned._asdict()))
    found = json.loads(result.read_text())
    took = f"{found['update']:,}" if found["update"] < updates else f"not in {updates:,}"
    return [took, f"{found['score']:.2f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("game", choices=["breakout", "catch"])
    parser.add_argument("out", type=Path)
    parser.add_argument("--updates", type=int, default=3000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--only", nargs="+", metavar="NAME", help="rows of the table; without it all of them")
    parser.add_argument("--jobs", type=int, default=2, help="trainings side by side")
    options = parser.parse_args()
    variants = OPTIONS | PICTURES if options.game == "breakout" else OPTIONS
    names: list[str] = options.only or list(variants)
    if unknown := [name for name in names if name not in variants]:
        parser.error(f"there is no row {unknown[0]!r} of {options.game}: choose among {', '.join(variants)}")
    made: Callable[[str, Path, int, int], Row] = breakout if options.game == "breakout" else catch
    columns = ["score, 20 games", *COLUMNS] if made is breakout else ["updates until learned", "score of 10"]
    print(f"| {options.updates} updates | seed | {' | '.join(columns)} |")
    print("|" + "---|" * (2 + len(columns)))
    with ThreadPoolExecutor(options.jobs) as pool:
        rows = {}
        for name in names:
            for seed in options.seeds:
                path = (options.out / options.game / f"{name.replace(' ', '-')}-{seed}").resolve()
                rows[name, seed] = pool.submit(made, variants[name], path, options.updates, seed)
        for (name, seed), row in rows.items():
            print(f"| {name} | {seed} | {' | '.join(row.result())} |", flush=True)


if __name__ == "__main__":
    main()
