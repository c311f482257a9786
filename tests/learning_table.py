"""Does Catch tell the right algorithm from a wrong one? Trains it whole and with five classic mistakes; prints a table.

    python -m tests.learning_table --updates 3000 --seeds 0 1 2 --out runs/learning

Every run has the same budget of updates. One that is finished in --out is not made again, so the table can grow.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from cluster.look.evaluate import play_random
from cluster.run.directory import open_run
from tests.cluster.broken import GAMES, MISTAKES
from tests.cluster.catching import CATCH, SEED, SHARE, Game
from tests.cluster.tiny import ROOT, rows

COLUMNS = ["mistake", "seed", "score", "of the best", "updates", "policy steps", "seconds", "commit"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--game", default=CATCH.id, choices=list(GAMES))
    parser.add_argument("--updates", type=int, default=3000, help="budget of every run")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--mistakes", nargs="+", default=list(MISTAKES), choices=list(MISTAKES), metavar="MISTAKE")
    parser.add_argument("--out", type=Path, default=Path("runs/learning"), help="folder of the runs")
    options = parser.parse_args()
    game = GAMES[options.game]
    folders = [
        make_run(game, mistake, seed, options.updates, options.out)
        for seed in options.seeds
        for mistake in options.mistakes
    ]
    print(table(game, [folder for folder in folders if folder]))


def make_run(game: Game, mistake: str, seed: int, updates: int, out: Path) -> Path | None:
    """The folder of that run, made now if it is not there; None if it failed."""
    folder = out / game.id.replace("/", "-") / f"{mistake.replace(' ', '-')}-{seed}-{updates}"
    if not (folder / "result.json").exists():
        print(f"{game.id}, {mistake}, seed {seed} ...", file=sys.stderr, flush=True)
        code = commit()
        command = [
            sys.executable,
            "-m",
            "tests.cluster.broken",
            game.id,
            mistake,
            str(folder.resolve()),
            str(seed),
            str(updates),
        ]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if done.returncode != 0:
            print(f"failed: {done.stderr[-1000:]}", file=sys.stderr, flush=True)
            return None
        (folder / "commit").write_text(code)
    return folder


def table(game: Game, folders: list[Path]) -> str:
    """Markdown: a row for every run, in the order of the mistakes, and what the scores are to be compared with."""
    results = [read(folder) for folder in folders]
    results.sort(key=lambda result: (list(MISTAKES).index(result["mistake"]), result["seed"]))
    random = float(np.mean(play_random(open_run(folders[0])[1].env, episodes=game.evaluated, seed=SEED).scores))
    return "\n".join(
        [
            line(COLUMNS),
            line(["---"] * len(COLUMNS)),
            *(line(cells(result)) for result in results),
            "",
            f"Mean of {game.evaluated} games of {game.id} that are not those of training. Best possible {game.best:g}, "
            f"random {random:.2f}, learned = {SHARE:.0%} or more. A mistake is made in these games, too.",
        ]
    )


def read(folder: Path) -> dict[str, Any]:
    """What a run wrote down."""
    played = rows(folder / "metrics.jsonl")[-1]["policy_step"]
    result = json.loads((folder / "result.json").read_text())
    return result | {"policy_step": played, "commit": (folder / "commit").read_text()}


def cells(result: dict[str, Any]) -> list[str]:
    """A row of the table."""
    score = float(np.mean(result["scores"]))
    return [
        result["mistake"],
        str(result["seed"]),
        f"{score:.2f}",
        f"{score / GAMES[result['game']].best:.0%}",
        f"{result['updates']:,}",
        f"{result['policy_step']:,}",
        f"{result['seconds']:.0f}",
        result["commit"],
    ]


def line(words: list[str]) -> str:
    return f"| {' | '.join(words)} |"


def commit() -> str:
    """Of the code that ran; "+" where it was changed since."""
    say = ["git", "describe", "--always", "--dirty=+", "--exclude=*"]
    return subprocess.run(say, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    main()
