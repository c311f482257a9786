"""The Ray runtime: starts a run, exchanges orders and messages with its processes, ends it in order."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import ray

from cluster.assemble import env_spec
from cluster.console.signals import Stop
from cluster.errors import HeadLost, RunFailed, as_run_failed, in_one_line
from cluster.every import Every
from cluster.on_ray import placement, starting
from cluster.on_ray.crew import Crew
from cluster.on_ray.mailbox import Mailbox, Orders
from cluster.on_ray.mailbox_client import CALL_SECONDS
from cluster.on_ray.parcels import Parcel, Reader
from cluster.on_ray.worker import Worker, error_of, failed_to_start, last_line, traceback_of
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
        place = placement.Place(config, job.run, env_spec(config), self.mailbox, f"{config.cluster.host}:{port}")
        self.crew = Crew(place, job.limits.updates, run_log)
        self.short = ShortGames(config)
        self.began = self.mailbox_heard = self.waiting_since = time.monotonic()
        self.said_wait = Every(WAIT_SAY_SECONDS)

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
        self.crew.replay.launch()
        if who := placement.who_reaches(self.config.cluster, self.config.replay.port):
            self.log.say(who)
        why = self._await_replay(stop)
        if not why:
            self.crew.learner.launch()
        while not why:
            self.crew.troupe.follow_nodes()
            self.crew.expect()
            self._exchange(Orders(policy_step=self.log.policy_step))
            self._look_at_lengths()
            why = self.crew.supervise(self.crew.workers()) or self._why_end(stop)
            self._await_everybody()
        return why

    def _exchange(self, orders: Orders) -> None:
        """Gives orders and takes in what was reported; a mailbox that is being restarted is tried again next time."""
        now = time.monotonic()
        try:
            order = self.crew.troupe.order(orders)
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
            for worker in self.crew.workers():  # nobody can be heard now
                worker.heard = max(worker.heard, now)
            return
        self.mailbox_heard = now
        for message in self.mail.open(parcel):
            self.short.hear(message)
            self.crew.hear(message)
            self.log.handle(message)

    def _await_replay(self, stop: Stop) -> str:
        """Until it has loaded what it had saved; says how long it is at it. Why the run is over before it began."""
        while not self.crew.replay.where:
            if stop.signal:
                return f"signal {stop.signal}"
            self.crew.supervise([self.crew.replay])
            if (seconds := self.crew.seconds_starting(self.crew.replay)) and self.said_wait.due():
                size = starting.bytes_below(self.job.run.replay) / 2**30
                self.log.say(f"waiting: the replay server starts ({size:.1f} GiB saved), for {seconds:.0f} s so far")
        self.waiting_since = time.monotonic()
        return ""

    def _await_everybody(self) -> None:
        """Until those run without whom training cannot go on: says whom it waits for, and gives up after a time."""
        if self.crew.has_begun:
            return
        lacking = self.crew.lacking()
        if not lacking:
            self.crew.has_begun = True
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
        actors = self.crew.troupe.workers() + self.crew.troupe.leaving()
        self._finish(actors, stop_learner=False, seconds=30.0, most=30.0)
        if self.crew.learner.ref is None and self.crew.replay.where:  # nobody else asks the replay to save
            self._save_replay()
        most = END_SECONDS + starting.seconds_at_most(self.job.run.replay)
        if wrong := self._finish([self.crew.learner], stop_learner=True, seconds=END_SECONDS, most=most):
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
            if not worker.where and not (worker is self.crew.learner and self.crew.has_begun):
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
        ref = self.crew.replay.handle.checkpoint.remote()
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
