"""The command `status`: how is it going? From the files of a run directory alone, while it trains and afterwards."""

from __future__ import annotations

import json
import statistics
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from cluster.commands.options import StatusOptions, parse
from cluster.commands.status_text import Report, lines_of
from cluster.config import Config
from cluster.console.json_text import print_json
from cluster.run import origin as run_origin
from cluster.run import state as run_state
from cluster.run.directory import Run, open_run
from cluster.run.log_file import BEGAN
from cluster.run.origin import Origin
from cluster.run.progress import SCORES
from learner.checkpoint import list_checkpoints

TAIL = 4 * 2**20  # bytes of a growing file that are read: the last hours
SPEED_SECONDS = 600.0  # over which speeds are averaged
SILENT = 6  # logging intervals without a row after which a run counts as silent, but at least ...
LEAST_SILENT = 60.0  # ... so many seconds
GAMES = 20  # of which a trend is said at least
WORLD = ("moved_recall", "reward_recall", "terminal_recall", "kl", "sight/ball_recall", "sight/ball_recall_15_ahead")
POLICY = ("actor_entropy", "imagined_return", "imagined_reward", "batch_reward")


class Files(NamedTuple):
    """What a run has written."""

    run: Run
    config: Config
    origin: Origin | None  # of a dream
    state: run_state.State | None
    rows: list[Report]  # of metrics.jsonl
    scores: list[float]  # of the games of episodes.jsonl
    warnings: list[str]  # lines of log.txt since the latest beginning
    targets: int  # processes that show metrics


def status(arguments: list[str]) -> int:
    """Prints how a run is going; 0 whatever that is."""
    options = parse(StatusOptions, arguments, command="status")
    report = describe(read_files(options.run), now=time.time())
    if options.json:
        print_json(report)
    else:
        print("\n".join(lines_of(report)))
    return 0


def read_files(path: Path) -> Files:
    """Raises UserError where there is no run."""
    run, config = open_run(path)
    return Files(
        run=run,
        config=config,
        origin=run_origin.read(run.path),
        state=run_state.read(run.path),
        rows=tail(run.path / "metrics.jsonl"),
        scores=[row["score"] for row in tail(run.path / "episodes.jsonl") if row.get("score") is not None],
        warnings=read_warnings(run.path / "log.txt"),
        targets=count_targets(run.path / "prometheus" / "targets.json"),
    )


def tail(path: Path) -> list[Report]:
    """The numbers of the last objects of a .jsonl file; a line that is cut off at either end is left out."""
    rows = []
    for line in last_lines(path):
        with suppress(ValueError, RecursionError):
            row = json.loads(line, parse_constant=lambda name: None)  # NaN: rows of before it was written as null
            numbers = numbers_of(row) if isinstance(row, dict) else {}
            rows += [numbers] if numbers else []
    return rows


def numbers_of(row: Report) -> Report:
    """All that is looked at. Anything else in such a file is none of ours."""
    return {
        name: value for name, value in row.items() if isinstance(value, int | float) and not isinstance(value, bool)
    }


