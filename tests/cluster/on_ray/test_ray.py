"""End to end on real Ray with a real Reverb server, and what is left of it when processes die."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from cluster.commands.status import describe, read_files
from learner import checkpoint
from tests.cluster.scrape import base, check_sane, get, missing, scrape, targets, total
from tests.cluster.tiny import finish, rows, start, train_options, update_of, wait_for

pytestmark = [pytest.mark.ray, pytest.mark.reverb]
SAVE_OFTEN = ("--train.checkpoint-every", "2")


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[str]]]:
    """Whatever a test starts here is ended with all its children."""
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        if process.poll() is None:
            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
            process.kill()
            process.communicate()


def find_role(driver: subprocess.Popen[str], role: str) -> psutil.Process | None:
    """The Ray process that plays `role` under this driver."""
    for child in psutil.Process(driver.pid).children(recursive=True):
        try:
            if f"ray::{role}" in " ".join(child.cmdline()):
                return child
        except psutil.Error:
            continue
    return None


def kill_role(driver: subprocess.Popen[str], role: str) -> None:
    process = wait_for(f"a process of {role}", lambda: find_role(driver, role))
    process.kill()
    process.wait(10)


def policy_step_of(run: Path) -> int:
    found = rows(run / "metrics.jsonl")
    return found[-1]["policy_step"] if found else 0


def test_training_is_watched_stopped_and_resumed(tmp_path: Path, processes: list[subprocess.Popen[str]]) -> None:
    run = tmp_path / "run"
    driver = start(*train_options(run, *SAVE_OFTEN, "--train.image-every", "2"))
    processes.append(driver)
    wait_for("updates", lambda: update_of(run) > 20)
    wait_for("every metric", lambda: not missing(scrape(run), runtime="ray"), seconds=60)
    check_scrape(run)
    assert state_of(run) == "running"
    driver.send_signal(signal.SIGTERM)
    code, _, err = finish(driver)
    assert code == 143, err
    assert state_of(run) == "ended"
    assert json.loads((run / "prometheus" / "targets.json").read_text()) == []  # nobody is missed any more
    before = checkpoint.load_newest(run / "checkpoints")
    assert before is not None
    assert before.policy_step == policy_step_of(run)  # the last checkpoint knows every step that was played

    driver = start(*train_options(run, "--resume", "--updates", str(before.update + 10)))
    processes.append(driver)
    code, _, err = finish(driver)
    assert code == 0, err
    assert f"going on from {before.path.name}" in err
    after = checkpoint.load_newest(run / "checkpoints")
    assert after is not None and after.update == before.update + 10
    # Ten updates at ratio 8 stand for 40 policy steps; the limiter lets the actors run ahead by its error buffer.
    assert 0 <= after.policy_step - before.policy_step < 400


@pytest.mark.slow
def test_training_survives_the_death_of_each_process(tmp_path: Path, processes: list[subprocess.Popen[str]]) -> None:
    run = tmp_path / "run"
    driver = start(*train_options(run, *SAVE_OFTEN))
    processes.append(driver)
    wait_for("updates", lambda: update_of(run) > 20)
    wait_for("an actor", lambda: "actor-0" in targets(run))

    listed = targets(run)
    kill_role(driver, "ActorRole")
    died = time.monotonic()
    _, said = wait_for("the death to be seen", lambda: unhealthy(run), seconds=15)
    assert said == "missing: actor-0 (does not answer)\n", said
    steps, updates = policy_step_of(run), update_of(run)
    wait_for("a new actor", lambda: policy_step_of(run) > steps + 100)
    wait_for("updates from what it plays", lambda: update_of(run) > updates)
    # The same instance on another port: its series go on.
    wait_for("everybody's health", lambda: not unhealthy(run), seconds=60)
    again = targets(run)
    assert set(again) == set(listed) and again["actor-0"]["labels"] == listed["actor-0"]["labels"]
    assert again["actor-0"]["targets"] != listed["actor-0"]["targets"], time.monotonic() - died
    found = scrape(run)
    restarts = {one.labels["role"]: one.value for one in found["dreamer_worker_restarts_total"]}
    assert restarts["actor"] >= 1 and restarts["learner"] == 0

    wait_for("a checkpoint", lambda: (run / "checkpoints" / "latest").exists())
    kill_role(driver, "ReplayRole")
    updates = update_of(run)
    # Batches that were fetched already are a few updates; many more need the new server.
    wait_for("updates from a new replay server", lambda: update_of(run) > updates + 30)

    saved = checkpoint.load_newest(run / "checkpoints")  # of the learner that dies: the next one writes its own
    assert saved is not None
    kill_role(driver, "LearnerRole")
    died = time.time()

    def after_it() -> list[dict[str, Any]]:
        return [r for r in metrics(run) if r["time"] > died + 2 and r["updates_per_second"] > 0]

    assert wait_for("a new learner", after_it)[0]["update"] > saved.update

    driver.send_signal(signal.SIGTERM)
    code, _, err = finish(driver)
    assert code == 143, err
    for role in ("actor-0", "replay", "learner"):
        assert f"{role} died" in err, err
    last = checkpoint.load_newest(run / "checkpoints")
    assert last is not None and last.update >= saved.update
    assert last.policy_step == policy_step_of(run)  # the last checkpoint knows every step that was played


def check_scrape(run: Path) -> None:
    """All processes together say what the driver says, and /sd what the file says."""
    found = scrape(run)
    check_sane(found)
    listed = targets(run)
    assert set(listed) == {"driver", "learner", "replay", "board", "actor-0"}
    assert {name: entry["labels"]["role"] for name, entry in listed.items()} == {
        name: name.partition("-")[0] for name in listed
    }
    entries = json.loads((run / "prometheus" / "targets.json").read_text())
    assert {entry["labels"]["instance"]: entry for entry in entries} == listed
    expected = {one.labels["role"]: one.value for one in found["dreamer_workers_expected"]}
    assert expected == {"learner": 1, "replay": 1, "board": 1, "actor": 1}

    def apart() -> float:
        """What actors have played and the driver has not yet heard of."""
        now = scrape(run)
        return total(now, "dreamer_actor_policy_steps_total") - total(now, "dreamer_driver_policy_steps")

    wait_for("the steps of actors and driver to agree", lambda: abs(apart()) < 200, seconds=30)


def unhealthy(run: Path) -> tuple[int, str] | None:
    """What /healthz says if somebody is missing."""
    status, said = get(f"{base(run)}/healthz")
    return None if status == 200 else (status, said)


def state_of(run: Path) -> str:
    return describe(read_files(run), now=time.time())["state"]


def metrics(run: Path) -> list[dict]:
    return rows(run / "metrics.jsonl")


@pytest.mark.slow
def test_a_killed_driver_takes_everything_with_it_and_the_run_resumes(
    tmp_path: Path, processes: list[subprocess.Popen[str]]
) -> None:
    run = tmp_path / "run"
    driver = start(*train_options(run, *SAVE_OFTEN))
    processes.append(driver)
    wait_for("a checkpoint", lambda: (run / "checkpoints" / "latest").exists() and update_of(run) > 20)
    # Ray's own agents look for their parent only now and then: they end a minute later.
    children = [
        child
        for child in psutil.Process(driver.pid).children(recursive=True)
        if "Agent" not in " ".join(child.cmdline())
    ]
    assert len(children) > 4
    driver.kill()
    driver.communicate()
    _, alive = psutil.wait_procs(children, timeout=30)
    assert not alive
    assert state_of(run) == "killed"

    before = checkpoint.load_newest(run / "checkpoints")
    assert before is not None
    driver = start(*train_options(run, "--resume", "--updates", str(before.update + 5)))
    processes.append(driver)
    code, _, err = finish(driver)
    assert code == 0, err
    after = checkpoint.load_newest(run / "checkpoints")
    assert after is not None
    assert after.update == before.update + 5 and after.policy_step >= before.policy_step


def test_what_is_wrong_on_the_server_is_the_users_to_mend(tmp_path: Path) -> None:
    """A replay port that is taken: one line, exit code 2, and the port's owner is not disturbed."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        code, _, err = finish(start(*train_options(tmp_path / "run", "--replay.port", port)))
    assert code == 2, err
    assert f"error: port {port} is in use" in err
