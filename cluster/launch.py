"""The Ray runtime: starts everything, keeps it alive, ends it in order."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import ray

from cluster.board import Board, Orders
from cluster.cli import SPIN
from cluster.config import Config
from cluster.messages import Message
from cluster.roles import REPLAY, ActorRole, LearnerRole, Place, ReplayRole
from cluster.run_dir import choose_device, env_spec
from cluster.run_log import RunLog
from cluster.signals import Stop
from cluster.training import Job, reached
from learner.config import Diverged
from replay.config import UserError
from replay.ports import free_port

log = logging.getLogger("launch")
START_SECONDS = 120.0  # that a process may take to start
END_SECONDS = 180.0  # that the learner may take to save
BACK_OFF = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)  # seconds between a death and the next start, growing
HEALTHY_SECONDS = 60.0  # alive for so long: the next death counts as the first


@dataclass
class Worker:
    """One process that must run, and how to start it again."""

    role: str
    start: Callable[[int], Any]  # incarnation -> Ray actor handle
    handle: Any = None
    ref: Any = None  # of its `run`, ready when it has ended
    incarnation: int = 0
    failures: int = 0  # in a row
    started: float = 0.0
    due: float = 0.0  # when to start it again

    def launch(self) -> None:
        self.handle = self.start(self.incarnation)
        self.ref = self.handle.run.remote()
        self.started = time.monotonic()

    def died(self, error: Exception) -> str:
        """Takes note of a death; returns what to tell the person who watches."""
        now = time.monotonic()
        self.failures = 0 if now - self.started > HEALTHY_SECONDS else self.failures
        wait = BACK_OFF[min(self.failures, len(BACK_OFF) - 1)]
        self.failures, self.incarnation = self.failures + 1, self.incarnation + 1
        self.handle, self.ref, self.due = None, None, now + wait
        return f"{self.role} died ({last_line(error)}); starting it again in {wait:.0f} s"


def last_line(error: Exception) -> str:
    """The end of what an error says: where Ray puts the reason."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:200] if lines else type(error).__name__


def user_error(error: Exception) -> UserError | None:
    """The UserError inside what Ray makes of it, if the request is what is wrong."""
    cause = getattr(error, "cause", None)
    return cause if isinstance(cause, UserError) else None


def raise_if_diverged(error: Exception) -> None:
    """A learner that started again would only diverge again."""
    if isinstance(cause := getattr(error, "cause", None), Diverged):
        raise cause from error


