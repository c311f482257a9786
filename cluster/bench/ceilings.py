"""What the machine can do at best: the ceilings that a benchmark's floors are made of, measured in the same run."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from learner.device import slow_bfloat16


class Timing(NamedTuple):
    """Repeated measurements of one thing."""

    seconds: float  # median
    spread: float  # (largest - smallest) / median


class Machine(NamedTuple):
    """The machine, and its rates with as many threads as torch has."""

    cpu: str
    cores: int
    gpu: str | None
    fp32_gflops: float  # matrix product
    bf16_gflops: float  # likewise
    copy_gbps: float  # bytes read plus bytes written
    torch: str
    commit: str  # of this program; "" where git does not know


def measure(device: torch.device) -> Machine:
    """Measures the ceilings of `device`; takes some seconds."""
    return Machine(
        cpu=cpu_name(),
        cores=len(os.sched_getaffinity(0)),
        gpu=torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        fp32_gflops=matrix_gflops(device, torch.float32),
        bf16_gflops=matrix_gflops(device, torch.bfloat16),
        copy_gbps=copy_gbps(device),
        torch=torch.__version__,
        commit=commit(),
    )


def repeat(
    run: Callable[[], object], device: torch.device, *, warm_up: int = 3, least: int = 5, seconds: float = 2.0
) -> Timing:
    """Calls `run` `warm_up` times uncounted, then at least `least` times and `seconds` long -> Timing of one call."""
    return alternate([run], device, warm_up=warm_up, least=least, seconds=seconds)[0]


def alternate(
    runs: Sequence[Callable[[], object]],
    device: torch.device,
    *,
    warm_up: int = 3,
    least: int = 5,
    seconds: float = 2.0,
) -> list[Timing]:
    """`repeat` for several things in turns: where others use the machine too, they meet with the same moments."""
    for _ in range(warm_up):
        for run in runs:
            run()
    synchronize(device)
    taken: list[list[float]] = [[] for _ in runs]
    while len(taken[0]) < least or sum(map(sum, taken)) < seconds:
        for run, times in zip(runs, taken, strict=True):
            began = time.perf_counter()
            run()
            synchronize(device)
            times.append(time.perf_counter() - began)
    medians = [statistics.median(times) for times in taken]
    spreads = [(max(times) - min(times)) / median for times, median in zip(taken, medians, strict=True)]
    return [Timing(*pair) for pair in zip(medians, spreads, strict=True)]


def synchronize(device: torch.device) -> None:
    """Waits until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class MatrixProduct:
    """A large square matrix product of random numbers (of zeros it would be faster)."""

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        size = 8192 if device.type == "cuda" else 2048
        if dtype == torch.bfloat16 and device.type == "cpu" and slow_bfloat16(device):
            size = 256  # 2048 would take 18 seconds
        self.flop = 2 * size**3
        self._a, self._b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        self._out = torch.empty_like(self._a)

    def __call__(self) -> None:
        torch.mm(self._a, self._b, out=self._out)


def matrix_gflops(device: torch.device, dtype: torch.dtype) -> float:
    """Rate of a large matrix product, 1e9 operations per second."""
    product = MatrixProduct(device, dtype)
    return product.flop / repeat(product, device).seconds / 1e9


def copy_gbps(device: torch.device) -> float:
    """Rate of a large copy, 1e9 bytes per second, read and written."""
    source = torch.randn((1 << 28) if device.type == "cuda" else (1 << 26), device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / repeat(lambda: target.copy_(source), device, seconds=1.0).seconds / 1e9


def cpu_name() -> str:
    """The processor's name, and whether it has matrix units for bfloat16."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor()
    fields = dict(line.split(":", 1) for line in text.split("\n\n")[0].splitlines() if ":" in line)
    fields = {key.strip(): value.strip() for key, value in fields.items()}
    units = "AMX" if "amx_bf16" in fields.get("flags", "").split() else "no AMX"
    return f"{fields.get('model name', platform.machine())} ({units})"


def commit() -> str:
    """The commit that is running, with a + where files differ from it."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty=+", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
