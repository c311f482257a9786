"""How each process of a run is started on Ray, and how long that may take."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from cluster.on_ray import placement
from cluster.on_ray.actor import ActorRole
from cluster.on_ray.learner import LearnerRole
from cluster.on_ray.placement import Place
from cluster.on_ray.replay_server import REPLAY, ReplayRole
from learner.config import SPIN
from learner.device import choose_device

SECONDS = 120.0  # that a process on the head may take to start, and ...
SLOW_DISK = 4 * 2**20  # ... for so many bytes of saved replay one second more: it is read, and others wait for it


def start_replay(place: Place, incarnation: int) -> Any:
    options = {"resources": placement.ON_HEAD, **_threads(1)}
    role = ReplayRole.options(name=REPLAY, **options)
    return placement.ask_head(lambda: role.remote(place))  # a name is for the head to give


def start_learner(place: Place, updates: int | None, incarnation: int) -> Any:
    """updates: the last one, if there is to be a last one."""
    train = place.config.train
    gpus = 1 if choose_device(train.device).type == "cuda" else 0
    options = {"num_gpus": gpus, "resources": placement.ON_HEAD, **_threads(train.threads)}
    return LearnerRole.options(**options).remote(place, updates)


def start_actor(place: Place, index: int, incarnation: int, policy_step: int) -> Any:
    options = {"resources": placement.ON_ACTOR_NODE, **_threads(place.config.actor.threads)}
    return ActorRole.options(**options).remote(place, index, incarnation, policy_step)


def _threads(number: int) -> dict[str, Any]:
    """Ray would give every process one thread. How long idle threads spin: see learner.config.SPIN."""
    threads = str(number or os.cpu_count() or 1)
    return {"runtime_env": {"env_vars": {"OMP_NUM_THREADS": threads, "GOMP_SPINCOUNT": SPIN}}}


def seconds_at_most(replay: Path) -> float:
    """That a process on the head may take to start, where so much replay was saved."""
    return SECONDS + bytes_below(replay) / SLOW_DISK


def bytes_below(folder: Path) -> int:
    """What all files in a folder take."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(OSError):  # it was deleted just now
            total += path.stat().st_size if path.is_file() else 0
    return total
