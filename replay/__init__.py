"""The memory: steps of games come in, batches of windows go out.

`serve` and `connect` are the replay as a server of its own (Reverb); `in_memory` and `on_device` are the one inside
this process.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from replay.config import ReplayConfig
from replay.errors import ReplayCorrupt, ReplayTimeout, ReplayUnavailable, UserError
from replay.experience import EnvSpec, PrevState, Sequences, Step
from replay.interface import Replay, ReplayServer, ReplayStats, Sample, Sampler, Writer
from replay.memory_backend import HostRecords, MemoryReplay
from replay.proxy import bypass

__all__ = [
    "EnvSpec",
    "MemoryReplay",
    "PrevState",
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
    "copy_saved",
    "in_memory",
    "on_device",
    "serve",
]

PATIENCE = 60.0  # seconds of silence after which a replay server counts as gone; a restart takes 2 to 10


def in_memory(config: ReplayConfig, spec: EnvSpec, *, seed: int) -> MemoryReplay:
    """A replay inside this process."""
    return MemoryReplay(config, spec, seed=seed, records=HostRecords(config, spec))


def on_device(config: ReplayConfig, spec: EnvSpec, *, seed: int, device: str) -> MemoryReplay:
    """The same with its records on a device, as torch names it; samples are torch tensors there.

    Takes the memory for the whole capacity at once; UserError if there is too little.
    """
    from replay.device_backend import DeviceRecords  # late: nothing else in this package needs torch

    return MemoryReplay(config, spec, seed=seed, records=DeviceRecords(config, spec, device=device))


def serve(
    config: ReplayConfig, spec: EnvSpec, *, directory: Path, run_id: str, host: str = "localhost"
) -> ReplayServer:
    """Starts a replay server in this process, from the newest checkpoint under `directory` if there is a usable one.

    host: the name under which other machines reach this one; it only goes into the address.
    """
    _need_reverb()
    bypass(host)
    from replay.reverb_server import ReverbServer

    server: ReplayServer = ReverbServer(config, spec, directory=directory, run_id=run_id, host=host)
    return server


def connect(
    address: str,
    config: ReplayConfig,
    spec: EnvSpec,
    *,
    run_id: str,
    patience: float = PATIENCE,
    should_stop: Callable[[], bool] = lambda: False,
    lives: Callable[[], bool] = lambda: False,
) -> Replay:
    """Connects to the replay server of the run `run_id`.

    patience: seconds of silence after which the server counts as gone (ReplayUnavailable), but for one that ...
    lives: ... is there all the same, and loads what it had saved; asked after each such silence, from several threads.
    should_stop: ends an `append` that waits for the learner; it returns, and the windows under way may be lost.
    """
    _need_reverb()
    bypass(address)
    from replay.reverb_client import ReverbReplay
    from replay.reverb_link import Link

    link = Link(address, config, spec, run_id=run_id, patience=patience, lives=lives)
    return ReverbReplay(link, should_stop)


def copy_saved(replay: MemoryReplay, directory: Path) -> None:
    """Fills an empty replay with what a server has saved under `directory`, where nothing is changed.

    Raises UserError, OSError, ReplayCorrupt.
    """
    _need_reverb()
    from replay.reverb_saved import copy_windows

    copy_windows(replay, directory)


def _need_reverb() -> None:
    """Reverb is imported late: it brings TensorFlow, which takes seconds and exists for few Pythons."""
    if missing := [package for package in ("reverb", "tensorflow") if find_spec(package) is None]:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise UserError(
            f"a replay server needs {' and '.join(missing)}, which exist for Python 3.11 on Linux; "
            f"this is {version}: change it, or use --runtime inline"
        )
