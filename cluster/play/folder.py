"""The page as a folder that any web server can show: no Python, no other host, the dream is computed in the browser."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from cluster.play.dream import DreamStep
from dreamer.agent import Agent
from replay.errors import UserError

HERE = Path(__file__).parent
PACKAGE = "onnxruntime-web"
# What of the package is needed: one thread of a CPU, without a worker, as any web server can deliver it.
RUNTIME = {"ort.wasm.bundle.min.mjs": "ort.js", "ort-wasm-simd-threaded.wasm": "ort-wasm-simd-threaded.wasm"}
LOCK = ("package.json", "package-lock.json")  # beside this file: which version, and its checksum
NPM_SECONDS = 600.0


class Sizes(NamedTuple):
    """Bytes."""

    model: int
    all: int


def write_page(agent: Agent, about: dict[str, Any], folder: Path) -> Sizes:
    """Makes `folder`, whole or not at all. Raises UserError where that cannot be."""
    check_place(folder)
    unfinished = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        unfinished.mkdir(parents=True)
        model = fill(unfinished, agent, about)
        total = sum(path.stat().st_size for path in unfinished.iterdir())
        unfinished.replace(folder)
    except OSError as error:
        raise UserError(f"cannot write to {folder} ({error.strerror}): choose another --web") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return Sizes(model, total)


def fill(folder: Path, agent: Agent, about: dict[str, Any]) -> int:
    """Writes all files -> bytes of the model."""
    from cluster.play.onnx_file import as_onnx  # onnx is installed where pages are made

    for path in (HERE / "page").iterdir():
        shutil.copyfile(path, folder / path.name)
    (folder / "dream.json").write_text(json.dumps(about))
    (folder / "step.onnx").write_bytes(as_onnx(DreamStep(agent)))
    copy_runtime(folder)
    return (folder / "step.onnx").stat().st_size


def check_place(folder: Path) -> None:
    """Raises UserError where no page can be made there: worth asking before the agent is loaded."""
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise UserError(f"{folder} is there already: choose a new --web")
    if find_spec("onnx") is None:
        raise UserError("export --web needs the package onnx, which is not installed: make setup")
    if shutil.which("npm") is None:
        raise UserError("export --web needs npm, which fetches ONNX Runtime Web: apt-get install npm")


def copy_runtime(folder: Path) -> None:
    """ONNX Runtime Web, in the version and with the checksum of the lock file."""
    with tempfile.TemporaryDirectory() as work:
        for name in LOCK:
            shutil.copyfile(HERE / "runtime" / name, Path(work) / name)
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"]
        try:
            done = subprocess.run(command, cwd=work, capture_output=True, text=True, timeout=NPM_SECONDS, check=False)
        except subprocess.TimeoutExpired as error:
            raise UserError(f"npm has not fetched {PACKAGE} within {NPM_SECONDS:g} s: look at the network") from error
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if line.strip()] or ["it said nothing"]
            raise UserError(f"npm cannot fetch {PACKAGE}: {lines[0][:300]}")
        package = Path(work) / "node_modules" / PACKAGE
        for name, here in RUNTIME.items():
            shutil.copyfile(package / "dist" / name, folder / here)
