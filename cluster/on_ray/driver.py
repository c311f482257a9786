"""The Ray runtime: starts everything, keeps it alive, ends it in order."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import ray

from cluster.assemble import env_spec
from cluster.console.signals import Stop
from cluster.errors import HeadLost, RunFailed, as_run_failed, in_one_line
from cluster.every import Every
from cluster.messages import ActorMessage, LearnerMessage, Message
from cluster.metrics.spec import MAILBOX
from cluster.on_ray import placement, starting
from cluster.on_ray.mailbox import Mailbox, Orders
from cluster.on_ray.mailbox_client import CALL_SECONDS
from cluster.on_ray.parcels import Parcel, Reader
from cluster.on_ray.troupe import Troupe
from cluster.on_ray.worker import (
    Worker,
    error_of,
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
from cluster.short_games import ShortGames
from cluster.training import Job, reached
from learner.config import Diverged
from replay.errors import UserError
from replay.ports import free_port
from replay.proxy import bypass

log = logging.getLogger("launch")
note = logging.getLogger("run")  # for log.txt alone
END_SECONDS = 180.0  # that the learner may take to save
WAIT_SAY_SECONDS = 15.0  # between two lines on whom training waits for


class RayRun:
    """One training run on Ray."""

    def __init__(self, job: Job, run_log: RunLog) -> None:
        self.job, self.log = job, run_log
        config = job.config
        # Fixed from here on: a restarted server must be found where the old one was.
        port = free_port(config.replay.port)
        self.config = config = replace(config, replay=replace(config.replay, port=port))
        self.mailbox = Mailbox.options(resources=placement.ON_HEAD).remote(config.cluster)
        self.mail = Reader()
        self.place = placement.Place(config, job.run, env_spec(config), self.mailbox, f"{config.cluster.host}:{port}")
        self.replay = Worker(
            "replay", partial(starting.start_replay, self.place), purpose="a minute of service", speaks=False
        )
        self.learner = Worker(
            "learner", partial(starting.start_learner, self.place, job.limits.updates), purpose="a new update"
        )
        self.learner.reached = run_log.update
        self.troupe = Troupe(config.cluster, self._start_actor, run_log.say)
        self.short = ShortGames(config)
        self.began = self.mailbox_heard = self.waiting_since = time.monotonic()
        self.has_begun = False  # whoever must be there was there
        self.said_wait = Every(WAIT_SAY_SECONDS)
        self.expected: list[str] = []

    def train(self, stop: Stop) -> str:
        """Runs until a limit or a signal; saves; returns why it ended. After an error, too, what can be saved is."""
        try:
            why = self._run(stop)
        except (UserError, HeadLost, Diverged):  # nothing has begun, nobody is there, nothing is worth saving
            raise
        except Exception as error:
            self._end_after(error)
            raise
        self._end(why)
        return why

    def _run(self, stop: Stop) -> str:
        self.replay.launch()
        if who := placement.who_reaches(self.config.cluster, self.config.replay.port):
            self.log.say(who)
        why = self._await_replay(stop)
        if not why:
            self.learner.launch()
        while not why:
            self.troupe.follow_nodes()
            self._expect()
            self._exchange(Orders(policy_step=self.log.policy_step))
            self._look_at_lengths()
            why = self._supervise(self._workers()) or self._why_end(stop)
            self._await_everybody()
        return why

    def _start_actor(self, index: int, incarnation: int) -> Any:
        return starting.start_actor(self.place, index, incarnation, self.log.policy_step)

    # --- One turn of the driver's loop ---

    def _workers(self) -> list[Worker]:
        return [self.replay, self.learner, *self.troupe.workers()]

    def _expect(self) -> None:
        """Tells the records who should be running, when that changes."""
        expected = [MAILBOX, self.replay.role, self.learner.role, *self.troupe.expected()]
        if expected != self.expected:
            self.expected = expected
            self.log.expect(expected)

    def _exchange(self, orders: Orders) -> None:
        """Gives orders and takes in what was reported; a mailbox that is being restarted is tried again next time."""
        now = time.monotonic()
        try:
            order = self.troupe.order(orders)
            parcel: Parcel = ray.get(self.mailbox.exchange.remote(order, self.mail.receipt), timeout=CALL_SECONDS)
        except ray.exceptions.ActorDiedError as error:  # a dead process is started again by Ray, a dead node is not
            if failed_to_start(error):
                raise RunFailed(f"the mailbox does not start: {last_line(error)}") from error
            raise HeadLost("the node of Ray's head has died, and the run with it") from error
        except (ray.exceptions.RayError, TimeoutError) as error:
            log.warning("the mailbox does not answer (%s)", type(error).__name__)
            if now - self.mailbox_heard > self.config.cluster.stall_seconds:
                self.log.say("the mailbox has been silent for too long: starting it again")
                ray.kill(self.mailbox, no_restart=False)
                self.mailbox_heard = now
            for worker in self._workers():  # nobody can be heard now
                worker.heard = max(worker.heard, now)
            return
        self.mailbox_heard = now
        for message in self.mail.open(parcel):
            self._hear(message)
            self.log.handle(message)

    def _hear(self, message: Message) -> None:
        """Takes note of signs of life and of progress, and of how long games last."""
        self.short.hear(message)
        now = time.monotonic()
        if isinstance(message, ActorMessage):
            self.troupe.hear(message, now)
        if isinstance(message, LearnerMessage):
            self.learner.heard = now
            self.learner.reaches(message.update)
            self.replay.progressed = self.replay.progressed or (bool(self.replay.where) and message.updates > 0)

    def _supervise(self, workers: list[Worker]) -> str:
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
            if silence(worker) > self.config.cluster.stall_seconds:
                self._lose(worker, f"nothing heard for {silence(worker):.0f} s: killed")
            elif self._starts_too_long(worker):
                self._lose(worker, f"it has not started within {self._starting(worker):.0f} s: killed")
        for line in news_of_silence(workers):
            self.log.say(line)
        return ""

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
                f"(more in {self.job.run.path / 'log.txt'})"
            )
        self.log.say(said)

    def _restart(self, worker: Worker) -> None:
        self.log.restarted(worker.role)
        try:
            worker.launch()
        except ValueError as error:  # Ray has not yet noticed that the name is free again
            self._lose(worker, last_line(error))

    def _starting(self, worker: Worker) -> float:
        """Seconds for which the head's own process has been starting; actors may wait for a machine."""
        waits = worker in (self.replay, self.learner) and worker.ref is not None and not worker.where
        return time.monotonic() - worker.started if waits else 0.0

    def _starts_too_long(self, worker: Worker) -> bool:
        seconds = self._starting(worker)
        return seconds > starting.SECONDS and seconds > starting.seconds_at_most(self.job.run.replay)

    def _await_replay(self, stop: Stop) -> str:
        """Until it has loaded what it had saved; says how long it is at it. Why the run is over before it began."""
        while not self.replay.where:
            if stop.signal:
                return f"signal {stop.signal}"
            self._supervise([self.replay])
            if (seconds := self._starting(self.replay)) and self.said_wait.due():
                size = starting.bytes_below(self.job.run.replay) / 2**30
                self.log.say(f"waiting: the replay server starts ({size:.1f} GiB saved), for {seconds:.0f} s so far")
        self.waiting_since = time.monotonic()
        return ""

    def _await_everybody(self) -> None:
        """Until those run without whom training cannot go on: says whom it waits for, and gives up after a time."""
        if self.has_begun:
            return
        lacking = self.troupe.lacking() or ("" if self.learner.where else "the learner has no place yet")
        if not lacking:
            self.has_begun = True
            return
        cluster, seconds = self.config.cluster, time.monotonic() - self.waiting_since
        if seconds > cluster.wait_seconds:
            self._end("those whom training needs are not there")
            raise UserError(
                f"{lacking}, after {seconds:.0f} s: add nodes (ray status tells what they lack), or change "
                "--cluster.wait-for or --cluster.wait-seconds"
            )
        if self.said_wait.due() and not placement.is_local(cluster):
            self.log.say(f"waiting: {lacking}; {seconds:.0f} of {cluster.wait_seconds:.0f} s")

    def _look_at_lengths(self) -> None:
        """Says that the games are too short to be trained on, and ends where they stay so."""
        try:
            line = self.short.look()
        except UserError:
            self._end("the games are too short")
            raise
        if line:
            self.log.say(line)

    def _why_end(self, stop: Stop) -> str:
        if stop.signal:
            return f"signal {stop.signal}"
        minutes = (time.monotonic() - self.began) / 60
        return reached(self.job.limits, policy_step=self.log.policy_step, update=self.log.update, minutes=minutes)

    def _end(self, why: str) -> None:
        """Actors first, so that the last checkpoint knows every step that was played; then the learner saves.

        Raises RunFailed if it does not.
        """
        self.log.say(f"ending: {why}; saving ...")
        actors = self.troupe.workers() + self.troupe.leaving()
        self._finish(actors, stop_learner=False, seconds=30.0, most=30.0)
        if self.learner.ref is None and self.replay.where:  # nobody else asks the replay to save
            self._save_replay()
        most = END_SECONDS + starting.seconds_at_most(self.job.run.replay)
        if wrong := self._finish([self.learner], stop_learner=True, seconds=END_SECONDS, most=most):
            raise RunFailed(f"the last checkpoint may be missing: {wrong}")

    def _end_after(self, error: Exception) -> None:
        """Saves what can be saved; what fails now must not hide the error, but for the death of Ray itself."""
        try:
            self._end(str(error) if isinstance(error, RunFailed) else in_one_line(error))
        except HeadLost:
            raise
        except Exception as second:
            self.log.say(f"not all could be saved after the error: {in_one_line(second)}")

    def _finish(self, workers: list[Worker], *, stop_learner: bool, seconds: float, most: float) -> str:
        """Until they have ended; without a word from them for `seconds`, or after `most`, it goes on without them.

        Returns what went wrong with the last one of them, or "".
        """
        began, wrong = time.monotonic(), ""
        for worker in workers:
            # Whoever is not yet there has nothing to lose; only a learner may just be starting again.
            if not worker.where and not (worker is self.learner and self.has_begun):
                worker.end()
        running = {worker.ref: worker for worker in workers if worker.ref is not None}
        while running:
            self._exchange(Orders(True, stop_learner, self.log.policy_step))
            done, _ = ray.wait(list(running), num_returns=len(running), timeout=0.5)
            for worker, error in [(running.pop(ref), error_of(ref)) for ref in done]:
                if error is not None:
                    wrong = f"{worker.role} died ({last_line(error)})"
                    note.info("%s died: %s", worker.role, traceback_of(error))
                    self.log.say(wrong)
            now = time.monotonic()
            heard = max((worker.heard for worker in running.values()), default=now)
            if now > min(max(began, heard) + seconds, began + most):
                break
        self._exchange(Orders(True, stop_learner, self.log.policy_step))
        for worker in running.values():
            wrong = f"{worker.role} did not end within {time.monotonic() - began:.0f} s"
            self.log.say(f"{wrong}; going on without it")
        return wrong

    def _save_replay(self) -> None:
        """What was played stays, also where there is no learner any more to ask for it."""
        ref = self.replay.handle.checkpoint.remote()
        done, _ = ray.wait([ref], timeout=END_SECONDS + starting.seconds_at_most(self.job.run.replay))
        if not done or error_of(ref) is not None:
            self.log.say("the replay could not be saved")


@contextmanager
def ready(job: Job) -> Iterator[Job]:
    """Joins or starts Ray; the job with the address that our servers announce. Leaves Ray as it was."""
    with placement.ray_of(job.config.cluster, namespace=job.run.id) as host:
        bypass(host, *placement.addresses())
        yield job.at(host)


def train(job: Job, run_log: RunLog, stop: Stop) -> str:
    """Trains on the Ray that is ready; returns why it ended."""
    stop.install()
    try:
        with as_run_failed():
            return RayRun(job, run_log).train(stop)
    except HeadLost as error:
        raise HeadLost(f"{error}; start Ray again and go on with --resume --run-dir {job.run.path}") from error
