"""Keeping processes alive: starts again what died, notices what hangs, and knows who has a place."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ray

from learner.config import Diverged
from replay.errors import UserError

BACK_OFF = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)  # seconds between a death and the next start, growing
HEALTHY_SECONDS = 60.0  # alive for so long: the next death counts as the first
QUIET_SECONDS = 15.0  # of silence after which it is said
HOPELESS = 5  # deaths in a row without progress, after which it is no accident
HOPELESS_SECONDS = 60.0  # between a death and the next start from then on


@dataclass(eq=False)
class Worker:
    """One process that must run, and how to start it again."""

    role: str  # "learner", "actor-3"
    start: Callable[[int], Any]  # incarnation -> Ray actor handle
    purpose: str = "progress"  # what it is there to bring, in words: "a new update"
    speaks: bool = True  # it sends messages; if not, it is asked for a sign of life
    incarnation: int = 0
    handle: Any = None
    ref: Any = None  # of its `run`, ready when it has ended
    where_ref: Any = None  # of its `where`: of the first one it has a place, of later ones it lives
    where: str = ""  # the machine that it runs on; "" = it has no place yet
    failures: int = 0  # in a row, each soon after the one before: how long to wait before the next start
    fruitless: int = 0  # in a row, each of a copy that brought nothing: whether another start makes sense
    progressed: bool = False  # this copy has brought something
    reached: int = 0  # the most that any copy has: updates, for a learner
    said: str = ""  # all that the last error said
    started: float = 0.0  # when it got its place
    due: float = 0.0  # when to start it again
    heard: float = 0.0  # its last sign of life
    quiet: bool = False  # its silence was said

    def launch(self) -> None:
        self.handle = self.start(self.incarnation)
        self.where_ref = self.handle.where.remote()
        self.ref = self.handle.run.remote()
        self.started = self.heard = time.monotonic()

    def died(self, why: str) -> str:
        """Takes note of a death; returns what to tell the person who watches."""
        now = time.monotonic()
        self.failures = 0 if now - self.started > HEALTHY_SECONDS else self.failures
        self.fruitless = 0 if self.progressed else self.fruitless + 1
        self.progressed = False
        wait = HOPELESS_SECONDS if self.hopeless() else BACK_OFF[min(self.failures, len(BACK_OFF) - 1)]
        self.failures, self.incarnation = self.failures + 1, self.incarnation + 1
        self.end()
        self.due = now + wait
        times = f" {self.fruitless} times in a row without {self.purpose}" if self.hopeless() else ""
        return f"{self.role} died{times} ({why}); starting it again in {wait:.0f} s"

    def reaches(self, amount: int) -> None:
        """Takes note of how far it is. What an earlier copy had reached is no progress: it may always die there."""
        if amount > self.reached:
            self.reached, self.progressed = amount, True

    def hopeless(self) -> bool:
        """Whether it has died so often without progress that it will go on doing so."""
        return self.fruitless >= HOPELESS and not self.progressed

    def end(self) -> None:
        """Kills its process if there is one, also one that is stopped or waits for a place."""
        if self.handle is not None:
            ray.kill(self.handle)
        self.handle = self.ref = self.where_ref = None
        self.where, self.quiet = "", False


def watch(workers: list[Worker], *, timeout: float) -> list[tuple[Worker, Exception | None]]:
    """Waits until one of them ends, at most `timeout` seconds -> those that have, with the error that they ended with.

    Also takes note of those that have found a place.
    """
    for worker in workers:
        _look_for_place(worker)
    refs = {worker.ref: worker for worker in workers if worker.ref is not None}
    if not refs:  # all of them have died: their back-off passes
        time.sleep(timeout)
        return []
    done, _ = ray.wait(list(refs), num_returns=1, timeout=timeout)
    return [(refs[ref], error_of(ref)) for ref in done]


def error_of(ref: Any) -> Exception | None:
    """What a call that is over has ended with."""
    try:
        ray.get(ref)
    except ray.exceptions.RayError as error:
        return error
    return None


def _look_for_place(worker: Worker) -> None:
    """The first answer says where it runs. One that does not speak is asked again and again."""
    if worker.where_ref is None or not ray.wait([worker.where_ref], timeout=0)[0]:
        return
    try:
        where = ray.get(worker.where_ref)
    except ray.exceptions.RayError:  # it has died: its `run` says so, too
        return
    now = time.monotonic()
    if not worker.where or not worker.speaks:
        worker.heard = now
    if worker.where and not worker.speaks and now - worker.started > HEALTHY_SECONDS:
        worker.progressed = True  # it has served for a minute
    if not worker.where:
        worker.where, worker.started = where, now
    worker.where_ref = None if worker.speaks else worker.handle.where.remote()


def news_of_silence(workers: list[Worker]) -> list[str]:
    """What to say of those that have fallen silent, or speak again, since the last call."""
    said = []
    for worker in workers:
        seconds = silence(worker)
        if (seconds > QUIET_SECONDS) == worker.quiet:
            continue
        worker.quiet = not worker.quiet
        said.append(
            f"{worker.role} has said nothing for {seconds:.0f} s" if worker.quiet else f"{worker.role} is heard again"
        )
    return said


def silence(worker: Worker) -> float:
    """Seconds since its last sign of life. One that waits for a machine has nothing to say: 0."""
    return time.monotonic() - worker.heard if worker.where else 0.0


# --- What an error means ---


def last_line(error: Exception) -> str:
    """The end of what an error says: where Ray puts the reason."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:200] if lines else type(error).__name__


def traceback_of(error: Exception) -> str:
    """All that an error says, without colours, and without the numbers of the process, which differ every time."""
    return re.sub(r"\x1b\[[0-9;]*m| \(pid=[^)]*\)", "", str(error))


def failed_to_start(error: Exception) -> bool:
    """Whether it is an exception of a process's constructor; to be killed while it runs is none."""
    return isinstance(error, ray.exceptions.RayActorError) and error.actor_init_failed


def user_error(error: Exception) -> UserError | None:
    """The UserError inside what Ray makes of it, if the request is what is wrong."""
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, UserError) else None


def raise_if_diverged(error: Exception) -> None:
    """A learner that started again would only diverge again."""
    if isinstance(cause := getattr(error, "cause", None), Diverged):
        raise cause from error
