"""What actors, learner and replay tell their meters; the same in both runtimes."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch

from actors.rollout import Tick
from cluster.messages import LearnerMessage
from cluster.metrics import Growth, Meter
from cluster.metrics.learner import SEEN, VALUES
from dreamer.insight import RATIOS
from replay import ReplayStats, Writer
from replay.config import ReplayConfig

log = logging.getLogger("metrics")
MEMORY = 0.97  # of older updates' events after each second with updates: ratios are of the last half minute, mostly


class ActingRecorder:
    """An actor's numbers."""

    def __init__(self, meter: Meter, *, frame_skip: int) -> None:
        self._meter, self._frame_skip = meter, frame_skip
        self._acknowledged, self._dropped, self._waited, self._errors = (Growth() for _ in range(4))

    def tick(self, tick: Tick, seconds: float) -> None:
        """One step of all games, which took so long."""
        meter = self._meter
        meter.add("dreamer_actor_policy_steps_total", tick.played)
        meter.add("dreamer_actor_frames_total", tick.played * self._frame_skip)
        meter.observe("dreamer_actor_step_seconds", seconds)
        for episode in tick.episodes:
            meter.add("dreamer_actor_episodes_total")
            meter.observe("dreamer_actor_episode_score_points", episode.score)
            meter.observe("dreamer_actor_episode_length_steps", episode.length)

    def report(self, writers: Sequence[Writer], *, waited: float, version: int, newest: int) -> None:
        """Once a second. waited: seconds so far; newest: update of the policy published last; -1 = none."""
        meter = self._meter
        acknowledged, dropped, errors = (
            sum(getter(writer) for writer in writers)
            for getter in (lambda w: w.acknowledged, lambda w: w.dropped, lambda w: w.errors)
        )
        meter.add("dreamer_actor_acknowledged_steps_total", self._acknowledged.to(acknowledged))
        meter.add("dreamer_actor_dropped_steps_total", self._dropped.to(dropped))
        meter.add("dreamer_actor_errors_total", self._errors.to(errors), "replay")
        meter.add("dreamer_actor_wait_seconds_total", self._waited.to(waited), "replay")
        if version >= 0:
            meter.set("dreamer_actor_policy_version_updates", version)
            meter.set("dreamer_actor_policy_age_updates", max(0, newest - version))


class ReplayRecorder:
    """The replay's numbers; those it had already at the start, from a checkpoint, are not counted as new."""

    def __init__(self, meter: Meter, config: ReplayConfig, stats: ReplayStats) -> None:
        self._meter = meter
        self._inserted, self._sampled = Growth(stats.inserted), Growth(stats.sampled)
        meter.set("dreamer_replay_capacity_steps", config.capacity)
        meter.set("dreamer_replay_window_steps", config.length)
        meter.set("dreamer_replay_stride_steps", config.stride)
        self.stats(stats)

    def stats(self, stats: ReplayStats) -> None:
        """Once a second."""
        meter = self._meter
        meter.set("dreamer_replay_size_steps", stats.steps)
        meter.set("dreamer_replay_size_bytes", stats.bytes)
        meter.add("dreamer_replay_inserted_windows_total", self._inserted.to(stats.inserted))
        meter.add("dreamer_replay_sampled_windows_total", self._sampled.to(stats.sampled))
        meter.set("dreamer_replay_waiting", stats.actors_wait, "actors")
        meter.set("dreamer_replay_waiting", stats.learner_waits, "learner")

    def saved(self, seconds: float) -> None:
        """A checkpoint was written just now, in so many seconds."""
        self._meter.set("dreamer_replay_checkpoint_timestamp_seconds", time.time())
        self._meter.set("dreamer_replay_checkpoint_seconds", seconds)


class LearnerRecorder:
    """The learner's numbers. All that was read from the device is in the messages: nothing is read for a metric."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._events: dict[str, float] = {}  # numerators and denominators of ratios, older ones fading
        self._busy: float | None = None  # share of time in which the GPU computed; None = not known yet
        self._asks_nvml = True

    def message(self, message: LearnerMessage, phases: dict[str, float]) -> None:
        """What a message of about a second says, and where the time since the last one went."""
        meter, means, updates = self._meter, message.metrics, message.updates
        for phase, seconds in phases.items():
            meter.add("dreamer_learner_phase_seconds_total", seconds, phase)
        meter.add("dreamer_learner_wait_seconds_total", message.wait_seconds, "replay")
        meter.add("dreamer_learner_updates_total", updates)
        if updates:
            meter.add("dreamer_learner_nonfinite_updates_total", round(means["nonfinite"] * updates))
            meter.set("dreamer_learner_sample_age_updates", means["policy_age_updates"])
            for name, value in means.items():
                if name in VALUES:
                    meter.set(VALUES[name].name, value)
            self._ratios(means, updates)
        for name, value in message.sight.items():
            self._ball(name, value)

    def saved(self, path: Path) -> None:
        """The newest checkpoint is this file."""
        found = path.stat()
        self._meter.set("dreamer_learner_checkpoint_timestamp_seconds", found.st_mtime)
        self._meter.set("dreamer_learner_checkpoint_bytes", found.st_size)

    def gpu(self, device: torch.device) -> None:
        """Once a second, of the driver and not of the device's queue; nothing without a GPU."""
        if device.type != "cuda":
            return
        self._meter.set("dreamer_learner_gpu_memory_bytes", torch.cuda.memory_reserved(device))
        if self._asks_nvml:
            self._utilisation(device)

    def _utilisation(self, device: torch.device) -> None:
        """Asks NVML. Where it does not answer (a slice of a GPU, WSL, a container, another driver's library) that is
        said once, and the metric stays away: no training ends for the sake of a number."""
        try:
            self._busy = torch.cuda.utilization(device) / 100
        except Exception as error:  # its errors are many, of libraries that need not be there, and of no common kind
            self._asks_nvml = False
            log.warning("how busy the GPU is cannot be read (%s: %s)", type(error).__name__, error)
            if self._busy is None:
                return
            self._busy = math.nan  # it was known: an old number must not stand there as today's
        self._meter.set("dreamer_learner_gpu_utilisation_ratio", self._busy)

    def _ratios(self, means: dict[str, float], updates: int) -> None:
        for part in parts_of(RATIOS.values()):
            self._events[part] = MEMORY * self._events.get(part, 0.0) + means.get(part, 0.0) * updates
        for name, (numerator, denominator) in RATIOS.items():
            if self._events[denominator] > 0:
                self._meter.set(SEEN[name].name, self._events[numerator] / self._events[denominator])

    def _ball(self, name: str, value: float) -> None:
        """`ball_recall`, `ball_recall_5_ahead`, `ball_error_5_ahead`; the other numbers have their own metrics."""
        kind, _, ahead = name.removesuffix("_ahead").rpartition("_")
        if name == "ball_recall":
            self._meter.set("dreamer_learner_ball_recall_ratio", value, "0")
        elif kind == "ball_recall":
            self._meter.set("dreamer_learner_ball_recall_ratio", value, ahead)
        elif kind == "ball_error":
            self._meter.set("dreamer_learner_ball_error_pixels", value, ahead)


def parts_of(pairs: Iterable[tuple[str, str]]) -> set[str]:
    """Everything that some ratio is made of."""
    return {part for pair in pairs for part in pair}
