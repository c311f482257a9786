"""What the metrics cost the learner: every part of it timed alone, as a share of the learner's time."""

from __future__ import annotations

import http.client
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import torch

from cluster.assemble import env_spec, make_agent
from cluster.bench.parts import random_play
from cluster.config import Config
from cluster.metrics import Meter
from cluster.metrics.http import pages_of, serve
from cluster.metrics.spec import LEARNER
from cluster.training import Tally
from learner.clock import Clock
from learner.device import prepare_learner
from learner.loop import learn
from learner.step import make_optimizers

UPDATES, WARM_UP = 25, 5
REPEATS = 200  # of what takes microseconds
MESSAGE_SECONDS = 1.0  # the learner reports so often
SCRAPE_SECONDS = 5.0  # and Prometheus asks so often (deploy/prometheus)
MOST = 0.005  # of the learner's time


class MetricsBench(NamedTuple):
    """Seconds of the learner's process, per update."""

    preset: str
    device: str
    seconds_per_update: float
    clock_seconds: float  # phases and counts, at every update
    message_seconds: float  # values, once a second
    scrape_seconds: float  # a page over HTTP, every five seconds; asked for by this process itself, so too much
    share: float  # of the learner's time that all three take


def bench_metrics(name: str, config: Config, device: torch.device) -> MetricsBench:
    """Real updates of preset `name`, then what the metrics of such an update take."""
    prepare_learner(config.train)
    agent = make_agent(config, env_spec(config)).to(device)
    clock, meter, sample = Clock(device), Meter(LEARNER), random_play(config)
    tally = Tally(0, meter, clock)
    reports = learn(
        agent, make_optimizers(agent, config.train), [sample] * UPDATES, config.train, device=device, mark=clock.mark
    )
    each = []
    for report in reports:
        clock.mark_read("other")
        each.append(time.perf_counter())
        tally.add(report)
    seconds = statistics.median(b - a for a, b in zip(each[WARM_UP:-1], each[WARM_UP + 1 :], strict=True))
    message = tally.message()
    phases = dict.fromkeys(("wait", "world_model", "dream", "behavior", "other"), 0.1)

    def mark() -> None:
        for phase in ("wait", "other", "update", "world_model", "dream", "behavior", "other", "publish", "other"):
            clock.mark(phase)

    marks = once(mark)
    told = once(lambda: tally.recorder.message(message, phases))
    host, _, port = serve(pages_of(meter), "127.0.0.1", 0).partition(":")
    scrape = once(lambda: fetch(host, int(port)))
    return MetricsBench(
        preset=name,
        device=device.type,
        seconds_per_update=seconds,
        clock_seconds=marks,
        message_seconds=told,
        scrape_seconds=scrape,
        share=marks / seconds + told / MESSAGE_SECONDS + scrape / SCRAPE_SECONDS,
    )


def once(work: Callable[[], object]) -> float:
    """Seconds of one call, median of many."""
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def fetch(host: str, port: int) -> bytes:
    """The page as Prometheus gets it."""
    connection = http.client.HTTPConnection(host, port, timeout=10)
    try:
        connection.request("GET", "/metrics")
        return connection.getresponse().read()
    finally:
        connection.close()
