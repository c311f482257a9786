"""Every Prometheus metric, declared once: CATALOGUE (the tables are run.py and learner.py beside this).

A process counts with a `Meter` of its own and shows it on a port of its own (http.py).
"""

from __future__ import annotations

from collections.abc import Iterator

import psutil
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from cluster.metrics.learner import LEARNER_METRICS
from cluster.metrics.run import RUN_METRICS
from cluster.metrics.spec import COUNTER, EVERY, GAUGE, HISTOGRAM, REPLAY, Spec

CATALOGUE: tuple[Spec, ...] = (*RUN_METRICS, *LEARNER_METRICS)
SPECS = {spec.name: spec for spec in CATALOGUE}
disable_created_metrics()  # a second series for every counter, with the time at which it began: nobody asks for it
RESIDENT = "dreamer_replay_resident_bytes"  # read when asked for, as those of every process


class Meter:
    """The numbers of one process that plays `roles`; of no role: one that counts nothing.

    A counter shows 0 from the start, a gauge nothing before it is set: nobody is to take an unknown number for 0.
    """

    def __init__(self, *roles: str) -> None:
        self.registry = CollectorRegistry()
        self._on = bool(roles)
        self._metrics: dict[str, Counter | Gauge | Histogram] = {}
        if not self._on:
            return
        self._specs = {spec.name: spec for spec in CATALOGUE if spec.by in roles and spec.name != RESIDENT}
        for spec in self._specs.values():
            if spec.kind != GAUGE:
                metric = self._metric(spec.name)
                for value in next(iter(spec.labels.values()), ()):
                    metric.labels(value)
        self.registry.register(_Process(holds_replay=REPLAY in roles))

    def add(self, name: str, amount: float = 1.0, *labels: str) -> None:
        """Counts up. KeyError for a metric that this process has not got."""
        if self._on:
            metric = self._metric(name)
            (metric.labels(*labels) if labels else metric).inc(amount)  # type: ignore[union-attr]

    def set(self, name: str, value: float, *labels: str) -> None:
        """A gauge's value from now on. KeyError likewise."""
        if self._on:
            metric = self._metric(name)
            (metric.labels(*labels) if labels else metric).set(value)  # type: ignore[union-attr]

    def observe(self, name: str, value: float) -> None:
        """One more value in a histogram. KeyError likewise."""
        if self._on:
            self._metric(name).observe(value)  # type: ignore[union-attr]

    def forget(self, name: str) -> None:
        """Of a metric with labels: none of its values counts any more."""
        if self._on:
            self._metric(name).clear()

    def page(self) -> bytes:
        """What Prometheus reads."""
        return generate_latest(self.registry)

    def _metric(self, name: str) -> Counter | Gauge | Histogram:
        if name not in self._metrics:
            self._metrics[name] = _make(self._specs[name], self.registry)
        return self._metrics[name]


class Growth:
    """How much a count that somebody else keeps has grown since it was looked at last."""

    def __init__(self, start: float = 0.0) -> None:
        self._last = start

    def to(self, count: float) -> float:
        """Never negative: a count that begins again has grown by nothing that is known."""
        grown, self._last = max(0.0, count - self._last), count
        return grown


def _make(spec: Spec, registry: CollectorRegistry) -> Counter | Gauge | Histogram:
    labels = list(spec.labels)
    if spec.kind == COUNTER:
        return Counter(spec.name.removesuffix("_total"), spec.help, labels, registry=registry)
    if spec.kind == HISTOGRAM:
        return Histogram(spec.name, spec.help, labels, buckets=spec.buckets, registry=registry)
    return Gauge(spec.name, spec.help, labels, registry=registry)


class _Process:
    """What the operating system knows of this process, read when somebody asks.

    Not prometheus_client's ProcessCollector: it knows /proc alone, and names and describes what it shows otherwise than
    our catalogue, which documentation, dashboards and alerts are made from.
    """

    def __init__(self, *, holds_replay: bool) -> None:
        self._holds_replay, self._process = holds_replay, psutil.Process()

    def collect(self) -> Iterator[Metric]:
        with self._process.oneshot():
            resident, times = self._process.memory_info().rss, self._process.cpu_times()
            values = {
                "dreamer_process_resident_bytes": resident,
                "dreamer_process_cpu_seconds_total": times.user + times.system,
                "dreamer_process_start_timestamp_seconds": self._process.create_time(),
            }
        if self._holds_replay:
            values[RESIDENT] = resident
        for name, value in values.items():
            spec = SPECS[name]
            assert spec.by in (EVERY, REPLAY), name
            if spec.kind == COUNTER:
                yield CounterMetricFamily(name, spec.help, value)
            else:
                yield GaugeMetricFamily(name, spec.help, value)
