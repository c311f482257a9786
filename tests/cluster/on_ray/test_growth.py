"""A cluster of several hosts: actors come and go with its nodes, and what a cut link does.

The hosts are namespaces of this machine, on which Ray is started by hand; see tests/deploy/test_onprem.py for `ray up`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray", reason="needs Ray: Python 3.11")

from cluster.on_ray.placement import ACTOR_NODE, HEAD_NODE
from cluster.run import books
from tests.cluster.tiny import rows, train_options, wait_for
from tests.deploy import hosts
from tests.deploy.hosts import Host, Hosts

pytestmark = [
    pytest.mark.ray,
    pytest.mark.reverb,
    pytest.mark.slow,
    pytest.mark.skipif(bool(hosts.missing()), reason=hosts.missing()),
]
RAY = f"RAY_AUTH_MODE=disabled {Path(sys.executable).parent}/ray start --disable-usage-stats --num-cpus=2 "
RAY += "--object-store-memory=100000000 --node-ip-address={address} --resources='{resources}' "
PORT = 6379


@pytest.fixture
def up() -> Iterator[Hosts]:
    with hosts.up(["head", "worker1", "worker2"]) as made:
        yield made


def start_head(host: Host) -> None:
    start_ray(host, f"--head --include-dashboard=false --port={PORT}", {HEAD_NODE: 1})


def start_worker(host: Host, head: Host) -> None:
    start_ray(host, f"--address={head.address}:{PORT}", {ACTOR_NODE: 1})


def start_ray(host: Host, how: str, resources: dict[str, int]) -> None:
    text = ", ".join(f'"{name}": {amount}' for name, amount in resources.items())
    hosts.run(host, RAY.format(address=host.address, resources=f"{{{text}}}") + how, seconds=90)


class Training:
    """`train` on the head, and what it says."""

    def __init__(self, head: Host, said: Path, *more: str) -> None:
        self.head = head
        self.run = head.root / "root/run"  # as seen from here
        options = train_options(Path("/root/run"), "--cluster.address", f"{head.address}:{PORT}", *more)
        command = f"RAY_AUTH_MODE=disabled exec {sys.executable} -m cluster {' '.join(options)}"
        self._file = said
        with self._file.open("wb") as file:
            self.process = subprocess.Popen(hosts.enter(head, command), stdout=file, stderr=file)

    def end(self) -> int:
        """SIGTERM to itself, not to what has entered the host for it -> its exit code."""
        for pid, line in hosts.pids(self.head).items():
            if f"{sys.executable} -m cluster train" in line:
                os.kill(pid, signal.SIGTERM)
        return self.process.wait(150)

    def said(self) -> str:
        return self._file.read_text(errors="replace")

    def last(self) -> dict[str, Any]:
        found = rows(self.run / "metrics.jsonl")
        return found[-1] if found else {"update": 0, "policy_step": 0}

    def accounts(self) -> dict[tuple[int, int], dict[str, Any]]:
        """(actor, incarnation) -> its account."""
        return {(row["actor"], row["incarnation"]): row for row in books.read(self.run / "actors.json")}

    def play_of(self, actor: int) -> int:
        """Policy steps of the newest incarnation of an actor."""
        own = {key: row for key, row in self.accounts().items() if key[0] == actor}
        return own[max(own)]["played"] if own else -1

    def incarnation(self, actor: int) -> int:
        """The newest of an actor that has played; -1 = none."""
        return max((incarnation for index, incarnation in self.accounts() if index == actor), default=-1)


def after(what: str, condition: Callable[[], Any], *, seconds: float = 150) -> None:
    """Waits, and prints how long it took."""
    began = time.monotonic()
    wait_for(what, condition, seconds=seconds)
    print(f"{what}: {time.monotonic() - began:.1f} s", flush=True)


def kill(host: Host, name: str) -> None:
    """SIGKILL to the process of that program on a host."""
    (pid,) = [pid for pid, line in hosts.pids(host).items() if line.split(" ")[0].endswith(name)]
    os.kill(pid, signal.SIGKILL)


def test_actors_come_and_go_with_the_nodes_and_a_cut_link_is_survived(up: Hosts, tmp_path: Path) -> None:
    head, one, two = up["head"], up["worker1"], up["worker2"]
    start_head(head)
    training = Training(head, tmp_path / "said", "--cluster.actors", "0", "--cluster.wait-seconds", "170")
    try:
        wait_for("a word on what is missing", lambda: "waiting: 0 of the 1 actor processes" in training.said())
        assert "1 with head_node 1" in training.said()
        start_worker(one, head)
        after("a node: until updates", lambda: training.last()["update"] > 0)
        assert f"metrics http://{head.address}:" in training.said()
        start_worker(two, head)
        after("a second node: until its actor plays", lambda: training.play_of(1) > 0)

        steps = training.play_of(0)
        hosts.cut(one)
        time.sleep(30)
        hosts.mend(one)
        after("link cut for 30 s and mended: until the actor plays", lambda: training.play_of(0) > steps + 20)
        assert training.incarnation(0) == 0 and "actor-0 died" not in training.said(), "nobody was given up"

        hosts.cut(one)
        began, update = time.monotonic(), training.last()["update"]
        after("link cut: until the others go on", lambda: training.last()["update"] > update + 10)
        kill(two, "/raylet")
        after("node killed: until it is said", lambda: "actor-1 died" in training.said())
        wait_for("its processes to end", lambda: not [x for x in hosts.pids(two).values() if "ray::" in x], seconds=60)
        start_worker(two, head)
        # For a moment the dead node counts, too: then it is an actor of a new index that plays.
        after("node back: until its actor plays", lambda: training.accounts().keys() - {(0, 0), (1, 0)})
        after("link cut: until the node is given up, from now", lambda: "actor-0 died" in training.said())
        print(f"link cut: given up after {time.monotonic() - began:.1f} s")
        time.sleep(max(0.0, began + 100 - time.monotonic()))
        hosts.mend(one)
        after("link mended: until the old copy has ended", lambda: not actors_on(one))
        update = training.last()["update"]
        wait_for("training to go on", lambda: training.last()["update"] > update + 10)
    finally:
        code = training.end()
        print("\n".join(line for line in training.said().splitlines() if not line.startswith("policy step")))
    assert code == 143
    for key, row in training.accounts().items():
        assert 0 <= row["played"] - row["acknowledged"] - row["dropped"] < 200, (key, row)
    assert training.last()["policy_step"] == sum(row["played"] for row in training.accounts().values())


def actors_on(host: Host) -> list[str]:
    return [line for line in hosts.pids(host).values() if line.startswith("ray::ActorRole")]
