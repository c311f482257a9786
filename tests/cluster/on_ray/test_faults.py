"""Deaths and other mishaps of a whole run on one machine that tests/cluster/on_ray/test_ray.py does not make happen.

What each costs stands in docs/faults.md. Nodes and links of a cluster: tests/cluster/on_ray/test_growth.py.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("ray", reason="needs Ray: Python 3.11")

from cluster.on_ray import troupe
from cluster.run import books
from learner import checkpoint
from tests.cluster.disks import fill, mounted
from tests.cluster.processes import Driver, command
from tests.cluster.tiny import rows, train_options, update_of, wait_for

pytestmark = [pytest.mark.ray, pytest.mark.reverb, pytest.mark.slow]
NewDriver = Callable[..., Driver]


@pytest.fixture
def new_driver(tmp_path: Path) -> Iterator[NewDriver]:
    """Starts `train` in a run directory; whatever it starts is ended with the test."""
    started: list[Driver] = []

    def start(run: Path, *more: str, **environment: str) -> Driver:
        said = tmp_path / f"said-{len(started)}"
        started.append(Driver(said, *train_options(run, *more), **environment))
        return started[-1]

    yield start
    for driver in started:
        driver.destroy()


def after(what: str, condition: Callable[[], bool], *, seconds: float = 120) -> None:
    """Waits, and prints how long it took."""
    began = time.monotonic()
    wait_for(what, condition, seconds=seconds)
    print(f"{what}: {time.monotonic() - began:.1f} s")


def played(run: Path, actor: int) -> int:
    """Policy steps of all incarnations of an actor, as the run's books know."""
    return sum(row["played"] for row in books.read(run / "actors.json") if row["actor"] == actor)


def test_mailbox_and_silent_actor(tmp_path: Path, new_driver: NewDriver) -> None:
    """A dead mailbox loses nothing that counts; an actor that is stopped is named, killed and started again."""
    run = tmp_path / "run"
    options = ["--cluster.actors", "2", "--cluster.stall-seconds", "30", "--train.checkpoint-every", "5"]
    driver = new_driver(run, *options, HOME=str(tmp_path))
    wait_for("both actors and updates", lambda: update_of(run) > 20 and played(run, 1) > 20)
    assert {"127.0.0.1"} == addresses_listened_on(driver), "nothing but the replay server, which has no choice"
    assert not (tmp_path / ".ray" / "auth_token").exists(), "a later `ray start` is left as it was"

    driver.hurt("Mailbox").wait(10)
    update, steps = update_of(run), played(run, 0) + played(run, 1)
    after("updates after the mailbox's death", lambda: update_of(run) > update + 20)
    after("play after the mailbox's death", lambda: played(run, 0) + played(run, 1) > steps + 40)

    stopped = driver.hurt("ActorRole", signal.SIGSTOP)
    update = update_of(run)
    after("a word on the silent actor", lambda: "has said nothing for" in driver.said())
    assert update_of(run) > update + 20, "the other one plays on"
    stopped.send_signal(signal.SIGCONT)
    after("a word on its return", lambda: "is heard again" in driver.said())

    driver.hurt("ActorRole", signal.SIGSTOP)
    after("its death", lambda: "died (nothing heard for" in driver.said())
    after("its successor", lambda: any(row["incarnation"] == 1 for row in books.read(run / "actors.json")))

    assert driver.end() == 143, driver.said()
    for row in books.read(run / "actors.json"):
        assert 0 <= row["played"] - row["acknowledged"] - row["dropped"] < 100, row
    found = checkpoint.load_newest(run / "checkpoints")
    assert found is not None
    total = played(run, 0) + played(run, 1)
    assert found.policy_step == rows(run / "metrics.jsonl")[-1]["policy_step"] == total, "no step counted twice or lost"


def addresses_listened_on(driver: Driver) -> set[str]:
    """By all its processes but the replay's: Reverb's server listens on every address, whatever one wants."""
    found = set()
    for process in driver.tree():
        if "ReplayRole" not in command(process):
            connections = process.net_connections(kind="tcp")
            found |= {each.laddr.ip.removeprefix("::ffff:") for each in connections if each.status == "LISTEN"}
    return found


def test_ray_itself_dies_and_the_run_resumes(tmp_path: Path, new_driver: NewDriver) -> None:
    """Without its head a run cannot go on: it says so, ends with 1, leaves nobody behind, and resumes.

    Also where it dies owing an answer, and where the newest checkpoint is cut short: with the one before it.
    """
    run = tmp_path / "run"
    driver = new_driver(run, "--train.checkpoint-every", "2")
    wait_for("checkpoints", lambda: len(checkpoint.list_checkpoints(run / "checkpoints")) > 1)
    head = driver.hurt("/gcs_server", signal.SIGSTOP)
    time.sleep(2 * troupe.LOOK_SECONDS + 1)  # by now the driver waits for what it asked the head
    head.kill()
    assert ended_with(driver) == 1
    wait_for("the end of all its processes", lambda: not driver.left(), seconds=60)

    newest, before = checkpoint.list_checkpoints(run / "checkpoints")
    os.truncate(newest, newest.stat().st_size // 2)
    saved = checkpoint.load(before)
    again = new_driver(run, "--resume")
    wait_for("more updates", lambda: update_of(run) > saved.update + 20)
    assert f"going on from {before.name}" in again.said()
    again.hurt("/raylet")
    assert ended_with(again) == 1
    wait_for("the end of all its processes", lambda: not again.left(), seconds=60)


def ended_with(driver: Driver) -> int:
    """Exit code of a run whose Ray has died; what is to be done must have been said."""
    began = time.monotonic()
    code = driver.process.wait(300)
    print(f"ended {time.monotonic() - began:.1f} s after its Ray: {driver.said()[-300:]}")
    assert "go on with --resume" in driver.said()
    return code


def test_a_full_disk_and_another_run_beside_it(tmp_path: Path, new_driver: NewDriver) -> None:
    """On a full disk training goes on without saving, and saves when there is room again; a second run is not touched.

    The second one finds the metrics port taken first, and then runs with its own Ray, ports and directory.
    """
    small = tmp_path / "small"
    small.mkdir()
    with mounted(small, "24m"):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = str(free.getsockname()[1])
        run, other = small / "run", tmp_path / "other"
        driver = new_driver(run, "--train.checkpoint-every", "2", "--cluster.metrics-port", port)
        wait_for("a checkpoint", lambda: (run / "checkpoints" / "latest").exists() and update_of(run) > 20)

        clash = new_driver(tmp_path / "clash", "--cluster.metrics-port", port)
        assert clash.process.wait(120) == 2
        assert f"error: port {port} for metrics is in use" in clash.said()
        beside = new_driver(other, "--updates", "30")

        filler = small / "filler"
        fill(filler)
        after("a word on the full disk", lambda: "No space left" in driver.said())
        time.sleep(3)
        assert driver.process.poll() is None, driver.said()
        filler.unlink()
        update = update_of(run)
        after("updates after there is room again", lambda: update_of(run) > update + 20)
        newest = checkpoint.list_checkpoints(run / "checkpoints")[0]
        after("a new checkpoint", lambda: checkpoint.list_checkpoints(run / "checkpoints")[0] != newest)

        assert beside.process.wait(400) == 0, beside.said()
        assert driver.end() == 143, driver.said()
        found = checkpoint.load_newest(run / "checkpoints")
        assert found is not None and found.policy_step == rows(run / "metrics.jsonl")[-1]["policy_step"]
