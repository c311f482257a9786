"""What Ray must find in the environment while it is imported. This module does not import it."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from cluster.config import ClusterConfig
from replay.errors import UserError
from replay.proxy import bypass

# What Ray makes below its temporary directory, at its longest; the kernel takes no longer name of a socket.
SOCKET = "/ray/session_2026-11-27_10-08-58_123456_4194304/sockets/plasma_store"
LONGEST = 107  # bytes


def set_for(cluster: ClusterConfig) -> None:
    """Sets what the user has not set himself; to be called before the first import of Ray.

    Raises UserError where Ray could not start for want of a place for its files.
    """
    # Ray reports its use to its makers unless told otherwise; a training run has no business with that.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    bypass(cluster.host, cluster.address)  # every process of a Ray of our own inherits it
    if cluster.address != "local":
        return
    check_temporary(os.environ)
    # A Ray of our own listens on 127.0.0.1 only. It would take the machine's outer address whatever it is told; the
    # switch is meant for systems whose firewall would ask.
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    # A token that only this run knows keeps other users of the machine out. Left to itself Ray may write one to
    # ~/.ray/auth_token, which changes what a later `ray start` does.
    if "RAY_AUTH_MODE" not in os.environ:
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}


def check_temporary(environment: Mapping[str, str]) -> None:
    """Raises UserError if Ray's sockets cannot be made where it would make them: it would say so in 40 lines."""
    variable = next((name for name in ("RAY_TMPDIR", "TMPDIR") if name in environment), "")
    folder = environment[variable] if variable else "/tmp"
    what = f"{variable} {folder}" if variable else folder
    if len(os.fsencode(os.path.abspath(folder) + SOCKET)) > LONGEST:
        most = LONGEST - len(SOCKET)
        raise UserError(f"{what} is too long a name for Ray's sockets (at most {most} bytes): set RAY_TMPDIR=/tmp")
    # Made by Ray itself, so that other users of the machine may write there, too.
    there = next(path for path in (Path(folder, "ray"), *Path(folder, "ray").absolute().parents) if path.exists())
    if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
        raise UserError(f"Ray cannot write to {there}, below which it keeps its files: set RAY_TMPDIR to a short name")