def last_lines(path: Path) -> list[str]:
    """The lines of the last TAIL bytes; none where there is no file."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - TAIL))
            return file.read().decode(errors="replace").splitlines()
    except OSError:
        return []


def read_warnings(path: Path) -> list[str]:
    """Warnings and errors since the training began for the last time."""
    found: list[str] = []
    lines = last_lines(path)
    mark = (
        f" INFO run: {BEGAN} " if any(f" INFO run: {BEGAN} " in line for line in lines) else " INFO run: run directory "
    )
    for line in lines:
        if mark in line:
            found.clear()
        elif " WARNING " in line or " ERROR " in line:
            found.append(line)
    return found


def count_targets(path: Path) -> int:
    try:
        return len(json.loads(path.read_text()))
    except (OSError, ValueError):
        return 0


# --- What it comes to ---


def describe(files: Files, *, now: float) -> Report:
    """Everything that `status --json` says."""
    row = files.rows[-1] if files.rows else {}
    recent = [r for r in files.rows if (r.get("time") or 0.0) > (row.get("time") or 0.0) - SPEED_SECONDS]
    checkpoints = list_checkpoints(files.run.checkpoints)
    return {
        "run": str(files.run.path),
        "id": files.run.id,
        "env": files.config.env.id,
        "dream_of": files.origin._asdict() if files.origin else None,
        **whether_it_runs(files, row, now),
        "policy_step": row.get("policy_step", 0),
        "frame": row.get("frame", 0),
        "update": row.get("update", 0),
        "updates_per_second": mean_of("updates_per_second", recent),
        "policy_steps_per_second": mean_of("policy_steps_per_second", recent),
        "score": trend(files.scores),
        "replay_ratio": row.get("replay_ratio"),
        "replay_ratio_wanted": files.config.replay.replay_ratio,
        "replay_steps": row.get("replay_steps"),
        "learner_wait": mean_of("learner_wait", recent),
        "actor_wait": mean_of("actor_wait", recent),
        "checkpoint": describe_newest(checkpoints, now),
        "world_model": newest(files.rows, WORLD),
        "policy": newest(files.rows, POLICY),
        "warnings": {"count": len(files.warnings), "last": files.warnings[-3:]},
        "metrics": {"address": files.state.metrics if files.state else None, "targets": files.targets},
    }


def whether_it_runs(files: Files, row: Report, now: float) -> Report:
    """state: running, silent (there, but no news), ended, failed, killed; `unknown` where nobody can know."""
    state = files.state
    last = row.get("time")
    limit = max(LEAST_SILENT, SILENT * files.config.train.log_every)
    newest_sign = max(last or 0.0, state.began if state else 0.0)
    fresh = now - newest_sign < limit
    living = run_state.alive(state) if state and state.ended is None else None
    if state and state.ended is not None:
        name, since = ("ended" if state.why else "failed"), state.ended
    elif living is False:
        name, since = "killed", last
    elif living:
        name, since = ("running" if fresh else "silent"), (state.began if state and fresh else last)
    else:  # on another machine, or of a version that left no state
        name, since = ("running", state.began if state else None) if fresh else ("unknown", last)
    return {
        "state": name,
        "since": since,
        "seconds": None if since is None else now - since,
        "why": (state.why or state.error) if state else "",
        "runtime": state.runtime if state else None,
        "last_row_seconds": None if last is None else now - last,
    }


def trend(scores: list[float]) -> Report | None:
    """The last games against those before them; None before the first game."""
    if not scores:
        return None
    count = min(SCORES, max(GAMES, len(scores) // 2))
    last, before = scores[-count:], scores[-2 * count : -count]
    comparable = len(before) >= GAMES
    return {
        "mean": statistics.fmean(last),
        "max": max(last),
        "games": len(last),
        "before": statistics.fmean(before) if comparable else None,
        # How much of a difference chance alone brings about: two standard errors of the difference.
        "noise": 2 * (statistics.variance(last) / len(last) + statistics.variance(before) / len(before)) ** 0.5
        if comparable
        else None,
    }


def describe_newest(paths: list[Path], now: float) -> Report | None:
    """Of the newest checkpoint that is there; whoever trains may have deleted one since it was listed."""
    for path in paths:
        with suppress(OSError):
            found = path.stat()
            return {"file": path.name, "seconds": now - found.st_mtime, "bytes": found.st_size}
    return None


def mean_of(name: str, rows: list[Report]) -> float | None:
    values = [row[name] for row in rows if row.get(name) is not None]
    return statistics.fmean(values) if values else None


def newest(rows: list[Report], names: tuple[str, ...]) -> dict[str, float]:
    """The newest value of each name that has one."""
    found = {}
    for name in names:
        value = next((row[name] for row in reversed(rows) if row.get(name) is not None), None)
        if value is not None:
            found[name] = value
    return found
