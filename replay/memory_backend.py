"""The replay inside one process: the readable specification of what a replay does.

A window is a tuple of T records. What a record is, the store says in which they live: here a `bytes` object, which
windows that overlap share and which Python frees with the last window that holds it; in device_backend.py the number of
a row on the device. Single-threaded: playing and training take turns.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np

from replay.config import ReplayConfig, check_config, max_windows, min_windows, samples_per_insert
from replay.errors import ReplayTimeout, UserError
from replay.experience import NO_STATE, EnvSpec, PrevState, Step
from replay.interface import ReplayStats, Sample
from replay.schema import bytes_per_step, check_step, field_types, mark_starts, record_dtype, to_bytes, to_sample
from replay.stream import Stream

Record: TypeAlias = Any  # whatever a store gives out for a record: `bytes`, or an int
Window: TypeAlias = tuple[Record, ...]  # T records


class RecordStore(Protocol):
    """Where the records live. Their bytes are those of a `record_dtype`."""

    def put(self, record: bytes) -> Record:
        """Takes a record in; returns what windows hold in its stead."""

    def holds(self, window: Window) -> bool:
        """Whether a window's records are all still there. Windows go in the order in which they were put."""

    def gather(self, windows: Sequence[Window]) -> Sample:
        """B windows as one batch, copied."""

    def dump(self, records: Sequence[Record]) -> bytes:
        """The bytes of these records, one after another."""

    def close(self) -> None:
        """Frees the memory."""


class HostRecords:
    """Records as `bytes` objects: Python keeps the books."""

    def __init__(self, config: ReplayConfig, spec: EnvSpec) -> None:
        self._length, self._dtype = config.length, record_dtype(spec)

    def put(self, record: bytes) -> bytes:
        """The record itself."""
        return record

    def holds(self, window: Window) -> bool:
        """Always: a window keeps its records alive."""
        return True

    def gather(self, windows: Sequence[Window]) -> Sample:
        """B windows -> arrays [B, T, ...]."""
        data = b"".join(record for window in windows for record in window)
        rows = np.frombuffer(data, self._dtype).reshape(len(windows), self._length)  # [B, T]
        return to_sample(rows)

    def dump(self, records: Sequence[Record]) -> bytes:
        """The bytes of these records, one after another."""
        return b"".join(records)

    def close(self) -> None:
        """Nothing of its own."""


class MemoryReplay:
    """The windows, the counts of the rate limit, and the generator that draws."""

    def __init__(self, config: ReplayConfig, spec: EnvSpec, *, seed: int, records: RecordStore) -> None:
        check_config(config)
        self.config, self.spec, self.records = config, spec, records
        self.windows: dict[int, Window] = {}  # by the count of windows inserted before; without gaps, oldest out first
        self.fresh: dict[int, int] = {}  # likewise: played steps that each window was the first to hold
        self.inserted = 0
        self.sampled = 0
        self.rng = np.random.default_rng(seed)

    def writer(self) -> MemoryWriter:
        """A new stream of steps."""
        return MemoryWriter(self)

    def sampler(self) -> MemorySampler:
        """A new stream of batches."""
        return MemorySampler(self)

    def put(self, record: bytes) -> Record:
        """Stores a record; windows of which the store gives up a record for it go."""
        kept = self.records.put(record)
        while self.windows and not self.records.holds(self.windows[self.oldest]):
            self._drop_oldest()
        return kept

    def insert(self, window: Window, fresh: int) -> None:
        """Keeps a window; the oldest one goes if there are too many."""
        if not self.records.holds(window):
            raise UserError(f"replay.capacity ({self.config.capacity}) is too small for so many games at a time")
        self.windows[self.inserted], self.fresh[self.inserted] = window, fresh
        self.inserted += 1
        if len(self.windows) > max_windows(self.config):
            self._drop_oldest()

    @property
    def oldest(self) -> int:
        """Key of the window that goes next."""
        return self.inserted - len(self.windows)

    def can_sample(self, count: int) -> bool:
        """Whether `count` more windows may be sampled. The prefill earns no samples, so the ratio starts after it."""
        earned = (self.inserted - min_windows(self.config)) * samples_per_insert(self.config)
        return len(self.windows) > 0 and self.sampled + count <= earned

    def can_insert(self) -> bool:
        """Whether it is the actors' turn. Nothing breaks if they play on: `append` never refuses."""
        return not self.can_sample(self.config.batch)

    def draw(self, count: int) -> Sample:
        """`count` windows drawn uniformly, with replacement."""
        picks = self.oldest + self.rng.integers(len(self.windows), size=count)
        sample = self.records.gather([self.windows[pick] for pick in picks.tolist()])
        self.sampled += count
        mark_starts(sample.sequences, self.spec)
        return sample

    def stats(self) -> ReplayStats:
        """Counts, as of now."""
        steps = sum(self.fresh.values())
        return ReplayStats(
            steps=steps,
            windows=len(self.windows),
            inserted=self.inserted,
            sampled=self.sampled,
            bytes=steps * bytes_per_step(self.spec),
            actors_wait=not self.can_insert(),
            learner_waits=self.can_insert(),
        )

    def close(self) -> None:
        """Frees the memory."""
        self.windows.clear()
        self.fresh.clear()
        self.records.close()

    def _drop_oldest(self) -> None:
        oldest = self.oldest
        del self.windows[oldest], self.fresh[oldest]


class MemoryWriter:
    """One stream of steps into a MemoryReplay."""

    wait_seconds = 0.0  # nobody to wait for
    errors = 0

    def __init__(self, replay: MemoryReplay) -> None:
        self._replay = replay
        self._types = field_types(replay.spec)
        self._stream = Stream(replay.config.length, replay.config.stride)
        self._latest: deque[Record] = deque(maxlen=replay.config.length)
        self.acknowledged = 0

    @property
    def played(self) -> int:
        """Steps appended, the records of resets not counted."""
        return self._stream.played

    @property
    def dropped(self) -> int:
        """Played steps that are in no window and never will be."""
        return self._stream.dropped

    def append(self, step: Step, *, is_last: bool, policy_version: int, prev: PrevState = NO_STATE) -> None:
        """Takes one record in."""
        check_step(step, prev, self._types)
        fresh = self._stream.take(is_first=bool(step.is_first), is_last=is_last)
        self._latest.append(self._replay.put(to_bytes(step, prev, policy_version)))
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
        if replay.inserted < min_windows(config):
            raise ReplayTimeout(f"the replay holds {len(replay.windows)} of the {min_windows(config)} windows it needs")
        if not replay.can_sample(config.batch):
            raise ReplayTimeout(f"more play is due first: {replay.inserted} windows in, {replay.sampled} sampled")
        return replay.draw(config.batch)

    def close(self) -> None:
        """Nothing to end."""
