"""The driver's view of the run, for Prometheus: its numbers, where those of the others are, who is missing."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

from cluster.config import Config
from cluster.messages import Target
from cluster.metrics import Meter
from cluster.metrics.http import pages_of, serve
from cluster.metrics.spec import ACTOR, DRIVER, LEARNER, REPLAY
from cluster.metrics.targets import Targets
from cluster.run.directory import Run
from cluster.run.progress import Progress
from learner.device import choose_device, choose_precision


class RunView:
    """Everything that the driver shows. Where metrics are off it counts nothing and serves nothing."""

    def __init__(self, config: Config, run: Run, *, runtime: str) -> None:
        self._on = config.cluster.metrics_port >= 0
        alone = runtime != "ray"  # in one process there is one meter for all
        roles = (DRIVER, ACTOR, REPLAY, LEARNER) if alone else (DRIVER,)
        self.meter = Meter(*roles) if self._on else Meter()
        self._targets = Targets(run.id, run.path / "prometheus" / "targets.json")
        self._heard: dict[str, float] = {}  # worker -> time of its last message
        self.address = "off"
        if self._on:
            self.address = self._serve(config, "inline" if alone else "driver")
        device = choose_device(config.train.device)
        precision = choose_precision(config.train.precision, device)
        labels = (config.env.id, runtime, str(device), precision, program_version())
        self.meter.set("dreamer_run_info", 1, *labels)
        self.meter.set("dreamer_run_start_timestamp_seconds", time.time())
        self.meter.set("dreamer_replay_ratio_wanted", config.replay.replay_ratio)

    def announce(self, target: Target) -> None:
        """A worker says where its metrics are."""
        self._targets.announce(target)
        self.heard(target.instance)

    def heard(self, worker: str) -> None:
        """A worker has said something."""
        self._heard[worker] = time.time()
        self.meter.set("dreamer_driver_message_timestamp_seconds", self._heard[worker], worker)

    def expect(self, workers: Sequence[str]) -> None:
        """Which workers should be running from now on: "learner", "replay", "board" (the mailbox), "actor-3" ..."""
        self.meter.forget("dreamer_workers_expected")
        for role, count in Counter(name.partition("-")[0] for name in workers).items():
            self.meter.set("dreamer_workers_expected", count, role)
        self._heard = {worker: when for worker, when in self._heard.items() if worker in workers}
        self.meter.forget("dreamer_driver_message_timestamp_seconds")
        for worker, when in self._heard.items():
            self.meter.set("dreamer_driver_message_timestamp_seconds", when, worker)
        if self._on:
            self._targets.expect(workers)

    def progress(self, now: Progress) -> None:
        """How far the run is."""
        self.meter.set("dreamer_driver_policy_steps", now.policy_step)
        self.meter.set("dreamer_driver_frames", now.frame)
        self.meter.set("dreamer_driver_updates", now.update)
        if (score := now.score()) is not None:
            self.meter.set("dreamer_driver_score_points", score)
            self.meter.set("dreamer_driver_score_max_points", max(now.scores))
        if now.replay_ratio is not None:
            self.meter.set("dreamer_replay_ratio", now.replay_ratio)

    def write(self) -> None:
        """Writes the list of targets once more."""
        if self._on:
            self._targets.write()

    def close(self) -> None:
        """The run is over: there is nothing to look at any more, and nobody is missing."""
        if self._on:
            self._targets.close()

    def _serve(self, config: Config, role: str) -> str:
        """On the one port that is known beforehand -> URL."""
        pages = pages_of(self.meter) | {"/sd": self._targets.discovery_page, "/healthz": self._targets.health_page}
        address = serve(pages, config.cluster.host, config.cluster.metrics_port)
        self._targets.announce(Target(role, role, address))
        return f"http://{address}/metrics"


def program_version() -> str:
    """Of this program, as it was installed."""
    try:
        return version("dreamer")
    except PackageNotFoundError:
        return "unknown"
