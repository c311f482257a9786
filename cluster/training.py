"""What both runtimes share: limits, the learner's tally, the actors' news."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from actors.episodes import EpisodeReport
from actors.rollout import Tick
from cluster.config import Config
from cluster.look.gallery import Look
from cluster.messages import ActorMessage, LearnerMessage
from cluster.metrics import Meter
from cluster.metrics.recorders import LearnerRecorder
from cluster.run.directory import Run
from cluster.trouble import Trouble
from learner.checkpoint import Checkpoint, list_checkpoints
from learner.clock import Clock
from learner.config import Diverged
from learner.loop import LearnerReport
from replay import ReplayStats, Writer
from replay.experience import PrevState, Step

log = logging.getLogger("training")


class Limits(NamedTuple):
    """Where training ends: at whichever is reached first; None = no such limit."""

    steps: int | None = None  # policy steps, those before a resume included
    updates: int | None = None  # likewise
    minutes: float | None = None  # of this invocation


class Job(NamedTuple):
    """All that a runtime needs to know to train."""

    config: Config
    run: Run
    limits: Limits
    resume: Checkpoint | None

    def at(self, host: str) -> Job:
        """The same with the address that our servers announce in the place of "auto"."""
        return self._replace(config=replace(self.config, cluster=replace(self.config.cluster, host=host)))


def reached(limits: Limits, *, policy_step: int, update: int, minutes: float) -> str:
    """Which limit is reached, in words; "" while none is."""
    if limits.steps is not None and policy_step >= limits.steps:
        return f"{policy_step:,} policy steps played"
    if limits.updates is not None and update >= limits.updates:
        return f"{update:,} updates done"
    if limits.minutes is not None and minutes >= limits.minutes:
        return f"{minutes:.1f} minutes over"
    return ""


class Tally:
    """Adds reports up on the device and reads them from there once per message."""

    def __init__(self, update: int, meter: Meter, clock: Clock) -> None:
        self.update = update
        self.recorder, self._clock = LearnerRecorder(meter), clock
        self.saving = Trouble("no checkpoint now", "checkpoints can be saved again", log)
        self.saving_replay = Trouble("the replay could not be saved now", "the replay can be saved again", log)
        self.nonfinite_in_a_row = 0  # updates, as messages saw them; while there are any, nothing is worth saving
        self._reset()

    def _reset(self) -> None:
        self._began, self._updates, self._wait, self._age = time.monotonic(), 0, 0.0, 0.0
        self._names: list[str] = []
        self._sum: torch.Tensor | float = 0.0  # [M] of the metrics, on the device

    def add(self, report: LearnerReport) -> None:
        """Takes note of one update."""
        self.update = report.update
        self._updates += 1
        self._age += report.policy_age
        self._names = list(report.metrics)
        self._sum = self._sum + torch.stack([value.float() for value in report.metrics.values()])

    def waited(self, seconds: float) -> None:
        """Takes note of time without data."""
        self._wait += seconds

    def message(self, replay: ReplayStats | None = None, look: Look | None = None) -> LearnerMessage:
        """What happened since the last message; starts the next one."""
        means: dict[str, float] = {}
        if isinstance(self._sum, torch.Tensor):
            self._clock.mark_read("other")
            self.recorder.gpu(self._sum.device)
            values = (self._sum / self._updates).tolist()
            means = dict(zip(self._names, values, strict=True)) | {"policy_age_updates": self._age / self._updates}
            none_was_good = means["nonfinite"] == 1.0
            self.nonfinite_in_a_row = self.nonfinite_in_a_row + self._updates if none_was_good else 0
        seconds = time.monotonic() - self._began
        message = LearnerMessage(
            self.update,
            self._updates,
            means,
            seconds,
            self._wait,
            replay,
            look.images if look else {},
            look.sight if look else {},
            self.saving.why or self.saving_replay.why,
        )
        self.recorder.message(message, self._clock.take())
        self._reset()
        return message

    def savable(self) -> bool:
        """Whether the last updates were finite; says so if not."""
        if self.nonfinite_in_a_row:
            self.not_saved("the last updates were not finite")
        return not self.nonfinite_in_a_row

    def not_saved(self, error: Exception | str) -> None:
        """Takes note of a try to save that failed; says so once until one succeeds."""
        self.saving.failed(error, "the one before it stays, and training goes on")

    def saved(self, path: Path) -> None:
        """Takes note of a checkpoint."""
        self.saving.over()
        self.recorder.saved(path)

    def check(self, limit: int, checkpoints: Path) -> None:
        """Raises Diverged if nothing but updates that are not finite came for `limit` updates, as messages saw them."""
        if self.nonfinite_in_a_row < limit:
            return
        found = list_checkpoints(checkpoints)
        newest = f"the last good checkpoint is {found[0]}" if found else "there is no checkpoint yet"
        raise Diverged(
            f"the last {self.nonfinite_in_a_row} updates up to {self.update} were not finite and changed nothing; "
            f"{newest}: lower train.model_lr, or look at the gradient norms in TensorBoard"
        )


class Gaps:
    """The time between updates on the learner's device: how long it waits for games, policy and data."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._end = self._now()
        self._gaps: list[tuple[Any, Any]] = []  # moments: the end of an update, the beginning of the next

    def update_begins(self) -> None:
        """To be called before an update is given to the device."""
        self._gaps.append((self._end, self._now()))

    def update_ends(self) -> None:
        """To be called when it has been given to the device."""
        self._end = self._now()

    def seconds(self) -> float:
        """The sum since the last call; waits for the device."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
            total = sum(end.elapsed_time(begin) for end, begin in self._gaps) / 1000
        else:
            total = sum(begin - end for end, begin in self._gaps)
        self._gaps.clear()
        return total

    def _now(self) -> Any:
        """Seconds; on a GPU, whose work is still to be done when it is given, an event among that work."""
        if self._device.type != "cuda":
            return time.monotonic()
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        return event


def append(writers: list[Writer], tick: Tick) -> None:
    """Hands every game's record of a tick to its writer."""
    for game, writer in enumerate(writers):
        step = Step(*(field[game] for field in tick.step))
        prev = PrevState(*(field[game] for field in tick.prev))
        writer.append(step, is_last=bool(tick.is_last[game]), policy_version=tick.policy_version, prev=prev)


class ActorNews:
    """What the games brought since the last message."""

    def __init__(self, actor: int, incarnation: int) -> None:
        self.actor, self.incarnation = actor, incarnation
        self.version = -1
        self.total = 0  # policy steps since this incarnation began
        self._reset()

    def _reset(self) -> None:
        self.began, self.played, self.wait_seconds = time.monotonic(), 0, 0.0
        self.episodes: list[EpisodeReport] = []

    def add(self, tick: Tick) -> None:
        self.played += tick.played
        self.total += tick.played
        self.episodes += tick.episodes
        self.version = tick.policy_version

    def message(self, writers: list[Writer]) -> ActorMessage:
        seconds = time.monotonic() - self.began
        message = ActorMessage(
            actor=self.actor,
            incarnation=self.incarnation,
            played_total=self.total,
            episodes=self.episodes,
            policy_version=self.version,
            seconds=seconds,
            wait_seconds=self.wait_seconds,
            acknowledged=sum(writer.acknowledged for writer in writers),
            dropped=sum(writer.dropped for writer in writers),
        )
        self._reset()
        return message
