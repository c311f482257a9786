"""Settings of the replay, and the numbers that follow from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, TypeAlias

from replay.bounds import Rule, first_fault
from replay.errors import UserError

Count: TypeAlias = Annotated[int, "1 <= x <= 1e9"]
Capacity: TypeAlias = Annotated[int, "1 <= x <= 1e12"]
Length: TypeAlias = Annotated[int, "2 <= x <= 1e6"]
Prefill: TypeAlias = Annotated[int, "0 <= x <= 1e12"]
Ratio: TypeAlias = Annotated[float, "0.001 <= x <= 1e9"]
Port: TypeAlias = Annotated[int, "0 <= x <= 65535"]


@dataclass(frozen=True)
class ReplayConfig:
    """How experience is kept and handed to the learner."""

    capacity: Capacity = 2_000_000  # policy steps kept, oldest out first; dreamerv2 configs.yaml replay.capacity 2e6
    length: Length = 50  # T, steps of a training window; dreamerv2 configs.yaml dataset.length
    stride: Count = 25  # policy steps per stored window: neighbouring windows overlap by length - stride; ours
    batch: Count = 16  # B, windows of a training batch; dreamerv2 configs.yaml dataset.batch
    prefill: Prefill = 50_000  # policy steps played at random before the first update; dreamerv2 configs.yaml prefill
    replay_ratio: Ratio = 50.0  # trained steps per played step; dreamerv2: batch 16 * length 50 / train_every 16
    # Stale by the updates since: R2D2's "stored state" without its burn-in. Random play stores the zero state.
    stored_state: bool = False  # windows start from the player's state there, not from zeros; R2D2; dreamerv2: zeros
    port: Port = 0  # TCP port of the Reverb server, 0 = any free one; ours


def samples_per_insert(config: ReplayConfig) -> float:
    """How often a stored window is sampled on average: ratio [trained/played] = spi * T / stride."""
    return config.replay_ratio * config.stride / config.length


def max_windows(config: ReplayConfig) -> int:
    """Windows kept, when one is stored per `stride` steps."""
    return max(1, config.capacity // config.stride)


def min_windows(config: ReplayConfig) -> int:
    """Windows needed before the first sample."""
    return max(1, config.prefill // config.stride)


def error_buffer(config: ReplayConfig) -> float:
    """How far [samples] the limiter lets sampling run ahead of, or behind, the exact ratio before one side has to wait.

    Reverb demands at least max(1, samples per insert). Eight windows or four batches keep the two sides from taking
    turns at every step: games store windows together, and what the sampler prefetches counts before it is trained on.
    Not more (acme takes a tenth of the prefill): the actors use it all at once at the start, and preset cpu was 3 % off
    after five minutes.
    """
    return max(1.0, 8 * samples_per_insert(config), 4.0 * config.batch)


def check_config(config: ReplayConfig) -> None:
    """Raises a UserError for numbers with which no batch would ever come."""
    if fault := first_fault("replay", config, replay_rules):
        raise UserError(fault)


def replay_rules(config: ReplayConfig) -> list[Rule]:
    """What must hold of several values together."""
    return [
        (
            config.stride <= config.length,
            f"replay.stride ({config.stride}) must not exceed replay.length ({config.length})",
        ),
        (
            min_windows(config) <= max_windows(config),
            f"replay.prefill ({config.prefill}) must not exceed replay.capacity ({config.capacity}): "
            "training would never start",
        ),
    ]
