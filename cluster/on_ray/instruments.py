"""How a process of the Ray runtime comes to have metrics, and how the driver learns where they are."""

from __future__ import annotations

import ipaddress
from typing import Any, NamedTuple

import ray

from cluster.config import ClusterConfig
from cluster.messages import Target
from cluster.metrics import Meter
from cluster.metrics.http import pages_of, serve

AGAIN_SECONDS = 10.0  # between announcements: a mailbox that was restarted has forgotten them


class Instruments(NamedTuple):
    """A meter, and where it is shown; None = nowhere, metrics are off."""

    meter: Meter
    target: Target | None

    def announce(self, mailbox: Any) -> None:
        """Tells the driver, without waiting for anything."""
        if self.target:
            mailbox.post.remote(self.target)


def open_instruments(cluster: ClusterConfig, role: str, instance: str) -> Instruments:
    """A meter for one process, with a server of its own on a free port."""
    if cluster.metrics_port < 0:
        return Instruments(Meter(), None)
    meter = Meter(role)
    return Instruments(meter, Target(role, instance, serve(pages_of(meter), own_host(cluster.host), 0)))


def own_host(host: str) -> str:
    """What a process binds and announces: `host` where that is this machine alone, else its node's private address."""
    return host if is_loopback(host) else ray.util.get_node_ip_address()


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name
        return False
