"""Our own servers are never reached through a proxy.

Companies set http_proxy for everything that goes out. gRPC, which Reverb speaks, obeys it even on 127.0.0.1 and then
waits for a server that nobody can reach; it looks at these variables whenever it opens a channel.
"""

from __future__ import annotations

import os

OWN = ("localhost", "127.0.0.1", "::1")
VARIABLES = ("no_proxy", "NO_PROXY")  # gRPC and curl read the first, others the second
FOR_GRPC_ALONE = "no_grpc_proxy"  # where it is set gRPC reads nothing else


def bypass(*hosts: str) -> None:
    """Adds this machine and `hosts` to what is reached directly, here and in processes that are started from here.

    What stands there already stays. Addresses with a port count as their host, "auto" and "" as none.
    """
    names = [name for host in (*OWN, *hosts) if (name := bare(host))]
    given = {name: os.environ.get(name, "") for name in VARIABLES}
    both = ",".join(dict.fromkeys(entry for value in given.values() for entry in entries(value)))
    for name in VARIABLES:
        os.environ[name] = ",".join(dict.fromkeys([*entries(both), *names]))
    if FOR_GRPC_ALONE in os.environ:
        os.environ[FOR_GRPC_ALONE] = ",".join(dict.fromkeys([*entries(os.environ[FOR_GRPC_ALONE]), *names]))


def entries(value: str) -> list[str]:
    return [entry.strip() for entry in value.split(",") if entry.strip()]


def bare(address: str) -> str:
    """The host of host, host:port or [host]:port; "" for "auto" and "local", which name none."""
    if address in ("", "auto", "local"):
        return ""
    if address.startswith("["):
        return address[1:].partition("]")[0]
    host, _, port = address.rpartition(":")
    return host if host and port.isdigit() and ":" not in host else address
