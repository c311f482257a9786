"""What must be true at the end of a soak (tests/soak.py), and its table."""

from __future__ import annotations

import shutil
import statistics
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from cluster.run import books
from cluster.run.directory import open_run
from learner import checkpoint
from replay.reverb_writer import IN_FLIGHT
from tests.cluster.tiny import rows

MIB = 2**20
LEAK = 150 * MIB  # resident memory that driver, raylet and GCS may gain together between the first and the last quarter


class Death(NamedTuple):
    """One kill and what followed."""

    at: float  # seconds since the beginning
    who: str
    update: int  # at that moment, as the records knew
    saved: int  # update of the newest checkpoint then
    seconds: float  # until updates and play went on


class Usage(NamedTuple):
    """What the run's processes hold."""

    at: float
    processes: int
    descriptors: int
    resident: int  # bytes, driver + raylet + GCS
    shared: int  # bytes in /dev/shm


def judge_books(run: Path, starts: list[int]) -> tuple[dict[str, int], list[str]]:
    """The sums of all incarnations, and what is wrong: played = acknowledged + dropped + open must hold for each.

    starts: the policy step with which each driver began.
    """
    _, config = open_run(run)
    most = config.actor.games * ((IN_FLIGHT + 1) * config.replay.stride + 2 * config.replay.length)
    accounts, problems = books.read(run / "actors.json"), []
    total: Counter[str] = Counter()
    for row in accounts:
        still_open = row["played"] - row["acknowledged"] - row["dropped"]
        if not 0 <= still_open <= most:
            problems.append(f"{still_open} steps are open, 0 to {most} can be: {row}")
        total.update({key: row[key] for key in ("played", "acknowledged", "dropped")}, open=still_open, incarnations=1)
    played = sum(row["played"] for row in accounts if row["driver"] == len(starts) - 1)
    found, last = checkpoint.load_newest(run / "checkpoints"), rows(run / "metrics.jsonl")[-1]
    end = found.policy_step if found else -1
    if not end == last["policy_step"] == starts[-1] + played:
        problems.append(
            f"policy steps: {end} in the last checkpoint, {last['policy_step']} in the records, "
            f"{starts[-1]} + {played} in the books"
        )
    return dict(total), problems


def judge_updates(run: Path, deaths: list[Death]) -> list[str]:
    """They fall back when learner or driver dies, never further than to the checkpoint that was there."""
    updates = [row["update"] for row in rows(run / "metrics.jsonl")]
    falls = [(before, after) for before, after in pairwise(updates) if after < before]
    saved = [death.saved for death in deaths if death.who in ("learner", "driver")]
    problems = []
    if len(falls) > len(saved):
        problems.append(f"updates fell back {len(falls)} times; {len(saved)} deaths of learner or driver explain it")
    for before, after in falls:
        if not any(update <= after for update in saved):
            problems.append(f"updates fell back from {before} to {after}, below every checkpoint")
    return problems


def judge_leaks(usage: list[Usage], shared_before: int) -> tuple[dict[str, Any], list[str]]:
    """Compares the first quarter of what was seen with the last."""
    shared_after = shutil.disk_usage("/dev/shm").used
    problems = []
    if shared_after - shared_before > 64 * MIB:
        problems.append(f"/dev/shm holds {(shared_after - shared_before) / MIB:.0f} MiB more than before")
    if len(usage) < 8:
        return {}, problems
    quarter = len(usage) // 4
    first, last = (
        Usage(*(statistics.median(values) for values in zip(*part, strict=True)))
        for part in (usage[:quarter], usage[-quarter:])
    )
    if last.processes > first.processes + 5:
        problems.append(f"processes: {first.processes} -> {last.processes}")
    if last.descriptors > first.descriptors * 1.25 + 50:
        problems.append(f"file descriptors: {first.descriptors} -> {last.descriptors}")
    if last.resident > first.resident + LEAK:
        problems.append(f"memory: {first.resident / MIB:.0f} -> {last.resident / MIB:.0f} MiB")
    return {"first quarter": first._asdict(), "last quarter": last._asdict()}, problems


def table(result: dict[str, Any]) -> str:
    """What a person wants to know."""
    lines = [f"{'who died':10} {'times':>5} {'goes on after, median':>22} {'longest':>9}"]
    for who in sorted({death["who"] for death in result["deaths"]}):
        seconds = [death["seconds"] for death in result["deaths"] if death["who"] == who]
        lines.append(f"{who:10} {len(seconds):>5} {statistics.median(seconds):>20.1f} s {max(seconds):>7.1f} s")
    sums = Counter(result["accounts"])
    lines += [
        f"update {result['update']:,}, policy step {result['policy_step']:,} after {result['minutes']:.1f} minutes",
        f"{sums['incarnations']} incarnations of actors played {sums['played']:,} policy steps = "
        f"{sums['acknowledged']:,} acknowledged + {sums['dropped']:,} dropped + {sums['open']:,} open",
        f"that is {sums['played'] * result['frame_skip']:,} frames played, "
        f"{sums['acknowledged'] * result['frame_skip']:,} of them acknowledged",
    ]
    for when, use in result["leaks"].items():
        lines.append(
            f"{when}: {use['processes']:.0f} processes, {use['descriptors']:.0f} descriptors, "
            f"{use['resident'] / MIB:.0f} MiB in driver, raylet and GCS, {use['shared'] / MIB:.0f} MiB in /dev/shm"
        )
    return "\n".join([*lines, *(f"PROBLEM: {problem}" for problem in result["problems"])])
