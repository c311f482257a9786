"""From the replay's batch-major windows to time-major tensors on the device: the only transposition."""

from __future__ import annotations

import torch

from dreamer.types import Batch
from replay.experience import Sequences


def to_batch(sequences: Sequences, device: torch.device | str) -> Batch:
    """Sequences [B, T, ...] -> Batch [T, B, ...] on `device`. Copies: the arrays may be read-only or reused.

    Tensors that are on `device` already never leave it.
    """

    def tensor(values: object, dtype: torch.dtype) -> torch.Tensor:
        source = values if isinstance(values, torch.Tensor) else torch.tensor(values)
        moved = source.transpose(0, 1).to(device=device, dtype=dtype)
        return moved.clone(memory_format=torch.contiguous_format)

    return Batch(
        obs=tensor(sequences.obs, torch.uint8),
        prev_action=tensor(sequences.prev_action, torch.int64),
        reward=tensor(sequences.reward, torch.float32),
        is_first=tensor(sequences.is_first, torch.bool),
        is_terminal=tensor(sequences.is_terminal, torch.bool),
        prev_h=tensor(sequences.prev_h, torch.float16),
        prev_z=tensor(sequences.prev_z, torch.uint8),
    )
