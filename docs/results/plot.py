"""Draws the curves of runs: `python docs/results/plot.py OUT.png RUN [RUN ...]`; needs matplotlib.

RUN is a run directory, or a .jsonl file kept from one, or the episodes.jsonl of `tests.ppo`, which learns without a
world model and has no updates that could be compared; the file's name goes into the legend.
"""

from __future__ import annotations

import csv
import json
import statistics
import sys
from pathlib import Path

import matplotlib.pyplot as plt

PUBLISHED = Path(__file__).with_name("published.csv")  # method, frames, score: mean over the published seeds
FRAME_SKIP = 4
PANELS = {  # title -> (metric, colour) of metrics.jsonl
    "seen: moving pixels; foreseen: rewards, lost lives": [
        ("moved_recall", "tab:blue"),
        ("reward_recall", "tab:green"),
        ("terminal_recall", "tab:red"),
    ],
    "KL and entropies of the latent state, nats": [
        ("kl", "tab:blue"),
        ("post_entropy", "tab:orange"),
        ("prior_entropy", "tab:green"),
    ],
    "entropy of the policy (at most 1.39), scale of returns": [
        ("actor_entropy", "tab:blue"),
        ("return_scale", "tab:orange"),
    ],
    "gradient norms": [("model_grad", "tab:blue"), ("actor_grad", "tab:orange"), ("critic_grad", "tab:green")],
    "returns": [("imagined_return", "tab:blue"), ("slow_value", "tab:orange")],
}


def rows(run: Path) -> list[dict[str, float]]:
    path = run / "metrics.jsonl" if run.is_dir() else run
    found = [json.loads(line) for line in path.read_text().split("\n")[:-1]]  # not one that is being written
    return of_games(found) if "seconds" in found[0] else found


def of_games(games: list[dict[str, float]]) -> list[dict[str, float]]:
    """Reports like a run's: after every 20th game the mean of the last 100."""
    scores = [game["score"] for game in games]
    reports = [
        {
            "time": game["seconds"],
            "frame": game["policy_step"] * FRAME_SKIP,
            "score": statistics.mean(scores[max(0, played - 100) : played]),
        }
        for played, game in enumerate(games, start=1)
        if played % 20 == 0
    ]
    return [{"time": 0.0, "frame": 0}, *reports]


def published() -> dict[str, list[tuple[float, float]]]:
    """method -> (frames, mean score of its seeds)."""
    curves: dict[str, list[tuple[float, float]]] = {}
    with PUBLISHED.open() as file:
        for row in csv.DictReader(file):
            if float(row["frames"]) > 0:
                curves.setdefault(row["method"], []).append((float(row["frames"]), float(row["score"])))
    return curves


def known(run: list[dict[str, float]], x: list[float | None], name: str) -> tuple[list[float], list[float]]:
    """The points of one curve, without those where the metric or its place is missing."""
    points = [(at, row[name]) for at, row in zip(x, run, strict=True) if at is not None and row.get(name) is not None]
    return [at for at, _ in points], [value for _, value in points]


def main(out: str, *paths: str) -> None:
    runs = [rows(Path(path)) for path in paths]
    figure, axes = plt.subplots(2, 4, figsize=(21, 8.5), constrained_layout=True)
    by_minutes, by_updates, by_frames, *panels = axes.flat
    for number, run in enumerate(runs):
        minutes = [(row["time"] - run[0]["time"]) / 60 for row in run]
        for panel, x in (
            (by_minutes, minutes),
            (by_updates, [row.get("update") for row in run]),
            (by_frames, [row["frame"] for row in run]),
        ):
            panel.plot(*known(run, x, "score"), color=f"C{number}", linewidth=2, label=Path(paths[number]).stem)
            panel.axhline(1.2, color="gray", linestyle=":", linewidth=1)  # random play
        for panel, (title, metrics) in zip(panels, PANELS.items(), strict=True):
            for name, colour in metrics:
                label = name if number == 0 else None
                panel.plot(*known(run, minutes, name), color=colour, alpha=0.8, linewidth=1, label=label)
            panel.set(title=title, xlabel="minutes of training")
    for method, curve in published().items():
        by_frames.plot(*zip(*curve, strict=True), "--", linewidth=1, label=f"{method}, published, sticky actions")
    by_minutes.set(title="score of training games, mean of the last 100", xlabel="minutes of training")
    by_updates.set(title="the same by updates", xlabel="updates")
    by_frames.set(title="the same by frames", xlabel="emulator frames", xscale="log", yscale="log")
    panels[3].set_yscale("log")
    for panel in axes.flat:
        panel.legend(fontsize=8)
        panel.grid(alpha=0.3)
    figure.savefig(out, dpi=80)


if __name__ == "__main__":
    main(*sys.argv[1:])
