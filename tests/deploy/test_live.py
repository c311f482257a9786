"""A real Prometheus watches a real training on Ray: every panel has data, and a killed actor is missed."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest

from tests.cluster.tiny import ROOT, start, train_options, update_of, wait_for
from tests.deploy.pages import PANELS, only
from tests.deploy.promql import as_sent
from tests.deploy.tools import need

pytestmark = [pytest.mark.ray, pytest.mark.reverb, pytest.mark.slow]
# What only now and then has a number must have one soon; TINY has no pictures at all.
OFTEN = ("--train.checkpoint-every", "5", "--train.image-every", "2", "--train.video-every", "0")
ABSENT = {  # only(panel), of panels that have no data here
    "a GPU",
    "behavior ppo",
    "a firing alert",
    "a Ray cluster, whose dashboard agent shows its nodes",
    "a Ray cluster, whose dashboard agent shows its nodes, and a GPU",
}

LATE = {  # undefined until the model foresees one, or until returns are above 0, which they may not in this minute
    "learner/Why it stands still/return, dreamt over real",
    "world-model/Rewards foreseen/precision",
    "world-model/Ends foreseen/precision",
}


class Watched(NamedTuple):
    """A training and the Prometheus that `make monitor` starts beside it."""

    driver: subprocess.Popen[str]
    run: Path
    address: str  # of Prometheus
    greeting: str

    def ask(self, path: str, **values: str) -> Any:
        """The data of an answer of Prometheus' HTTP API; what it says of a wrong query is raised."""
        query = urllib.parse.urlencode(values)
        with urllib.request.urlopen(f"{self.address}/api/v1/{path}?{query}", timeout=30) as answer:
            found = json.load(answer)
        assert found["status"] == "success", found
        return found["data"]

    def value(self, expr: str) -> list[dict[str, Any]]:
        return self.ask("query", query=expr)["result"]

    def firing(self) -> set[str]:
        return {a["labels"]["alertname"] for a in self.ask("alerts")["alerts"] if a["state"] == "firing"}


def free() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    need("prometheus")
    run = tmp_path_factory.mktemp("watched") / "run"
    metrics, port = str(free()), str(free())
    driver = start(*train_options(run, *OFTEN, "--cluster.metrics-port", metrics))
    monitor = None
    try:
        wait_for("updates", lambda: update_of(run) > 5)
        options = ("--target", f"127.0.0.1:{metrics}", "--port", port, "--storage", str(run.parent / "prometheus"))
        monitor = subprocess.Popen(
            [sys.executable, "-m", "cluster", "monitor", *options], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        assert monitor.stdout is not None
        lines = [monitor.stdout.readline() for _ in range(6)]  # pytest's own time-out ends a wait for ever
        yield Watched(driver, run, f"http://127.0.0.1:{port}", "".join(lines))
        monitor.send_signal(signal.SIGINT)
        assert monitor.wait(60) == 130
    finally:
        for process in (monitor, driver):
            if process is not None and process.poll() is None:
                for child in psutil.Process(process.pid).children(recursive=True):
                    child.kill()
                process.kill()
                process.communicate()


def test_it_says_where_to_look(watched: Watched) -> None:
    run_id = (watched.run / "run_id").read_text().strip()
    assert run_id in watched.greeting and f"{watched.address}/alerts" in watched.greeting
    graph = re.search(r"\S+/graph\?\S+", watched.greeting)
    assert graph
    for name, expr in urllib.parse.parse_qsl(urllib.parse.urlsplit(graph[0]).query):
        if name.endswith("expr"):
            wait_for(expr, lambda expr=expr: watched.value(expr), seconds=60)


def test_every_process_is_watched(watched: Watched) -> None:
    here = {"driver", "learner", "actor-0", "replay", "board"}
    wait_for("all processes", lambda: {r["metric"]["instance"] for r in watched.value("up == 1")} == here, seconds=60)


def test_every_panel_has_data(watched: Watched) -> None:
    """All queries of all dashboards, as Grafana sends them."""
    run_id = (watched.run / "run_id").read_text().strip()
    queries = {
        f"{name}/{target['legendFormat']}": as_sent(target["expr"], run_id)
        for name, panel in PANELS.items()
        for target in panel["targets"]
        if only(panel) not in ABSENT
    }
    assert {only(panel) for panel in PANELS.values()} - ABSENT == {"", "the Ray runtime"}

    assert set(queries) >= LATE

    def empty() -> set[str]:
        now = time.time()
        ask = {"start": str(now - 60), "end": str(now), "step": "5"}
        return {name for name, query in queries.items() if not watched.ask("query_range", query=query, **ask)["result"]}

    deadline = time.monotonic() + 150
    while (left := empty() - LATE) and time.monotonic() < deadline:
        time.sleep(3)
    assert not left
    for panel in PANELS.values():  # the others are at least understood
        for target in panel["targets"]:
            watched.value(as_sent(target["expr"], run_id))


def test_a_well_run_has_no_alerts(watched: Watched) -> None:
    assert not watched.firing()


def actor_of(driver: subprocess.Popen[str]) -> psutil.Process | None:
    for child in psutil.Process(driver.pid).children(recursive=True):
        try:
            if "ray::ActorRole" in " ".join(child.cmdline()):
                return child
        except psutil.Error:
            continue
    return None


def test_a_killed_actor_is_missed_until_it_is_back(watched: Watched) -> None:
    """The rules as they are. One death is mended before anybody has to know (the driver starts an actor again within
    seconds), so it is killed whenever it comes back: the driver waits longer each time, until the alert fires."""

    def down() -> list[dict[str, Any]]:
        return watched.value('up{role="actor"} == 0')

    died = time.monotonic()
    first = actor_of(watched.driver)
    assert first is not None
    first.kill()
    wait_for("Prometheus to see it", down, seconds=30)
    seen = time.monotonic() - died
    kills = 1
    deadline = time.monotonic() + 180
    while "WorkersMissing" not in watched.firing():
        assert time.monotonic() < deadline, f"{kills} deaths of an actor and no alert"
        if (actor := actor_of(watched.driver)) is not None:
            actor.kill()
            kills += 1
        time.sleep(0.5)
    assert watched.value('ALERTS{alertname="WorkersMissing", role="actor", alertstate="firing"}')
    assert seen < 15
    wait_for("the alert to be over", lambda: "WorkersMissing" not in watched.firing(), seconds=120)
    assert not down()
    [restarts] = watched.value('dreamer_worker_restarts_total{role="actor"}')
    assert int(restarts["value"][1]) >= 1
