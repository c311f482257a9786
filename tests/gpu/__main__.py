"""Runs the stages, each in a process of its own under its own time limit, and keeps what they found.

    python -m tests.gpu --out DIR [--minutes M] [--stages tests,bench,profile,train] [--device cpu --tiny]

    DIR/gpu.json               the machine, and every number of every stage; rewritten whenever there is a new one
    DIR/STAGE.log              what a stage said
    DIR/run.tar.gz.00 ...      run, weights and film of stage train, in pieces: cat run.tar.gz.* | tar xz

Eight files of at most 15 MB. Nothing but Python's own library is imported here: no stage can take this process along.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from tests.gpu import numbers
from tests.gpu.parcel import cap, pack

ROOT = Path(__file__).parents[2]
LIMITS = {"tests": 150.0, "bench": 150.0, "profile": 60.0, "train": 120.0}  # seconds; train: besides --minutes
MODULES = {"bench": "tests.gpu.bench", "profile": "tests.gpu.profiling", "train": "tests.gpu.training"}
CARD_SECONDS = 60.0
LOOK_SECONDS = 0.5


class Ended(NamedTuple):
    """How a stage ended."""

    exit_code: int | None  # None = its time was up
    seconds: float


def main(arguments: list[str] | None = None) -> int:
    """0 if every stage ended well."""
    options = parse(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = {"date": time.strftime("%Y-%m-%d %H:%M:%S %Z"), "tiny": options.tiny}

    def keep() -> None:
        numbers.write(options.out / "gpu.json", result)

    keep()
    result["machine"] = machine(options.device)
    result["stages"] = stages = {}
    keep()
    with tempfile.TemporaryDirectory(prefix="gpu-") as work:
        for stage in options.stages:
            limit = LIMITS[stage] + (60 * options.minutes if stage == "train" else 0)
            found, log = Path(work) / f"{stage}.json", options.out / f"{stage}.log"
            stages[stage] = {"limit": limit}

            def look(stage: str = stage, found: Path = found) -> None:
                if (new := numbers.read(found)) != stages[stage].get("numbers", {}):
                    stages[stage]["numbers"] = new
                    keep()

            ended = run(words_of(stage, options, found, Path(work)), log, limit, look)
            stages[stage] |= ended._asdict()
            if stage == "tests":
                stages[stage]["last_line"] = last_line(log)
            if stage == "train":
                stages[stage]["files"] = pack(Path(work), options.out / "run.tar.gz")
            cap(log)
            keep()
            print(f"{stage}: {verdict(stages[stage])}", flush=True)
    return 0 if "error" not in result["machine"] and all(good(stage) for stage in stages.values()) else 1


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.gpu", description="Everything that a GPU must show.")
    parser.add_argument("--out", type=Path, required=True, help="folder for what was found")
    parser.add_argument("--minutes", type=float, default=1.0, help="of stage train")
    parser.add_argument("--stages", type=lambda text: text.split(","), default=list(LIMITS), help=",".join(LIMITS))
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: a rehearsal")
    parser.add_argument("--tiny", action="store_true", help="nets so small that a CPU can rehearse the command")
    options = parser.parse_args(arguments)
    if unknown := set(options.stages) - set(LIMITS):
        parser.error(f"there is no stage {unknown.pop()!r}: use some of {','.join(LIMITS)}")
    return options


def machine(device: str) -> dict[str, Any]:
    """Asked of a process of its own: a driver may hang."""
    call = [sys.executable, "-m", "tests.gpu.card", device]
    try:
        done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, check=True, timeout=CARD_SECONDS)
        return json.loads(done.stdout.splitlines()[-1])
    except subprocess.CalledProcessError as error:
        return {"error": error.stderr.strip()[-2000:]}
    except (OSError, subprocess.SubprocessError, ValueError, IndexError) as error:
        return {"error": f"{type(error).__name__}: {error}"}


def words_of(stage: str, options: argparse.Namespace, found: Path, work: Path) -> list[str]:
    if stage == "tests":
        return [sys.executable, "-m", "pytest", "-m", "gpu", "-v", "-p", "no:cacheprovider", "--durations=10"]
    words = [sys.executable, "-m", MODULES[stage], "--device", options.device, "--numbers", str(found)]
    words += ["--tiny"] * options.tiny
    return words + ["--minutes", str(options.minutes), "--work", str(work)] * (stage == "train")


def run(words: list[str], log: Path, limit: float, look: Callable[[], None]) -> Ended:
    """Runs a stage to its end or to that of its time; `look` is called now and then. Leaves none of its processes."""
    began = time.monotonic()
    environment = os.environ | {"PYTHONUNBUFFERED": "1", "TORCH_SHOW_CPP_STACKTRACES": "1"}
    with log.open("wb") as said:
        process = subprocess.Popen(
            words, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True
        )
        try:
            while process.poll() is None and time.monotonic() - began < limit:
                time.sleep(LOOK_SECONDS)
                look()
        finally:
            code = process.poll()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # also what a stage that has ended left behind
            process.wait()
    look()
    return Ended(code, round(time.monotonic() - began, 1))


def good(stage: dict[str, Any]) -> bool:
    """Ended by itself, well, and without a measurement that failed."""
    return stage["exit_code"] == 0 and not failed(stage)


def failed(stage: dict[str, Any]) -> list[str]:
    return [name for name, found in stage.get("numbers", {}).items() if isinstance(found, dict) and "error" in found]


def verdict(stage: dict[str, Any]) -> str:
    """One line for whoever waits."""
    how = "its time was up" if stage["exit_code"] is None else f"exit code {stage['exit_code']}"
    less = f"; failed: {', '.join(failed(stage))}" if failed(stage) else ""
    return f"{how} after {stage['seconds']:.0f} of {stage['limit']:.0f} s{less} {stage.get('last_line', '')}".rstrip()


def last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1].strip("= ") if lines else ""


if __name__ == "__main__":
    sys.exit(main())
