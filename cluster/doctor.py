"""Is this machine fit for training? One check, one line, one mend."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

import torch

from actors.config import EnvConfig
from actors.env import check_game
from cluster.config import ClusterConfig
from replay.config import UserError
from replay.free_memory import available_memory
from replay.ports import free_port

PACKAGES = ("torch", "numpy", "gymnasium", "ale-py", "opencv-python", "ray", "dm-reverb", "tensorflow-cpu")
ONLY_FOR_RAY = ("ray", "dm-reverb", "tensorflow-cpu")
GIB = 2**30


class Check(NamedTuple):
    """What was looked at."""

    name: str
    ok: bool
    found: str
    mend: str


def run_all() -> list[Check]:
    """All checks, none of which changes anything."""
    return [python(), *packages(), game(), gpu(), memory(), cores(), shared_memory(), metrics_port(), disk()]


def python() -> Check:
    version = sys.version_info
    found = f"Python {version.major}.{version.minor}.{version.micro}"
    mend = "Ray and Reverb need Python 3.11; here only --runtime inline works (make setup PYTHON=python3.11)"
    return Check("python", version[:2] == (3, 11), found, mend)


def packages() -> list[Check]:
    checks = []
    for name in PACKAGES:
        try:
            checks.append(Check(name, True, importlib.metadata.version(name), ""))
        except importlib.metadata.PackageNotFoundError:
            need = "for --runtime ray; needs Python 3.11 on x86-64 Linux" if name in ONLY_FOR_RAY else "always"
            checks.append(Check(name, False, "missing", f"needed {need}: make setup"))
    return checks


def game() -> Check:
    try:
        check_game(EnvConfig())
    except UserError as error:
        return Check("game", False, "Breakout does not start", str(error))
    return Check("game", True, "Breakout starts (its ROM is in ale-py)", "")


def gpu() -> Check:
    if torch.cuda.is_available():
        return Check("gpu", True, torch.cuda.get_device_name(), "")
    return Check("gpu", True, "none: the learner runs on the CPU, preset cpu by default", "")


def memory() -> Check:
    free = available_memory() / GIB
    mend = "preset cpu needs 4 GiB: end other programs, or give this container more"
    return Check("memory", free >= 4, f"{free:.1f} GiB free", mend)


def cores() -> Check:
    count = len(os.sched_getaffinity(0))
    return Check("cores", count >= 2, f"{count} CPU core(s)", "games and learner share one core: expect half speed")


def shared_memory() -> Check:
    free = shutil.disk_usage("/dev/shm").free / GIB if Path("/dev/shm").is_dir() else 0.0
    return Check("shm", free >= 0.6, f"{free:.1f} GiB free in /dev/shm", "Ray needs 0.6: docker run --shm-size=2g")


def metrics_port() -> Check:
    port = ClusterConfig().metrics_port
    try:
        free_port(port)
    except UserError:
        return Check("port", False, f"{port} is in use", "another run? train with --cluster.metrics-port 0")
    return Check("port", True, f"{port} is free", "")


def disk() -> Check:
    free = shutil.disk_usage(".").free / GIB
    return Check("disk", free >= 5, f"{free:.0f} GiB free here", "a run of preset cpu writes up to 4 GiB: make room")
