"""How many actors do one replay server and one mailbox carry? `python -m tests.scale [--actors 1 8 ...]`

Real writers, sampler, Reverb server, mailbox and weights; recorded games instead of played ones, and a learner that
only takes batches and publishes. So nothing computes but what has to scale: on a machine of its own an actor costs the
server no more than here. Every actor is held to the pace of a real one. One line per number of actors:

    written, read   policy steps and windows per second, and the share of what was asked for
    waits           share of its time that the learner waits for batches
    post, pull      milliseconds of a message to the mailbox, and of fetching new weights from it (median, 99 %)
    CPU             cores used by the replay server, the mailbox, the simulated actors, the learner
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import chain, cycle
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import ray

from cluster.assemble import env_spec, make_agent
from cluster.bench.replay import RUN, Job, answer, child, record
from cluster.config import ClusterConfig, Config
from cluster.messages import ActorMessage
from cluster.metrics import Meter
from cluster.on_ray.environment import set_for
from cluster.on_ray.instruments import Instruments
from cluster.on_ray.mailbox import Mailbox, Orders
from cluster.on_ray.mailbox_client import MESSAGE_SECONDS, MailboxClient
from cluster.on_ray.parcels import Reader
from cluster.on_ray.placement import ray_of
from cluster.presets import preset
from replay import EnvSpec, ReplayConfig, connect

PER_PROCESS = 8  # simulated actors in one process: what a process costs is not what is asked
WARM_UP = 5.0  # seconds


@dataclass
class Load:
    """One number of actors."""

    actors: int
    steps_asked: float  # per second
    steps_written: float
    windows_asked: float
    windows_read: float
    learner_wait: float
    post_ms: tuple[float, float]  # median, 99th percentile
    pull_ms: tuple[float, float]
    cores: dict[str, float]


@ray.remote(num_cpus=0)
class Actors:
    """Some actors whose games were recorded before."""

    def __init__(self, mailbox: Any, address: str, config: ReplayConfig, spec: EnvSpec, games: int) -> None:
        self.links = [MailboxClient(mailbox, Instruments(Meter(), None)) for _ in range(PER_PROCESS)]
        recorded = record(spec)
        turns = [recorded[n % len(recorded) :] + recorded[: n % len(recorded)] for n in range(games)]
        self.replay = connect(address, config, spec, run_id=RUN)
        self.writers = [self.replay.writer() for _ in range(PER_PROCESS * games)]
        self.records = [cycle(chain.from_iterable(turns[n % games])) for n in range(len(self.writers))]
        self.games = games

    def play(self, actors: int, pace: float, seconds: float, pull_every: int) -> dict[str, Any]:
        """Plays `actors` of them at `pace` steps/s each -> steps confirmed, milliseconds of each call, CPU seconds."""
        writers = self.writers[: actors * self.games]
        cpu, before = cpu_seconds(psutil.Process()), sum(writer.acknowledged for writer in writers)
        posts, pulls, tick, began = [], [], 0, time.monotonic()
        messages = [began + MESSAGE_SECONDS * n / actors for n in range(actors)]
        while (now := time.monotonic()) < began + seconds:
            due = began + tick * self.games / pace
            if now < due:
                time.sleep(due - now)
            for writer, records in zip(writers, self.records, strict=False):
                step, prev, is_last = next(records)
                writer.append(step, is_last=is_last, policy_version=0, prev=prev)
            for n in range(actors):
                if (tick + n) % pull_every == 0:
                    asked = time.perf_counter()
                    if self.links[n].newer_weights():
                        pulls.append(1e3 * (time.perf_counter() - asked))
                if now >= messages[n]:
                    messages[n] += MESSAGE_SECONDS
                    asked = time.perf_counter()
                    self.links[n].post(ActorMessage(n, 0, 0, [], 0, 1.0, 0.0, 0, 0))
                    posts.append(1e3 * (time.perf_counter() - asked))
            tick += 1
        elapsed = time.monotonic() - began
        written = sum(writer.acknowledged for writer in writers) - before
        return {
            "steps": written / elapsed,
            "posts": posts,
            "pulls": pulls,
            "cores": (cpu_seconds(psutil.Process()) - cpu) / elapsed,
        }


@ray.remote(num_cpus=0)
class Learner:
    """Takes batches at the rate that the replay ratio asks for, and publishes weights."""

    def __init__(
        self, mailbox: Any, address: str, config: ReplayConfig, spec: EnvSpec, weights: list[np.ndarray]
    ) -> None:
        self.mailbox, self.weights = mailbox, weights
        self.sampler = connect(address, config, spec, run_id=RUN).sampler()
        self.batch = config.batch

    def train(self, windows_per_second: float, seconds: float, publish_every: int) -> dict[str, float]:
        """-> windows per second, share of the time waited, CPU cores."""
        cpu, began, waited, updates = cpu_seconds(psutil.Process()), time.monotonic(), 0.0, 0
        while (now := time.monotonic()) < began + seconds:
            due = began + updates * self.batch / windows_per_second
            if now < due:
                time.sleep(due - now)
            asked = time.monotonic()
            self.sampler.sample(timeout=60)
            waited += time.monotonic() - asked
            updates += 1
            if updates % publish_every == 0:
                self.mailbox.publish.remote(updates, self.weights)
        elapsed = time.monotonic() - began
        cores = (cpu_seconds(psutil.Process()) - cpu) / elapsed
        return {"windows": updates * self.batch / elapsed, "wait": waited / elapsed, "cores": cores}


def measure(name: str, counts: list[int], pace: float, seconds: float) -> Iterator[Load]:
    """A load for each number of actors, each at `pace` policy steps per second."""
    config = preset(name)
    spec = env_spec(config)
    weights = [weight.numpy() for weight in make_agent(config, spec).snapshot(0).weights]
    # Neither capacity nor rate limit may hold anybody up: the pace is ours.
    free = replace(config.replay, capacity=2_000_000, batch=10**9, prefill=0, replay_ratio=1.0)
    with (
        ray_of(ClusterConfig(metrics_port=-1), namespace="scale"),
        tempfile.TemporaryDirectory() as folder,
        child("serve", Job(free, spec, folder, 0.0)) as server,
    ):
        mailbox, address, reader = Mailbox.remote(ClusterConfig(metrics_port=-1)), answer(server), Reader()
        processes = -(-max(counts) // PER_PROCESS)
        actors = [Actors.remote(mailbox, address, free, spec, config.actor.games) for _ in range(processes)]
        ray.get([actor.play.remote(1, 1e9, 3.0, 10**9) for actor in actors])  # something to sample from
        learner = Learner.remote(mailbox, address, replace(config.replay, prefill=0), spec, weights)
        mailbox_process = next(p for p in psutil.process_iter() if "ray::Mailbox" in " ".join(safe_cmdline(p)))
        for count in counts:
            turn(config, actors, learner, count=count, pace=pace, seconds=WARM_UP)
            before = [cpu_seconds(p) for p in (psutil.Process(server.pid), mailbox_process)]
            played, trained = turn(config, actors, learner, count=count, pace=pace, seconds=seconds)
            after = [cpu_seconds(p) for p in (psutil.Process(server.pid), mailbox_process)]
            reader.open(ray.get(mailbox.exchange.remote(Orders(), reader.receipt)))
            used = [(b - a) / seconds for a, b in zip(before, after, strict=True)]
            yield summary(config, count, pace, played, trained, used)


def turn(
    config: Config, actors: list[Any], learner: Any, *, count: int, pace: float, seconds: float
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """`count` actors play and the learner trains, all at once -> what they say of it."""
    shares = [min(PER_PROCESS, count - n * PER_PROCESS) for n in range(len(actors))]
    plays = [
        actor.play.remote(share, pace, seconds, config.actor.pull_every)
        for actor, share in zip(actors, shares, strict=True)
        if share > 0
    ]
    training = learner.train.remote(windows_asked(config, count, pace), seconds, config.train.publish_every)
    return ray.get(plays), ray.get(training)


def windows_asked(config: Config, count: int, pace: float) -> float:
    """Windows per second that the learner trains on where so many actors play at this pace."""
    return count * pace * config.replay.replay_ratio / config.replay.length


def summary(
    config: Config, count: int, pace: float, played: list[dict[str, Any]], trained: dict[str, float], used: list[float]
) -> Load:
    """One line of the table. used: cores of replay server and mailbox."""
    return Load(
        actors=count,
        steps_asked=count * pace,
        steps_written=sum(each["steps"] for each in played),
        windows_asked=windows_asked(config, count, pace),
        windows_read=trained["windows"],
        learner_wait=trained["wait"],
        post_ms=percentiles([ms for each in played for ms in each["posts"]]),
        pull_ms=percentiles([ms for each in played for ms in each["pulls"]]),
        cores={
            "replay": used[0],
            "mailbox": used[1],
            "actors": sum(each["cores"] for each in played),
            "learner": trained["cores"],
        },
    )


def cpu_seconds(process: psutil.Process) -> float:
    return sum(process.cpu_times()[:2])


def safe_cmdline(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def percentiles(milliseconds: list[float]) -> tuple[float, float]:
    """Median and 99th percentile; NaN where nothing was measured."""
    if not milliseconds:
        return float("nan"), float("nan")
    return float(np.median(milliseconds)), float(np.percentile(milliseconds, 99))


def line(load: Load) -> str:
    cores = ", ".join(f"{name} {used:.2f}" for name, used in load.cores.items())
    return (
        f"| {load.actors} | {load.steps_written:,.0f} ({load.steps_written / load.steps_asked:.0%}) "
        f"| {load.windows_read:,.0f} ({load.windows_read / load.windows_asked:.0%}) | {load.learner_wait:.1%} "
        f"| {load.post_ms[0]:.1f}, {load.post_ms[1]:.0f} | {load.pull_ms[0]:.1f}, {load.pull_ms[1]:.0f} | {cores} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="paper")
    parser.add_argument("--actors", type=int, nargs="+", default=[1, 4, 8, 16, 24, 32, 48, 64])
    parser.add_argument("--pace", type=float, default=100.0, help="policy steps per second of one actor")
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    print("| actors | written, steps/s | read, windows/s | waits | post, ms | pull, ms | CPU cores |\n|" + "---|" * 7)
    loads = []
    for load in measure(options.preset, options.actors, options.pace, options.seconds):
        print(line(load), flush=True)
        loads.append(load)
    if options.out:
        options.out.write_text(json.dumps([asdict(load) for load in loads], indent=1) + "\n")


if __name__ == "__main__":
    if "RAY_AUTH_MODE" not in os.environ:  # Ray reads it while it is imported, which has happened: once more, with it
        set_for(ClusterConfig())
        os.execv(sys.executable, [sys.executable, "-m", "tests.scale", *sys.argv[1:]])
    main()
