"""What the clients of one process know about a Reverb server.

A server that comes back within `patience` is only a pause for them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow reads it while it is imported

import reverb

from replay.config import ReplayConfig, check_config
from replay.errors import ReplayUnavailable, UserError
from replay.experience import EnvSpec
from replay.schema import run_table, table_name

PROBE = 2  # seconds that a living server may take to answer
SLICE = 1.0  # seconds that one call may wait before we look around: stop? server gone?


class Link:
    """What the clients of one process know about the server: is it ours, and when was it last heard of?"""

    def __init__(
        self,
        address: str,
        config: ReplayConfig,
        spec: EnvSpec,
        *,
        run_id: str,
        patience: float,
        lives: Callable[[], bool],
    ) -> None:
        check_config(config)
        self._lives = lives
        self.address, self.config, self.spec, self.patience = address, config, spec, patience
        self.table, self._run_id = table_name(config, spec), run_id
        self._silent_since: float | None = None
        self.client = reverb.Client(address)
        while self.probe() is None:  # a server that is only just starting
            time.sleep(0.2)

    def probe(self) -> Any | None:
        """The table's state, or None if the server does not answer now; ReplayUnavailable if it never seems to."""
        try:
            tables = self.client.server_info(timeout=PROBE)
        except (
            reverb.errors.ReverbError,
            RuntimeError,
        ):  # an old connection may also say "Socket closed" once, long before the server is given up
            self._count_silence()
            return None
        if run_table(self._run_id) not in tables:
            runs = ", ".join(name.removeprefix("run_") for name in tables if name.startswith("run_")) or "nobody"
            raise UserError(f"the replay server at {self.address} belongs to run {runs}, not to {self._run_id}")
        if self.table not in tables:
            raise UserError(f"the replay server at {self.address} holds windows of another length or game (or state)")
        self.heard()
        return tables[self.table]

    def heard(self) -> None:
        """The server has just done something for us."""
        self._silent_since = None

    def _count_silence(self) -> None:
        now = time.monotonic()
        self._silent_since = self._silent_since or now
        if now - self._silent_since <= self.patience:
            return
        if self._lives():  # it loads: nobody can say how long gigabytes take
            self._silent_since = now
        else:
            raise ReplayUnavailable(f"the replay server at {self.address} has been silent for {self.patience:.0f} s")
