"""Which device trains, on how many threads, in which arithmetic."""

from __future__ import annotations

import torch

from learner.allocator import keep_freed_memory
from learner.config import TrainConfig
from replay.errors import UserError


def choose_device(name: str) -> torch.device:
    """cpu, cuda or auto. A GPU that was asked for and is not there is an error, never a silent fall back."""
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("no CUDA device is there for train.device cuda: use --device cpu, or mend the driver")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def prepare_learner(config: TrainConfig) -> None:
    """What a process that trains sets for itself before its first update."""
    keep_freed_memory()
    if config.threads:
        torch.set_num_threads(config.threads)


def choose_precision(name: str, device: torch.device) -> str:
    """float32, bfloat16 or auto: bfloat16 where the device multiplies it itself.

    Preset cpu's update on a CPU with AVX-512 BF16 takes 0.85 of the time that it takes in float32.
    """
    if name == "auto":
        name = "bfloat16" if has_bfloat16_units(device) else "float32"
    return name


def has_bfloat16_units(device: torch.device) -> bool:
    """Whether a device multiplies bfloat16 itself: a GPU since Ampere, a CPU with AMX or AVX-512 BF16."""
    if device.type != "cuda":
        can = torch.cpu.get_capabilities()
        return bool(can.get("amx_bf16") or can.get("avx512_bf16"))
    with torch.cuda.device(device):
        return torch.cuda.is_bf16_supported(including_emulation=False)


def slow_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 is computed without any help: 1 GFLOP/s instead of 150 on a CPU that has AVX2 alone."""
    if device.type == "cpu":
        return not torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    return not has_bfloat16_units(device)
