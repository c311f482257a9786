"""deploy/cluster-onprem.yaml for real: `ray up` from one host brings up three others, and training runs on them.

The hosts are namespaces of this machine (tests/deploy/hosts.py) that reach each other by ssh and nothing else. Only the
addresses, the sizes and where the environment is are the test's own: everything else is the file that people use.
"""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.cluster.tiny import ROOT, TINY, rows, wait_for
from tests.deploy import hosts
from tests.deploy.hosts import Host, Hosts, run

pytestmark = [
    pytest.mark.ray,
    pytest.mark.reverb,
    pytest.mark.slow,
    pytest.mark.skipif(bool(hosts.missing()), reason=hosts.missing()),
]
NAMES = ["launcher", "head", "worker1", "worker2"]
WORKERS = NAMES[2:]
SMALL = "--num-cpus=2 --object-store-memory=100000000"  # of every host: all of them share this machine
ENVIRONMENT = Path(sys.prefix)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Hosts]:
    """Four hosts; on three of them the environment is in its place already, as docs/cluster.md says."""
    with hosts.up(NAMES) as up:
        for name in NAMES[1:]:
            run(up[name], f"mkdir -p ~/dreamer && ln -s {ENVIRONMENT} ~/dreamer/.venv")
        (up["launcher"].root / "root/cluster.yaml").write_text(rendered(up))
        yield up


def rendered(up: Hosts) -> str:
    """The cluster file, filled in."""
    config = yaml.safe_load((ROOT / "deploy/cluster-onprem.yaml").read_text())
    config["provider"] |= {"head_ip": up["head"].address, "worker_ips": [up[name].address for name in WORKERS]}
    config["auth"] = {"ssh_user": "root", "ssh_private_key": "~/.ssh/id_ed25519"}
    for kind in ("head", "worker"):
        *before, start = config[f"{kind}_start_ray_commands"]
        assert "$(nproc)" in start or kind == "head"
        config[f"{kind}_start_ray_commands"] = [*before, f"{start.replace('$(nproc)', '1')} {SMALL}"]
    return yaml.safe_dump(config)


def typed(words: str) -> str:
    """A verb of deploy/cluster.sh, as `make cluster-...` calls it where a person sits."""
    return f"CLUSTER=~/cluster.yaml RUNS=~/runs RAY={ENVIRONMENT}/bin/ray bash deploy/cluster.sh {words}"


def ask(up: Hosts, words: str, *, code: int = 0) -> str:
    """Types it and returns what it says."""
    done = run(up["launcher"], typed(words), seconds=300, check=False)
    assert done.returncode == code, f"{words}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def roles(host: Host) -> set[str]:
    """Which of our processes run on a host."""
    lines = " ".join(hosts.pids(host).values())
    return {role for role in ("ActorRole", "LearnerRole", "ReplayRole", "Mailbox") if f"ray::{role}" in lines}


def run_dir(host: Host) -> Path:
    """The one run of a host."""
    return next((host.root / "root/dreamer/runs").iterdir())


def updates(up: Hosts) -> int:
    found = rows(run_dir(up["head"]) / "metrics.jsonl")
    return found[-1]["update"] if found else 0


def nodes(up: Hosts) -> int:
    """That Ray knows."""
    done = run(up["head"], ". ~/dreamer/deploy/env.sh; ray status", check=False)
    active = done.stdout.partition("Active:")[2].partition("Pending:")[0]
    return sum(int(line.split()[0]) for line in active.splitlines() if line.strip()[:1].isdigit())


def test_ray_up_brings_up_the_machines_training_runs_on_them_and_ray_down_ends_it(cluster: Hosts) -> None:
    ask(cluster, "up")
    wait_for("the head and two workers", lambda: nodes(cluster) == 3, seconds=120)
    no_stranger_gets_in(cluster)
    start_and_close_the_terminal(cluster)
    wait_for("actors on both workers", lambda: all(roles(cluster[name]) == {"ActorRole"} for name in WORKERS))
    assert roles(cluster["head"]) == {"LearnerRole", "ReplayRole", "Mailbox"}
    wait_for("updates", lambda: updates(cluster) > 20)

    refused = ask(cluster, "train", code=2)
    assert len(refused.splitlines()) == 1 and "training runs already" in refused, refused
    ask(cluster, "up")  # once more, and nothing happens to what runs
    before = updates(cluster)
    wait_for("more updates", lambda: updates(cluster) > before + 20)
    assert "training runs as process" in ask(cluster, "status")

    assert "saved in /root/dreamer/runs/" in ask(cluster, "stop")
    assert "no training runs" in ask(cluster, "status")
    trained = updates(cluster)
    running = [pid for name in NAMES[1:] for pid in hosts.pids(cluster[name])]
    assert running
    ask(cluster, "down")
    fetched = next((cluster["launcher"].root / "root/runs").iterdir()) / "checkpoints"
    assert f"{trained:09}" in (fetched / "latest").read_text()
    assert not hosts.wait_gone(running, seconds=60)
    assert not any(hosts.pids(cluster[name]) for name in NAMES[1:])


def no_stranger_gets_in(up: Hosts) -> None:
    """Who does not know the token is told nothing, from wherever; and the token stands in no log."""
    ray = f"HOME=/tmp RAY_AUTH_MODE=disabled {ENVIRONMENT}/bin/ray"
    for name in ("head", "launcher"):
        done = run(up[name], f"{ray} status --address={up['head'].address}:6379", check=False)
        assert done.returncode and "InvalidAuthToken" in done.stderr and "head_node" not in done.stdout, done
    for name in NAMES[1:]:
        run(up[name], "test $(stat -c %a ~/.ray/auth_token) = 600")
        run(up[name], "! grep -rqsF $(cat ~/.ray/auth_token) /tmp /proc/[0-9]*/cmdline --exclude-dir=self")


def start_and_close_the_terminal(up: Hosts) -> None:
    """Training started in a terminal that is closed once it runs."""
    ours, its = pty.openpty()
    options = f"{' '.join(TINY)} --cluster.actors 0 --cluster.wait-for 2 --train.checkpoint-every 1000"
    hears = ["env", "--default-signal=HUP"]  # also where the tests were started with nohup
    shell = subprocess.Popen(
        [*hears, "setsid", "--ctty", *hosts.enter(up["launcher"], f"{typed(f'train {options}')}; sleep 600")],
        stdin=its,
        stdout=its,
        stderr=its,
    )
    os.close(its)
    said = b""
    while b"whatever becomes of this terminal" not in said:
        assert shell.poll() is None, said.decode()
        said += os.read(ours, 4096)
    os.close(ours)
    assert shell.wait(30) == -signal.SIGHUP  # what was started from it ends with it, but for the training
    assert "training runs as process" in ask(up, "status")
