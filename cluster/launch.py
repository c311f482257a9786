"""The Ray runtime: starts everything, keeps it alive, ends it in order."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import ray

from cluster import placement
from cluster.board import Board, Orders
from cluster.board_link import CALL_SECONDS
from cluster.cli import SPIN
from cluster.errors import HeadLost
from cluster.every import Every
from cluster.mailbox import Parcel, Reader
from cluster.messages import ActorMessage, LearnerMessage, Message
from cluster.roles import REPLAY, ActorRole, LearnerRole, ReplayRole
from cluster.run_dir import choose_device, env_spec
from cluster.run_log import RunLog
from cluster.signals import Stop
from cluster.supervise import Worker, last_line, news_of_silence, raise_if_diverged, silence, user_error, watch
from cluster.training import Job, reached
from cluster.troupe import Troupe
from replay.config import UserError
from replay.ports import free_port
from replay.proxy import bypass

log = logging.getLogger("launch")
START_SECONDS = 120.0  # that a process may take to start
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
        self.board = Board.options(resources=placement.ON_HEAD).remote(config.cluster)
        self.mail = Reader()
        self.place = placement.Place(config, job.run, env_spec(config), self.board, f"{config.cluster.host}:{port}")
        self.replay = Worker("replay", self._start_replay, speaks=False)
        self.learner = Worker("learner", self._start_learner)
        self.troupe = Troupe(config.cluster, self._start_actor, run_log.say)
        self.began = self.board_heard = time.monotonic()
        self.has_begun = False  # whoever must be there was there
        self.said_wait = Every(WAIT_SAY_SECONDS)
        self.expected: list[str] = []

    def train(self, stop: Stop) -> str:
        """Runs until a limit or a signal; saves; returns why it ended."""
        self.replay.launch()
        self._await_start(self.replay.where_ref, "the replay server")
        self.learner.launch()
        why = ""
        while not why:
            self.troupe.follow_nodes()
            self._expect()
            self._exchange(Orders(policy_step=self.log.policy_step))
            why = self._supervise() or self._why_end(stop)
            self._await_everybody()
        self._end(why)
        return why

    # --- One turn of the driver's loop ---

    def _workers(self) -> list[Worker]:
        return [self.replay, self.learner, *self.troupe.workers()]

    def _expect(self) -> None:
        """Tells the records who should be running, when that changes."""
        expected = ["board", self.replay.role, self.learner.role, *self.troupe.expected()]
        if expected != self.expected:
            self.expected = expected
            self.log.expect(expected)

    def _exchange(self, orders: Orders) -> None:
        """Gives orders and takes in what was reported; a board that is being restarted is tried again next time."""
        now = time.monotonic()
        try:
            order = self.troupe.order(orders)
            parcel: Parcel = ray.get(self.board.exchange.remote(order, self.mail.receipt), timeout=CALL_SECONDS)
        except ray.exceptions.ActorDiedError as error:  # a dead process is started again by Ray, a dead node is not
            raise HeadLost("the node of Ray's head has died, and the run with it") from error
        except (ray.exceptions.RayError, TimeoutError) as error:
            log.warning("the board does not answer (%s)", type(error).__name__)
            if now - self.board_heard > self.config.cluster.stall_seconds:
                self.log.say("the board has been silent for too long: starting it again")
                ray.kill(self.board, no_restart=False)
                self.board_heard = now
            for worker in self._workers():  # nobody can be heard now
                worker.heard = max(worker.heard, now)
            return
        self.board_heard = now
        for message in self.mail.open(parcel):
            self._hear(message)
            self.log.handle(message)

    def _hear(self, message: Message) -> None:
        """Takes note of a sign of life."""
        worker = self.troupe.find(message) if isinstance(message, ActorMessage) else None
        worker = self.learner if isinstance(message, LearnerMessage) else worker
        if worker:
            worker.heard = time.monotonic()

    def _supervise(self) -> str:
        """Starts again what died or hangs. Returns why training is over if the learner has ended by itself."""
        workers, leaving = self._workers(), self.troupe.leaving()
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
                self.log.say(worker.died(f"nothing heard for {silence(worker):.0f} s: killed"))
        for line in news_of_silence(workers):
            self.log.say(line)
        return ""

    def _say_death(self, worker: Worker, error: Exception | None) -> None:
        """Raises what starting again cannot mend."""
        if error is None:  # an actor that has not heard from the board for long
            self.log.say(worker.died("it was cut off and has ended"))
            return
        # What is wrong before training has begun is the request; later it is what a death has left behind.
        if not self.has_begun and worker.incarnation == 0 and (wrong := user_error(error)):
            raise wrong from error
        raise_if_diverged(error)
        self.log.say(worker.died(last_line(error)))

    def _restart(self, worker: Worker) -> None:
        self.log.restarted(worker.role)
        try:
            worker.launch()
        except ValueError as error:  # Ray has not yet noticed that the name is free again
            self.log.say(worker.died(last_line(error)))

    def _await_everybody(self) -> None:
        """Until those run without whom training cannot go on: says whom it waits for, and gives up after a time."""
        if self.has_begun:
            return
        lacking = self.troupe.lacking() or ("" if self.learner.where else "the learner has no place yet")
        if not lacking:
            self.has_begun = True
            return
        cluster, seconds = self.config.cluster, time.monotonic() - self.began
        if seconds > cluster.wait_seconds:
            self._end("those whom training needs are not there")
            raise UserError(
                f"{lacking}, after {seconds:.0f} s: add nodes (ray status tells what they lack), or change "
                "--cluster.wait-for or --cluster.wait-seconds"
            )
        if self.said_wait.due() and not placement.is_local(cluster):
            self.log.say(f"waiting: {lacking}; {seconds:.0f} of {cluster.wait_seconds:.0f} s")

    def _why_end(self, stop: Stop) -> str:
        if stop.signal:
            return f"signal {stop.signal}"
        minutes = (time.monotonic() - self.began) / 60
        return reached(self.job.limits, policy_step=self.log.policy_step, update=self.log.update, minutes=minutes)

    def _end(self, why: str) -> None:
        """Actors first, so that the last checkpoint knows every step that was played; then the learner saves."""
        self.log.say(f"ending: {why}; saving ...")
        actors = self.troupe.workers() + self.troupe.leaving()
        self._finish(actors, seconds=30.0, orders=lambda: Orders(True, False, self.log.policy_step))
        self._finish([self.learner], seconds=END_SECONDS, orders=lambda: Orders(True, True, self.log.policy_step))

    def _finish(self, workers: list[Worker], *, seconds: float, orders: Callable[[], Orders]) -> None:
        deadline = time.monotonic() + seconds
        for worker in workers:
            # Whoever is not yet there has nothing to lose; only a learner may just be starting again.
            if not worker.where and not (worker is self.learner and self.has_begun):
                worker.end()
        running = [worker.ref for worker in workers if worker.ref is not None]
        while running and time.monotonic() < deadline:
            self._exchange(orders())
            _, running = ray.wait(running, num_returns=len(running), timeout=0.5)
        self._exchange(orders())
        for worker in workers:
            if worker.ref in running:
                self.log.say(f"{worker.role} did not end within {seconds:.0f} s; going on without it")

    # --- Starting processes ---

    def _await_start(self, ref: Any, what: str) -> None:
        try:
            ray.get(ref, timeout=START_SECONDS)
        except ray.exceptions.RayError as error:
            if wrong := user_error(error):
                raise wrong from error
            raise RuntimeError(f"{what} did not start: {last_line(error)}") from error

    def _start_replay(self, incarnation: int) -> Any:
        options = {"resources": placement.ON_HEAD, **self._threads(1)}
        role = ReplayRole.options(name=REPLAY, **options)
        return placement.ask_head(lambda: role.remote(self.place))  # a name is for the head to give

    def _start_learner(self, incarnation: int) -> Any:
        train = self.config.train
        gpus = 1 if choose_device(train.device).type == "cuda" else 0
        options = {"num_gpus": gpus, "resources": placement.ON_HEAD, **self._threads(train.threads)}
        return LearnerRole.options(**options).remote(self.place, self.job.limits.updates)

    def _start_actor(self, index: int, incarnation: int) -> Any:
        options = {"resources": placement.ON_ACTOR_NODE, **self._threads(self.config.actor.threads)}
        return ActorRole.options(**options).remote(self.place, index, incarnation, self.log.policy_step)

    @staticmethod
    def _threads(number: int) -> dict[str, Any]:
        """Ray would give every process one thread. How long idle threads spin: see cli.SPIN."""
        threads = str(number or os.cpu_count() or 1)
        return {"runtime_env": {"env_vars": {"OMP_NUM_THREADS": threads, "GOMP_SPINCOUNT": SPIN}}}


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
        return RayRun(job, run_log).train(stop)
    except HeadLost as error:
        raise HeadLost(f"{error}; start Ray again and go on with --resume --run-dir {job.run.path}") from error
