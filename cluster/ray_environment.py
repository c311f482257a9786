"""What Ray must find in the environment while it is imported. This module does not import it."""

from __future__ import annotations

import os
import secrets

from cluster.config import ClusterConfig
from replay.proxy import bypass


def set_for(cluster: ClusterConfig) -> None:
    """Sets what the user has not set himself; to be called before the first import of Ray."""
    # Ray reports its use to its makers unless told otherwise; a training run has no business with that.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    bypass(cluster.host, cluster.address)  # every process of a Ray of our own inherits it
    if cluster.address != "local":
        return
    # A Ray of our own listens on 127.0.0.1 only. It would take the machine's outer address whatever it is told; the
    # switch is meant for systems whose firewall would ask.
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    # A token that only this run knows keeps other users of the machine out. Left to itself Ray may write one to
    # ~/.ray/auth_token, which changes what a later `ray start` does.
    if "RAY_AUTH_MODE" not in os.environ:
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
