"""Is this machine fit for training? One check, one line, one mend.

Every check imports what it looks at itself: what cannot be loaded is a line of the report, not the end of it.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import shutil
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from cluster.console.json_text import print_json
from cluster.console.missing import what_is_missing
from replay.errors import UserError

# Package -> what it is imported as. Any of several names will do.
PACKAGES = {
    ("torch",): "torch",
    ("numpy",): "numpy",
    ("gymnasium",): "gymnasium",
    ("ale-py",): "ale_py",
    ("opencv-python", "opencv-python-headless"): "cv2",
    ("psutil",): "psutil",
    ("prometheus-client",): "prometheus_client",
    ("tyro",): "tyro",
    ("rich",): "rich",
    ("tensorboardX",): "tensorboardX",
    ("imageio",): "imageio",
    ("pillow",): "PIL",
}
ONLY_FOR_RAY = ("ray", "dm-reverb", "tensorflow-cpu")  # not imported here: TensorFlow takes seconds
GIB = 2**30


class Check(NamedTuple):
    """What was looked at."""

    name: str
    ok: bool
    found: str
    mend: str


def doctor(arguments: list[str]) -> int:
    """Checks this machine, or with --env a game; 1 if something that training needs is missing."""
    if any(word.startswith("--env") for word in arguments):
        from cluster.commands.doctor_env import doctor_env

        return doctor_env(arguments)
    try:
        from cluster.commands.options import DoctorOptions, parse

        as_json = parse(DoctorOptions, arguments, command="doctor").json
    except (ImportError, OSError):  # what is missing is one of the lines to come
        as_json = "--json" in arguments
    found = run_all()
    if as_json:
        print_json([check._asdict() for check in found])
    else:
        for line in found:
            print(f"{'ok  ' if line.ok else 'BAD '} {line.name:17} {line.found}{'' if line.ok else ': ' + line.mend}")
    return 0 if all(line.ok for line in found) else 1


def run_all() -> list[Check]:
    """All checks, none of which changes anything."""
    loaded = [loads(names, module) for names, module in PACKAGES.items()]
    found = [python(), *loaded, *map(for_ray, ONLY_FOR_RAY)]
    rest = (game, gpu, memory, cores, shared_memory, metrics_port, disk)
    return found + [check for check in map(tried, rest) if check]


def tried(check: Callable[[], Check]) -> Check | None:
    """What a check says; None where it lacks a package, which has a line of its own."""
    try:
        return check()
    except (ImportError, OSError) as error:
        if what_is_missing(error) is None:
            raise
        return None


def python() -> Check:
    version = sys.version_info
    found = f"Python {version.major}.{version.minor}.{version.micro}"
    mend = "Ray and Reverb need Python 3.11; here only --runtime inline works (make setup PYTHON=python3.11)"
    return Check("python", version[:2] == (3, 11), found, mend)


def loads(names: tuple[str, ...], module: str) -> Check:
    """Whether a package is there and can be loaded: a wheel may need libraries that the system lacks."""
    version = next(filter(None, map(version_of, names)), None)
    if version is None and find_spec(module) is None:
        return Check(names[0], False, "missing", "needed always: make setup")
    try:
        importlib.import_module(module)
    except Exception as error:  # whatever a broken package raises
        why = what_is_missing(error) if isinstance(error, ImportError | OSError) else None
        mend = why or f"it cannot be loaded ({type(error).__name__}: {error}): make setup"
        return Check(names[0], False, f"{version or 'there'}, and does not load", mend)
    return Check(names[0], True, version or "there", "")


def for_ray(name: str) -> Check:
    version = version_of(name)
    mend = "needed for --runtime ray; needs Python 3.11 on x86-64 Linux: make setup"
    return Check(name, version is not None, version or "missing", mend)


def version_of(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def game() -> Check:
    from actors.config import EnvConfig
    from actors.env import check_game

    try:
        check_game(EnvConfig())
    except UserError as error:
        return Check("game", False, "Breakout does not start", str(error))
    return Check("game", True, "Breakout starts (its ROM is in ale-py)", "")


def gpu() -> Check:
    import torch

    if torch.cuda.is_available():
        return Check("gpu", True, torch.cuda.get_device_name(), "")
    return Check("gpu", True, "none: the learner runs on the CPU, preset cpu by default", "")


def memory() -> Check:
    from replay.free_memory import available_memory

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
    from cluster.config import ClusterConfig
    from replay.ports import free_port

    port = ClusterConfig().metrics_port
    try:
        free_port(port)
    except UserError:
        return Check("port", False, f"{port} is in use", "another run? train with --cluster.metrics-port 0")
    return Check("port", True, f"{port} is free", "")


def disk() -> Check:
    free = shutil.disk_usage(".").free / GIB
    return Check("disk", free >= 5, f"{free:.0f} GiB free here", "a run of preset cpu writes up to 4 GiB: make room")
