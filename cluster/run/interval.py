"""One logging interval: sums of what the messages brought, and the means and shares that a row says."""

from __future__ import annotations

import time

from cluster.messages import LearnerMessage
from dreamer.insight import RATIOS


class Interval:
    """Sums over one logging interval."""

    def __init__(self, replay_steps: int = 0) -> None:
        self._began = time.monotonic()
        self.played = self.updates = 0
        self.actor_seconds = self.actor_wait = self.learner_seconds = self.learner_wait = 0.0
        self.replay_steps = replay_steps  # as known before; not every interval brings news
        self._sums: dict[str, float] = {}

    def seconds(self) -> float:
        return time.monotonic() - self._began

    def add(self, message: LearnerMessage) -> None:
        self.updates += message.updates
        self.learner_seconds += message.seconds
        self.learner_wait += message.wait_seconds
        if message.replay:
            self.replay_steps = message.replay.steps
        for name, value in message.metrics.items():
            self._sums[name] = self._sums.get(name, 0.0) + value * message.updates

    def row(self) -> dict[str, float]:
        seconds = max(self.seconds(), 1e-9)
        means = {name: total / self.updates for name, total in self._sums.items() if self.updates}
        parts = {part for ratio in RATIOS.values() for part in ratio}
        return {
            # A run's last interval may be shorter than what the last message tells of.
            "updates_per_second": self.updates / max(seconds, self.learner_seconds),
            "policy_steps_per_second": self.played / seconds,
            # A wait is known when it ends: one that began before the interval may be longer than it.
            "learner_wait": min(1.0, self.learner_wait / max(self.learner_seconds, 1e-9)),
            "actor_wait": min(1.0, self.actor_wait / max(self.actor_seconds, 1e-9)),
            "replay_steps": self.replay_steps,
            **{name: mean for name, mean in means.items() if name not in parts},
            **{name: means[a] / means[b] for name, (a, b) in RATIOS.items() if means.get(b)},
        }
