"""deploy/firewall.nft on real hosts: nodes reach each other on every port, a stranger reaches ssh and nothing else."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from tests.cluster.tiny import ROOT, wait_for
from tests.deploy import hosts
from tests.deploy.hosts import Host, run

WHY_NOT = hosts.missing() or ("" if shutil.which("nft", path=hosts.PATH) else "apt-get install nftables")
pytestmark = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)
PORT = 46661  # any that a service has taken on all its addresses, as Reverb does
RULES = (ROOT / "deploy/firewall.nft").read_text()


def reaches(one: Host, other: Host, port: int) -> bool:
    code = f"import socket; socket.create_connection(('{other.address}', {port}), timeout=2)"
    return run(one, f'{sys.executable} -c "{code}"', check=False).returncode == 0


def test_nodes_reach_each_other_and_a_stranger_only_ssh() -> None:
    with hosts.up(["head", "worker", "stranger"]) as up:
        head, worker, stranger = up.values()
        serve = f"import socket, time; s = socket.create_server(('', {PORT})); time.sleep(600)"
        service = subprocess.Popen(hosts.enter(head, f'{sys.executable} -c "{serve}"'))
        wait_for("the service", lambda: reaches(stranger, head, PORT), seconds=30)  # as it is without the rules
        addresses = "10.0.0.10, 10.0.0.11, 10.0.0.12"
        assert addresses in RULES
        (head.root / "root/firewall.nft").write_text(RULES.replace(addresses, f"{head.address}, {worker.address}"))
        for _ in range(2):  # the second run replaces the first
            run(head, "nft -f /root/firewall.nft")
        assert reaches(worker, head, PORT) and reaches(head, head, PORT) and reaches(head, worker, 22)
        assert reaches(stranger, head, 22) and not reaches(stranger, head, PORT)
    service.wait(30)
