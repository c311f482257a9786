"""deploy/cluster-onprem.yaml for real: `ray up` from one host brings up three others, and training runs on them.

The hosts are namespaces of this machine (tests/deploy/hosts.py) that reach each other by ssh and nothing else. Only the
addresses, the sizes and where the environment is are the test's own: everything else is the file that people use.
"""

from __future__ import annotations

import os
import pty
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


def launcher(up: Hosts, words: str, *, seconds: float = 180, check: bool = True) -> subprocess.CompletedProcess[str]:
    """A verb of deploy/cluster.sh where a person would type it."""
    return run(up["launcher"], command(words), seconds=seconds, check=check)


def command(words: str) -> str:
    return f"CLUSTER=~/cluster.yaml RAY={ENVIRONMENT}/bin/ray bash deploy/cluster.sh {words}"
