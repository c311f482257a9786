"""TCP ports."""

from __future__ import annotations

import socket

from replay.errors import UserError


def free_port(port: int, *, option: str = "--replay.port") -> int:
    """`port`, or any free one for 0; a UserError where it is taken.

    Two Reverb servers can share a port, and clients are then split between them silently: so one looks first.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a server killed just now must not count
        try:
            probe.bind(("", port))
        except OSError as error:
            raise UserError(f"port {port} is in use ({error.strerror}): choose another one with {option}") from error
        return int(probe.getsockname()[1])
