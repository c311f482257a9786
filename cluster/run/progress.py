"""How far a run is, and how it is going in one line for the person who watches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

SCORES = 100  # games whose mean is "the score"
DREAMT = {"imagined_return": "imagined return", "actor_entropy": "entropy"}  # of a behaviour that has them


class Progress(NamedTuple):
    """How far a run is."""

    policy_step: int
    frame: int
    update: int
    scores: Sequence[float]  # of the last finished games, at most SCORES
    replay_ratio: float | None  # trained steps per played step since training began in this process; None = not begun

    def score(self) -> float | None:
        """Mean of the last finished games; None before the first."""
        return sum(self.scores) / len(self.scores) if self.scores else None


def progress_line(progress: Progress, row: dict[str, Any], *, wanted: float) -> str:
    """row: the last one of metrics.jsonl, {} before the first; wanted: the replay ratio that was asked for."""
    score, ratio = progress.score(), progress.replay_ratio
    parts = [
        f"policy step {progress.policy_step:,} (frame {progress.frame:,})",
        f"update {progress.update:,}",
        "score -" if score is None else f"score {score:.2f} (last {len(progress.scores)} games)",
    ]
    if row:
        parts += [
            f"{row['updates_per_second']:.1f} updates/s",
            f"{row['policy_steps_per_second']:.0f} steps/s",
            "ratio -" if ratio is None else f"ratio {ratio:.2f} of {wanted:g}",
            who_waits(row["learner_wait"], row["actor_wait"]),
        ]
    return " | ".join(parts)


def dream_line(progress: Progress, row: dict[str, Any]) -> str:
    """The same for a behaviour that learns alone: nobody plays, and nobody waits for anybody."""
    if row and not progress.update:
        return f"{row['replay_steps']:,} policy steps to dream of so far"
    parts = [f"update {progress.update:,}"]
    if row:
        parts += [f"{row['updates_per_second']:.1f} updates/s"]
        parts += [f"{words} {row[name]:.2f}" for name, words in DREAMT.items() if row.get(name) is not None]
        parts += [f"dreams begin in {row['replay_steps']:,} replayed steps"]
    return " | ".join(parts)


def who_waits(learner: float, actor: float) -> str:
    """The bottleneck in words, from the shares of time that each side waits."""
    if learner > actor:
        return f"learner waits for actors {learner:.0%}"
    return f"actors wait for learner {actor:.0%}"
