"""Settings of the replay, and the numbers that follow from them."""

from __future__ import annotations

from dataclasses import dataclass


class UserError(ValueError):
    """The request is wrong and the user can mend it: the command line prints this one line and ends with exit code 2."""


@dataclass(frozen=True)
class ReplayConfig:
    """How experience is kept and handed to the learner."""

    capacity: int = 2_000_000  # policy steps kept, oldest out first; dreamerv2 configs.yaml replay.capacity 2e6
    length: int = 50  # T, steps of a training window; dreamerv2 configs.yaml dataset.length
    stride: int = 25  # policy steps per stored window: neighbouring windows overlap by length - stride; ours
    batch: int = 16  # B, windows of a training batch; dreamerv2 configs.yaml dataset.batch
    prefill: int = 50_000  # policy steps played at random before the first update; dreamerv2 configs.yaml prefill
    replay_ratio: float = 50.0  # trained steps per played step; dreamerv2: batch 16 * length 50 / train_every 16
    port: int = 0  # TCP port of the Reverb server, 0 = any free one


def samples_per_insert(config: ReplayConfig) -> float:
    """How often a stored window is sampled on average: ratio [trained/played] = spi * T / stride."""
    return config.replay_ratio * config.stride / config.length


def max_windows(config: ReplayConfig) -> int:
    """Windows kept, when one is stored per `stride` steps."""
    return max(1, config.capacity // config.stride)


def min_windows(config: ReplayConfig) -> int:
    """Windows needed before the first sample."""
    return max(1, config.prefill // config.stride)
