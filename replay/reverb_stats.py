"""What Reverb tells about a table, in our words."""

from __future__ import annotations

from typing import Any

from replay.config import ReplayConfig
from replay.experience import EnvSpec
from replay.interface import ReplayStats
from replay.schema import bytes_per_step


def stats_of(info: Any, config: ReplayConfig, spec: EnvSpec) -> ReplayStats:
    """From a `reverb.TableInfo`, which has no word for who is waiting: the limiter's own rule says it."""
    limiter = info.rate_limiter_info
    inserted, sampled = limiter.insert_stats.completed, limiter.sample_stats.completed
    ahead = inserted * limiter.samples_per_insert - sampled
    steps = info.current_size * config.stride
    return ReplayStats(
        steps=steps,
        windows=info.current_size,
        inserted=inserted,
        sampled=sampled,
        bytes=steps * bytes_per_step(spec),
        actors_wait=ahead + limiter.samples_per_insert > limiter.max_diff,
        learner_waits=info.current_size < limiter.min_size_to_sample or ahead - 1 < limiter.min_diff,
    )
