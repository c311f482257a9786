"""Draws the table of docs/family.md: `python docs/results/family.py OUT.png`; needs matplotlib."""

from __future__ import annotations

import re
import statistics
import sys
from pathlib import Path

import matplotlib.pyplot as plt

PAGE = Path(__file__).parents[1] / "family.md"
SCORE = re.compile(r"([\d.]+) \+- ")
RANDOM = 1.2


def table(page: str) -> dict[str, list[float]]:
    """way, up to a colon -> its scores, one for each world model; in the page's order."""
    found = {}
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if scores := [float(match[1]) for cell in cells[2:] if (match := SCORE.match(cell))]:
            found[cells[0].split(":")[0]] = scores
    return found


def main(out: str) -> None:
    ways = table(PAGE.read_text())
    figure, panel = plt.subplots(figsize=(9, 0.4 * len(ways) + 1.2), constrained_layout=True)
    places = range(len(ways), 0, -1)
    panel.barh(places, [statistics.mean(scores) for scores in ways.values()], color="tab:blue", alpha=0.35)
    for place, scores in zip(places, ways.values(), strict=True):
        panel.plot(scores, [place] * len(scores), "o", color="tab:blue")
    panel.axvline(RANDOM, color="gray", linestyle=":")
    panel.set_yticks(places, ways)
    panel.set(xlabel="points; dots: world models, bar: mean, dotted: random play")
    panel.grid(axis="x", alpha=0.3)
    figure.savefig(out, dpi=90)


if __name__ == "__main__":
    main(*sys.argv[1:])
