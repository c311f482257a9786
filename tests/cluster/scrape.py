"""Reads a run's metrics as Prometheus would: the fixed port says where the others are."""

from __future__ import annotations

import json
import math
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from cluster.metrics import CATALOGUE
from cluster.metrics.learner import EVENTS
from cluster.metrics.spec import HISTOGRAM
from cluster.run import state as run_state

# What a short run may not have: no batch with such an event, no ball that the dream shows.
MAYBE = {spec.name for spec in CATALOGUE if spec.only == EVENTS} | {"dreamer_learner_ball_error_pixels"}
# Phases of the learner that every run comes to; the clock tells them a moment after what they made is there.
PHASES = ("world_model", "dream", "behavior", "checkpoint", "pictures")


class Value(NamedTuple):
    """One series."""

    instance: str
    labels: dict[str, str]
    value: float


Scrape = dict[str, list[Value]]  # name -> its series in all processes


def base(run: Path) -> str:
    """URL of the driver's server."""
    state = run_state.read(run)
    assert state is not None
    return state.metrics.removesuffix("/metrics")


def get(url: str) -> tuple[int, str]:
    """Status and body."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def targets(run: Path) -> dict[str, dict[str, Any]]:
    """Instance -> its entry in /sd."""
    status, body = get(f"{base(run)}/sd")
    assert status == 200
    return {entry["labels"]["instance"]: entry for entry in json.loads(body)}


def scrape(run: Path) -> Scrape:
    """Everything that all processes show now."""
    found: Scrape = {}
    for instance, entry in targets(run).items():
        status, body = get(f"http://{entry['targets'][0]}/metrics")
        assert status == 200, instance
        for family in text_string_to_metric_families(body):
            for sample in family.samples:
                found.setdefault(sample.name, []).append(Value(instance, sample.labels, sample.value))
    return found


def missing(found: Scrape, *, runtime: str) -> set[str]:
    """Metrics of the catalogue that a run on a CPU with the default behaviour must show and does not."""
    here = ("", "Breakout", "--runtime ray") if runtime == "ray" else ("", "Breakout")
    names = {s.name + ("_count" if s.kind == HISTOGRAM else "") for s in CATALOGUE if s.only in here}
    return (names - MAYBE - set(found)) | {f"seconds of {name}" for name in PHASES if not phases(found).get(name)}


def phases(found: Scrape) -> dict[str, float]:
    """Seconds that the learner has spent in each of its phases."""
    return {one.labels["phase"]: one.value for one in found.get("dreamer_learner_phase_seconds_total", [])}


def total(found: Scrape, name: str) -> float:
    return sum(series.value for series in found[name])


def check_sane(found: Scrape) -> None:
    """Nothing that is not declared, every number finite and of its kind."""
    declared = {spec.name for spec in CATALOGUE}
    for name, series in found.items():
        family = next((name.removesuffix(end) for end in ("_bucket", "_count", "_sum") if name.endswith(end)), name)
        assert name in declared or family in declared, name
        for one in series:
            assert math.isfinite(one.value), (name, one)
            if name.endswith("_timestamp_seconds"):
                assert time.time() - 3600 < one.value < time.time() + 1, (name, one)
            if name.endswith("_ratio") and name != "dreamer_replay_ratio":
                assert 0 <= one.value <= 1, (name, one)
    assert total(found, "dreamer_actor_frames_total") == 4 * total(found, "dreamer_actor_policy_steps_total")
    assert total(found, "dreamer_learner_updates_total") > 0
    assert all(one.value > 2**24 for one in found["dreamer_process_resident_bytes"])
    assert phases(found)["update"] < 0.1 * phases(found)["world_model"]  # on a CPU only the way to its first part
