"""What machine this is, and which program: one JSON object on stdout."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
import subprocess
import sys
from typing import Any

import torch

from cluster.bench.ceilings import commit, cpu_name
from tests.cluster.tiny import ROOT

PACKAGES = ("torch", "numpy", "gymnasium", "ale-py", "opencv-python", "opencv-python-headless", "tyro")


def card(device: str) -> dict[str, Any]:
    found: dict[str, Any] = {
        "device": device,
        "cpu": cpu_name(),
        "python": platform.python_version(),
        "packages": {name: version for name in PACKAGES if (version := version_of(name))},
        "commit": commit(),
        "source": source(),
        "cuda": torch.version.cuda,
    }
    if device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        found |= {
            "card": properties.name,
            "capability": f"{properties.major}.{properties.minor}",
            "memory_bytes": properties.total_memory,
            "cudnn": torch.backends.cudnn.version(),
            "driver": driver(),
        }
    return found


def source() -> str:
    """Of the files that run: names them where there is no git."""
    digest = hashlib.sha256()
    for path in sorted(ROOT.glob("[adlrc]*/**/*.py")):
        digest.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def version_of(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def driver() -> str:
    call = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(call, capture_output=True, text=True, check=True, timeout=20).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


if __name__ == "__main__":
    print(json.dumps(card(sys.argv[1])))
