"""The processes of a run: starts them, starts again what died or hangs, and says when that makes no sense any more."""

from __future__ import annotations

import logging
import time
from functools import partial
from typing import Any

from cluster.errors import RunFailed
from cluster.messages import ActorMessage, LearnerMessage, Message
from cluster.metrics.spec import MAILBOX
from cluster.on_ray import starting
from cluster.on_ray.placement import Place
from cluster.on_ray.troupe import Troupe
from cluster.on_ray.worker import (
    Worker,
    failed_to_start,
    last_line,
    news_of_silence,
    raise_if_diverged,
    silence,
    traceback_of,
    user_error,
    watch,
)
from cluster.run.records import RunLog

note = logging.getLogger("run")  # for log.txt alone


class Crew:
    """Replay, learner and actors."""

    def __init__(self, place: Place, updates: int | None, run_log: RunLog) -> None:
        """updates: the last one, if there is to be a last one."""
        self.place, self.log = place, run_log
        self.replay = Worker(
            "replay", partial(starting.start_replay, place), purpose="a minute of service", speaks=False
        )
        self.learner = Worker("learner", partial(starting.start_learner, place, updates), purpose="a new update")
        self.learner.reached = run_log.update
        self.troupe = Troupe(place.config.cluster, self._start_actor, run_log.say)
        self.has_begun = False  # whoever must be there was there
        self.expected: list[str] = []

    def workers(self) -> list[Worker]:
        return [self.replay, self.learner, *self.troupe.workers()]

    def expect(self) -> None:
        """Tells the records who should be running, when that changes."""
        expected = [MAILBOX, self.replay.role, self.learner.role, *self.troupe.expected()]
        if expected != self.expected:
            self.expected = expected
            self.log.expect(expected)

    def hear(self, message: Message) -> None:
        """Takes note of signs of life and of progress."""
        now = time.monotonic()
        if isinstance(message, ActorMessage):
            self.troupe.hear(message, now)
        if isinstance(message, LearnerMessage):
            self.learner.heard = now
            self.learner.reaches(message.update)
            self.replay.progressed = self.replay.progressed or (bool(self.replay.where) and message.updates > 0)

    def lacking(self) -> str:
        """Who is still missing for training to begin; "" if nobody is."""
        return self.troupe.lacking() or ("" if self.learner.where else "the learner has no place yet")

    def supervise(self, workers: list[Worker]) -> str:
        """Starts again what died or hangs. Returns why training is over if the learner has ended by itself."""
        leaving = self.troupe.leaving()
        for worker in workers:
            if worker.ref is None and time.monotonic() >= worker.due:
                self._restart(worker)
        for worker, error in watch([*workers, *leaving], timeout=0.5):
            if worker in leaving:
                self.troupe.left(worker)
            elif worker is self.learner and error is None:
                return "the learner did its last update"
            else:
                self._say_death(worker, error)
        for worker in workers:
            if silence(worker) > self.place.config.cluster.stall_seconds:
                self._lose(worker, f"nothing heard for {silence(worker):.0f} s: killed")
            elif self._starts_too_long(worker):
                self._lose(worker, f"it has not started within {self.seconds_starting(worker):.0f} s: killed")
        for line in news_of_silence(workers):
            self.log.say(line)
        return ""

    def seconds_starting(self, worker: Worker) -> float:
        """Seconds for which the head's own process has been starting; actors may wait for a machine."""
        waits = worker in (self.replay, self.learner) and worker.ref is not None and not worker.where
        return time.monotonic() - worker.started if waits else 0.0

    def _start_actor(self, index: int, incarnation: int) -> Any:
        return starting.start_actor(self.place, index, incarnation, self.log.policy_step)

    def _say_death(self, worker: Worker, error: Exception | None) -> None:
        """Raises what starting again cannot mend."""
        if error is None:  # an actor that has not heard from the mailbox for long
            self._lose(worker, "it was cut off and has ended")
            return
        # What is wrong before training has begun is the request; later it is what a death has left behind.
        if not self.has_begun and worker.incarnation == 0 and (wrong := user_error(error)):
            raise wrong from error
        raise_if_diverged(error)
        if worker.said != (said := traceback_of(error)):  # not the same page again and again
            worker.said = said
            note.info("%s died: %s", worker.role, said)
        if not self.has_begun and worker in (self.replay, self.learner) and failed_to_start(error):
            raise RunFailed(f"the {worker.role} does not start: {last_line(error)}") from error
        self._lose(worker, last_line(error))

    def _lose(self, worker: Worker, why: str) -> None:
        """Takes note of a death and says it. Raises RunFailed where the run cannot go on without this process."""
        said = worker.died(why)
        needed = worker in (self.replay, self.learner)
        if worker.hopeless() and (needed or self.troupe.hopeless()):
            who = f"the {worker.role}" if needed else f"no actor plays any more: {worker.role}"
            raise RunFailed(
                f"{who} has died {worker.fruitless} times in a row without {worker.purpose}: {why} "
                f"(more in {self.place.run.path / 'log.txt'})"
            )
        self.log.say(said)

    def _restart(self, worker: Worker) -> None:
        self.log.restarted(worker.role)
        try:
            worker.launch()
        except ValueError as error:  # Ray has not yet noticed that the name is free again
            self._lose(worker, last_line(error))

    def _starts_too_long(self, worker: Worker) -> bool:
        seconds = self.seconds_starting(worker)
        return seconds > starting.SECONDS and seconds > starting.seconds_at_most(self.place.run.replay)