class RayRun:
    """One training run on Ray."""

    def __init__(self, job: Job, run_log: RunLog) -> None:
        self.job, self.log = job, run_log
        config = job.config
        # Fixed from here on: a restarted server must be found where the old one was.
        port = free_port(config.replay.port)
        self.config = config = replace(config, replay=replace(config.replay, port=port))
        self.board = Board.remote(config.cluster)
        self.place = Place(config, job.run, env_spec(config), self.board, f"{config.cluster.host}:{port}")
        self.replay = Worker("replay", self._start_replay)
        self.learner = Worker("learner", self._start_learner)
        self.actors = [Worker(f"actor-{n}", self._actor_starter(n)) for n in range(config.cluster.actors)]
        self.began = time.monotonic()

    def train(self, stop: Stop) -> str:
        """Runs until a limit or a signal; saves; returns why it ended."""
        self.replay.launch()
        self._await_start(self.replay.handle.address.remote(), "the replay server")
        for worker in (self.learner, *self.actors):
            worker.launch()
        self.log.expect(["board", *(worker.role for worker in (self.replay, self.learner, *self.actors))])
        why = ""
        while not why:
            self._exchange(Orders(policy_step=self.log.policy_step))
            why = self._supervise([self.replay, self.learner, *self.actors], timeout=0.5)
            why = why or self._why_end(stop)
        self._end(why)
        return why

    # --- One turn of the driver's loop ---

    def _exchange(self, orders: Orders) -> None:
        """Gives orders and takes in what was reported; a board that is being restarted is tried again next time."""
        try:
            messages: list[Message] = ray.get(self.board.exchange.remote(orders), timeout=10)
        except (ray.exceptions.RayError, TimeoutError) as error:
            log.warning("the board does not answer (%s)", type(error).__name__)
            return
        for message in messages:
            self.log.handle(message)

    def _supervise(self, workers: list[Worker], timeout: float) -> str:
        """Starts again what died. Returns why training is over if the learner has ended by itself."""
        for worker in workers:
            if worker.ref is None and time.monotonic() >= worker.due:
                self._restart(worker)
        refs = {worker.ref: worker for worker in workers if worker.ref is not None}
        if not refs:  # all of them have died: their back-off passes
            time.sleep(timeout)
            return ""
        done, _ = ray.wait(list(refs), num_returns=1, timeout=timeout)
        for ref in done:
            worker = refs[ref]
            try:
                ray.get(ref)
            except ray.exceptions.RayError as error:
                # What is wrong at the first start is the request; later it is what a death has left behind.
                if worker.incarnation == 0 and (wrong := user_error(error)):
                    raise wrong from error
                raise_if_diverged(error)
                self.log.say(worker.died(error))
                continue
            if worker is self.learner:
                return "the learner did its last update"
        return ""

    def _restart(self, worker: Worker) -> None:
        self.log.restarted(worker.role)
        try:
            worker.launch()
        except ValueError as error:  # Ray has not yet noticed that the name is free again
            self.log.say(worker.died(error))

    def _why_end(self, stop: Stop) -> str:
        if stop.signal:
            return f"signal {stop.signal}"
        minutes = (time.monotonic() - self.began) / 60
        return reached(self.job.limits, policy_step=self.log.policy_step, update=self.log.update, minutes=minutes)

    def _end(self, why: str) -> None:
        """Actors first, so that the last checkpoint knows every step that was played; then the learner saves."""
        self.log.say(f"ending: {why}; saving ...")
        self._finish(self.actors, seconds=30.0, orders=lambda: Orders(True, False, self.log.policy_step))
        self._finish([self.learner], seconds=END_SECONDS, orders=lambda: Orders(True, True, self.log.policy_step))

    def _finish(self, workers: list[Worker], *, seconds: float, orders: Callable[[], Orders]) -> None:
        deadline = time.monotonic() + seconds
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
        return ReplayRole.options(name=REPLAY, **self._threads(1)).remote(self.place)

    def _start_learner(self, incarnation: int) -> Any:
        train = self.config.train
        gpus = 1 if choose_device(train.device).type == "cuda" else 0
        options = {"num_gpus": gpus, **self._threads(train.threads)}
        return LearnerRole.options(**options).remote(self.place, self.job.limits.updates)

    def _actor_starter(self, index: int) -> Callable[[int], Any]:
        def start(incarnation: int) -> Any:
            options = self._threads(self.config.actor.threads)
            return ActorRole.options(**options).remote(self.place, index, incarnation, self.log.policy_step)

        return start

    @staticmethod
    def _threads(number: int) -> dict[str, Any]:
        """Ray would give every process one thread. How long idle threads spin: see cli.SPIN."""
        threads = str(number or os.cpu_count() or 1)
        return {"runtime_env": {"env_vars": {"OMP_NUM_THREADS": threads, "GOMP_SPINCOUNT": SPIN}}}


def train(job: Job, run_log: RunLog, stop: Stop) -> str:
    """Joins or starts Ray, trains, and leaves Ray as it was."""
    start_ray(job.config, namespace=job.run.id)
    stop.install()
    try:
        return RayRun(job, run_log).train(stop)
    finally:
        ray.shutdown()


def start_ray(config: Config, *, namespace: str) -> None:
    """A Ray of our own on this machine, or the one at cluster.address."""
    # Ray reports its use to its makers unless told otherwise; a training run has no business with that.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    local = config.cluster.address == "local"
    try:
        ray.init(
            address="local" if local else config.cluster.address,
            namespace=namespace,
            include_dashboard=False if local else None,
            # Roles are placed by hand and counted as 0 CPUs: two cores must be enough for all of them.
            object_store_memory=512 * 2**20 if local else None,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except ConnectionError as error:
        raise UserError(f"no Ray at cluster.address {config.cluster.address}: {last_line(error)}") from error
