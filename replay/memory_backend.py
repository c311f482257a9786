"""The replay inside one process: the readable specification of what a replay does.

A record is a `bytes` object and a window a tuple of T references to records: windows that overlap share their records,
and Python frees a record with the last window that holds it. Single-threaded: playing and training take turns.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from replay.config import ReplayConfig, check_config, max_windows, min_windows, samples_per_insert
from replay.experience import EnvSpec, Sequences, Step
from replay.interface import ReplayStats, ReplayTimeout, Sample
from replay.schema import bytes_per_step, check_step, field_types, record_dtype
from replay.stream import Stream

Window = tuple[bytes, ...]  # T records


class MemoryReplay:
    """The windows, the counts of the rate limit, and the generator that draws."""

    def __init__(self, config: ReplayConfig, spec: EnvSpec, *, seed: int) -> None:
        check_config(config)
        self.config, self.spec = config, spec
        self.windows: list[Window] = []  # a ring once it is full
        self.fresh: list[int] = []  # played steps that each window was the first to hold
        self.oldest = 0  # index of the window that goes next, once the ring is full
        self.inserted = 0
        self.sampled = 0
        self.rng = np.random.default_rng(seed)

    def writer(self) -> MemoryWriter:
        """A new stream of steps."""
        return MemoryWriter(self)

    def sampler(self) -> MemorySampler:
        """A new stream of batches."""
        return MemorySampler(self)

    def insert(self, window: Window, fresh: int) -> None:
        """Keeps a window; the oldest one goes if there are too many."""
        self.inserted += 1
        if len(self.windows) < max_windows(self.config):
            self.windows.append(window)
            self.fresh.append(fresh)
        else:
            self.windows[self.oldest], self.fresh[self.oldest] = window, fresh
            self.oldest = (self.oldest + 1) % len(self.windows)

    def can_sample(self, count: int) -> bool:
        """Whether `count` more windows may be sampled. The prefill earns no samples, so the ratio starts after it."""
        earned = (self.inserted - min_windows(self.config)) * samples_per_insert(self.config)
        return len(self.windows) >= min_windows(self.config) and self.sampled + count <= earned

    def can_insert(self) -> bool:
        """Whether it is the actors' turn. Nothing breaks if they play on: `append` never refuses."""
        return not self.can_sample(self.config.batch)

    def draw(self, count: int) -> Sample:
        """`count` windows drawn uniformly, with replacement."""
        picks = self.rng.integers(len(self.windows), size=count)
        data = b"".join(record for pick in picks for record in self.windows[pick])
        rows = np.frombuffer(data, record_dtype(self.spec)).reshape(count, self.config.length)  # [B, T]
        self.sampled += count
        sequences = Sequences(*(rows[name].copy() for name in Sequences._fields))
        sequences.is_first[:, 0] = True
        return Sample(sequences, policy_version=rows["policy_version"][:, -1].copy())

    def stats(self) -> ReplayStats:
        """Counts, as of now."""
        steps = sum(self.fresh)
        return ReplayStats(
            steps=steps,
            windows=len(self.windows),
            inserted=self.inserted,
            sampled=self.sampled,
            bytes=steps * bytes_per_step(self.spec),
        )

    def close(self) -> None:
        """Frees the memory."""
        self.windows.clear()
        self.fresh.clear()
        self.oldest = 0


class MemoryWriter:
    """One stream of steps into a MemoryReplay."""

    wait_seconds = 0.0  # nobody to wait for

    def __init__(self, replay: MemoryReplay) -> None:
        self._replay = replay
        self._types = field_types(replay.spec)
        self._stream = Stream(replay.config.length, replay.config.stride)
        self._latest: deque[bytes] = deque(maxlen=replay.config.length)
        self.acknowledged = 0

    @property
    def played(self) -> int:
        """Steps appended, the records of resets not counted."""
        return self._stream.played

    @property
    def dropped(self) -> int:
        """Played steps that are in no window and never will be."""
        return self._stream.dropped

    def append(self, step: Step, *, is_last: bool, policy_version: int) -> None:
        """Takes one record in."""
        check_step(step, self._types)
        fresh = self._stream.take(is_first=bool(step.is_first), is_last=is_last)
        self._latest.append(b"".join([value.tobytes() for value in step] + [np.int64(policy_version).tobytes()]))
        if fresh is not None:
            self._replay.insert(tuple(self._latest), fresh)
            self.acknowledged += fresh

    def flush(self) -> None:
        """Nothing is ever under way."""

    def close(self) -> None:
        """Gives the running game up."""
        self._stream.break_off()
        self._latest.clear()


class MemorySampler:
    """Batches from a MemoryReplay, as many as the replay ratio allows."""

    def __init__(self, replay: MemoryReplay) -> None:
        self._replay = replay

    def sample(self, timeout: float) -> Sample:
        """The next batch. Raises at once if none is due: in one thread, waiting would not bring it."""
        replay, config = self._replay, self._replay.config
        if len(replay.windows) < min_windows(config):
            raise ReplayTimeout(f"the replay holds {len(replay.windows)} of the {min_windows(config)} windows it needs")
        if not replay.can_sample(config.batch):
            raise ReplayTimeout(f"more play is due first: {replay.inserted} windows in, {replay.sampled} sampled")
        return replay.draw(config.batch)

    def close(self) -> None:
        """Nothing to end."""
