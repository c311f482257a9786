"""How a metric is declared: data alone, so that documentation, dashboards and tests can read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

COUNTER, GAUGE, HISTOGRAM = "counter", "gauge", "histogram"

# Who records a metric. EVERY is each process, itself; the inline runtime's one process is all of them.
DRIVER, ACTOR, REPLAY, LEARNER, EVERY = "driver", "actor", "replay", "learner", "every process"
MAILBOX = "board"  # its first name, kept in names and labels of metrics: people's dashboards and alerts ask for them
ROLES = (DRIVER, ACTOR, REPLAY, LEARNER, MAILBOX)


@dataclass(frozen=True)
class Spec:
    """One metric."""

    name: str  # as it is scraped; a histogram's without _bucket, _sum and _count
    kind: str  # COUNTER, GAUGE or HISTOGRAM
    unit: str  # in words; "" = a pure number
    help: str  # what it is
    healthy: str  # what good looks like
    mend: str  # what to do when it does not look so; "" where the number only informs
    by: str  # who records it
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # name -> its values; () = not known beforehand
    buckets: tuple[float, ...] = ()  # of a histogram: upper bounds, without infinity
    only: str = ""  # where it exists, in words; "" = in every run
