"""Draws the curves of runs: `python docs/results/plot.py OUT.png RUN [RUN ...]`; needs matplotlib.

RUN is a run directory, or a .jsonl file kept from one.
"""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import matplotlib.pyplot as plt

PUBLISHED = Path(__file__).with_name("published.csv")  # method, frames, score: mean over the published seeds
PANELS = {  # title -> (metric, colour) of metrics.jsonl
    "does it see? moving pixels; does it foresee? rewards, lost lives": [
        ("moved_recall", "tab:blue"),
        ("reward_recall", "tab:green"),
        ("terminal_recall", "tab:red"),
    ],
    "KL and entropies of the latent state, nats": [
        ("kl", "tab:blue"),
        ("post_entropy", "tab:orange"),
        ("prior_entropy", "tab:green"),
    ],
    "entropy of the policy (4 actions: 1.39 nats), scale of returns": [
        ("actor_entropy", "tab:blue"),
        ("return_scale", "tab:orange"),
    ],
    "gradient norms": [("model_grad", "tab:blue"), ("actor_grad", "tab:orange"), ("critic_grad", "tab:green")],
    "returns": [("imagined_return", "tab:blue"), ("slow_value", "tab:orange")],
}


def rows(run: Path) -> list[dict[str, float]]:
    path = run / "metrics.jsonl" if run.is_dir() else run
    return [json.loads(line) for line in path.read_text().splitlines()]


def main(out: str, *runs: str) -> None:
    found = [rows(Path(run)) for run in runs]
    figure, axes = plt.subplots(2, 3, figsize=(17, 8.5), constrained_layout=True)
    score, *panels = axes.flat
    for number, run in enumerate(found):
        minutes = [(row["time"] - run[0]["time"]) / 60 for row in run]
        played = [(m, row["score"]) for m, row in zip(minutes, run, strict=True) if row["score"] is not None]
        score.plot(*zip(*played, strict=True), color=f"C{number}", label=f"run {number + 1}")
        for panel, (title, metrics) in zip(panels, PANELS.items(), strict=True):
            for name, colour in metrics:
                known = [(m, row[name]) for m, row in zip(minutes, run, strict=True) if row.get(name) is not None]
                label = name if number == 0 else None
                panel.plot(*zip(*known, strict=True), color=colour, alpha=0.8, linewidth=1, label=label)
            panel.set(title=title, xlabel="minutes of training")
    frames = found[0][-1]["frame"]
    with PUBLISHED.open() as file:
        curves: dict[str, list[tuple[float, float]]] = {}
        for row in csv.DictReader(file):
            if float(row["frames"]) <= 2 * frames:
                curves.setdefault(row["method"], []).append((float(row["frames"]), float(row["score"])))
    end = max((run[-1]["time"] - run[0]["time"]) / 60 for run in found)
    for method, points in curves.items():
        scaled = [(f / frames * end, s) for f, s in points if f <= frames]
        if scaled:
            score.plot(*zip(*scaled, strict=True), "--", linewidth=1, label=f"{method}, published, at as many frames")
    score.axhline(1.2, color="gray", linestyle=":", linewidth=1, label="random play, 1.2")
    score.set(title="score of training games, mean of the last 100", xlabel="minutes of training")
    for panel in axes.flat:
        panel.legend(fontsize=8)
        panel.grid(alpha=0.3)
    panels[3].set_yscale("log")
    figure.savefig(out, dpi=90)


if __name__ == "__main__":
    main(*sys.argv[1:])
