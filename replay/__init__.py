"""The memory: steps of games come in, batches of windows go out.

`serve` and `connect` are the replay as a server of its own (Reverb); `in_memory` is the one inside this process.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from replay.config import ReplayConfig, UserError
from replay.experience import EnvSpec, Sequences, Step
from replay.interface import (
    Replay,
    ReplayCorrupt,
    ReplayServer,
    ReplayStats,
    ReplayTimeout,
    ReplayUnavailable,
    Sample,
    Sampler,
    Writer,
)
from replay.memory_backend import MemoryReplay

if TYPE_CHECKING:
    from types import ModuleType

__all__ = [
    "EnvSpec",
    "MemoryReplay",
    "Replay",
    "ReplayConfig",
    "ReplayCorrupt",
    "ReplayServer",
    "ReplayStats",
    "ReplayTimeout",
    "ReplayUnavailable",
    "Sample",
    "Sampler",
    "Sequences",
    "Step",
    "UserError",
    "Writer",
    "connect",
    "in_memory",
    "serve",
]

PATIENCE = 60.0  # seconds of silence after which a replay server counts as gone; a restart takes 2 to 10


def in_memory(config: ReplayConfig, spec: EnvSpec, *, seed: int) -> MemoryReplay:
    """A replay inside this process."""
    return MemoryReplay(config, spec, seed=seed)


def serve(
    config: ReplayConfig, spec: EnvSpec, *, directory: Path, run_id: str, host: str = "localhost"
) -> ReplayServer:
    """Starts a replay server in this process, from the newest checkpoint under `directory` if there is a usable one.

    host: the name under which other machines reach this one; it only goes into the address.
    """
    server: ReplayServer = _reverb_backend().ReverbServer(config, spec, directory=directory, run_id=run_id, host=host)
    return server


def connect(
    address: str,
    config: ReplayConfig,
    spec: EnvSpec,
    *,
    run_id: str,
    patience: float = PATIENCE,
    should_stop: Callable[[], bool] = lambda: False,
) -> Replay:
    """Connects to the replay server of the run `run_id`.

    patience: seconds of silence after which the server counts as gone (ReplayUnavailable).
    should_stop: ends an `append` that waits for the learner; it returns, and the windows under way may be lost.
    """
    backend = _reverb_backend()
    link = backend.Link(address, config, spec, run_id=run_id, patience=patience)
    replay: Replay = backend.ReverbReplay(link, should_stop)
    return replay


def _reverb_backend() -> ModuleType:
    """Imported late: it brings TensorFlow, which takes seconds and exists for few Pythons."""
    try:
        from replay import reverb_backend
    except ImportError as error:
        raise UserError(
            f"a replay server needs dm-reverb ({error}), which exists for Python 3.11 on Linux; "
            f"this is Python {sys.version_info.major}.{sys.version_info.minor}: change it, or use --runtime inline"
        ) from error
    return reverb_backend
