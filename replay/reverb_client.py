"""The clients of a Reverb server: writers in the actors, a sampler in the learner.

A server that comes back within `patience` is only a pause for them.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow reads it while it is imported

import numpy as np
import reverb
import tensorflow as tf

# Private, but the only way to end a call that waits for a server: without it the process could not end either.
from tensorflow.python.eager.cancellation import CancellationManager

from replay.config import ReplayConfig, check_config, min_windows
from replay.errors import ReplayTimeout, ReplayUnavailable, UserError
from replay.experience import NO_STATE, EnvSpec, PrevState, Step
from replay.interface import ReplayStats, Sample
from replay.reverb_stats import stats_of
from replay.schema import (
    check_step,
    field_types,
    mark_starts,
    record_dtype,
    run_table,
    table_name,
    to_bytes,
    to_sample,
)
from replay.stream import Stream

SLICE = 1.0  # seconds that one call may wait before we look around: stop? server gone?
PROBE = 2  # seconds that a living server may take to answer
CONNECT = 30  # seconds that Reverb itself tries to connect a sampler
IN_FLIGHT = 2  # windows of one writer that may be unconfirmed: their last chunk is still growing
MAX_CHUNK = 25  # steps compressed together: 305 bytes of memory per step of Breakout; 368 at 10 and 269 at 50


class Link:
    """What the clients of one process know about the server: is it ours, and when was it last heard of?"""

    def __init__(
        self,
        address: str,
        config: ReplayConfig,
        spec: EnvSpec,
        *,
        run_id: str,
        patience: float,
        lives: Callable[[], bool],
    ) -> None:
        check_config(config)
        self._lives = lives
        self.address, self.config, self.spec, self.patience = address, config, spec, patience
        self.table, self._run_id = table_name(config, spec), run_id
        self._silent_since: float | None = None
        self.client = reverb.Client(address)
        while self.probe() is None:  # a server that is only just starting
            time.sleep(0.2)

    def probe(self) -> Any | None:
        """The table's state, or None if the server does not answer now; ReplayUnavailable if it never seems to."""
        try:
            tables = self.client.server_info(timeout=PROBE)
        except (
            reverb.errors.ReverbError,
            RuntimeError,
        ):  # an old connection may also say "Socket closed" once, long before the server is given up
            self._count_silence()
            return None
        if run_table(self._run_id) not in tables:
            runs = ", ".join(name.removeprefix("run_") for name in tables if name.startswith("run_")) or "nobody"
            raise UserError(f"the replay server at {self.address} belongs to run {runs}, not to {self._run_id}")
        if self.table not in tables:
            raise UserError(f"the replay server at {self.address} holds windows of another length or game (or state)")
        self.heard()
        return tables[self.table]

    def heard(self) -> None:
        """The server has just done something for us."""
        self._silent_since = None

    def _count_silence(self) -> None:
        now = time.monotonic()
        self._silent_since = self._silent_since or now
        if now - self._silent_since <= self.patience:
            return
        if self._lives():  # it loads: nobody can say how long gigabytes take
            self._silent_since = now
        else:
            raise ReplayUnavailable(f"the replay server at {self.address} has been silent for {self.patience:.0f} s")


class ReverbReplay:
    """The replay as seen by actors and learners."""

    def __init__(self, link: Link, should_stop: Callable[[], bool]) -> None:
        self._link, self._should_stop = link, should_stop

    def writer(self) -> ReverbWriter:
        """A new stream of steps."""
        return ReverbWriter(self._link, self._should_stop)

    def sampler(self) -> ReverbSampler:
        """A new stream of batches, fetched ahead by a thread."""
        return ReverbSampler(self._link)

    def stats(self) -> ReplayStats:
        """Counts, as of now."""
        info = self._link.probe() or self._link.probe()
        if info is None:
            raise ReplayUnavailable(f"the replay server at {self._link.address} does not answer")
        return stats_of(info, self._link.config, self._link.spec)

    def close(self) -> None:
        """Nothing of its own to end."""


class ReverbWriter:
    """One stream of steps to the server."""

    def __init__(self, link: Link, should_stop: Callable[[], bool]) -> None:
        self._link, self._should_stop = link, should_stop
        self._types = field_types(link.spec)
        config = link.config
        self._stream = Stream(config.length, config.stride)
        self._unconfirmed: deque[int] = deque()  # per window under way: the played steps that it brings
        self.acknowledged = self.errors = 0
        self.wait_seconds = 0.0
        while link.probe() is None:  # against a dead server the next line would never return
            time.sleep(0.2)
        self._writer = link.client.trajectory_writer(num_keep_alive_refs=config.length)
        chunk = max(n for n in range(1, min(MAX_CHUNK, config.stride) + 1) if config.length % n == 0)
        self._writer.configure((), num_keep_alive_refs=config.length, max_chunk_length=chunk)

    @property
    def played(self) -> int:
        """Steps appended, the records of resets not counted."""
        return self._stream.played

    @property
    def dropped(self) -> int:
        """Played steps that are in no window and never will be."""
        return self._stream.dropped

    def append(self, step: Step, *, is_last: bool, policy_version: int, prev: PrevState = NO_STATE) -> None:
        """Takes one record in; blocks while the learner lags too far behind or the server is away."""
        check_step(step, prev, self._types)
        fresh = self._stream.take(is_first=bool(step.is_first), is_last=is_last)
        self._writer.append(np.frombuffer(to_bytes(step, prev, policy_version), np.uint8))
        if fresh is not None:
            window = self._writer.history[-self._link.config.length :]
            self._writer.create_item(self._link.table, priority=1.0, trajectory=window)
            self._unconfirmed.append(fresh)
            self._wait(IN_FLIGHT)
        if is_last:
            self.flush()
            self._end_episode()

    def flush(self) -> None:
        """Waits until every window stored so far is confirmed."""
        self._wait(0)

    def close(self) -> None:
        """Ends the stream; a running game's unfinished window is lost."""
        self._stream.break_off()
        self._writer.close()  # does not wait, not even for a server that is gone

    def _wait(self, in_flight: int) -> None:
        """Waits until at most `in_flight` windows are unconfirmed, or until we are to stop."""
        start, failures = time.monotonic(), 0
        try:
            while True:
                slice_ms = 1 if self._should_stop() else int(SLICE * 1000)
                try:
                    self._writer.flush(block_until_num_items=in_flight, timeout_ms=slice_ms)
                except reverb.errors.DeadlineExceededError:
                    pass  # throttled or cut off: the windows are still on their way
                except RuntimeError:
                    failures, self.errors = failures + 1, self.errors + 1
                    if failures > self._link.patience / SLICE:
                        raise
                    time.sleep(SLICE)
                else:
                    break
                if self._should_stop():
                    return
                self._link.probe()
        finally:
            self.wait_seconds += time.monotonic() - start
        self._link.heard()
        while len(self._unconfirmed) > in_flight:
            self.acknowledged += self._unconfirmed.popleft()

    def _end_episode(self) -> None:
        # It can only be late after a `should_stop`: all windows are confirmed otherwise.
        with contextlib.suppress(reverb.errors.DeadlineExceededError):
            self._writer.end_episode(clear_buffers=True, timeout_ms=int(SLICE * 1000))


class ReverbSampler:
    """Batches, fetched ahead by a thread: one stands ready, and one is on its way. Both count as sampled."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._ready: queue.Queue[Sample | BaseException] = queue.Queue()
        self._wanted = threading.Semaphore(1)
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._cancel: CancellationManager | None = None
        self._thread = threading.Thread(target=self._run, name="replay-sampler", daemon=True)
        self._thread.start()

    def sample(self, timeout: float) -> Sample:
        """The next batch, or ReplayTimeout after `timeout` seconds (plus those of one probe) with the reason."""
        try:
            item = self._ready.get(timeout=timeout)
        except queue.Empty:
            raise ReplayTimeout(self._reason()) from None
        if isinstance(item, BaseException):
            self._ready.put(item)  # for the next call too: the thread has ended
            raise item
        self._wanted.release()
        return item

    def close(self) -> None:
        """Ends the stream, also when the thread waits for a server that starves it or is dead.

        That is at once, but for a server that died while the thread was connecting: Reverb then tries for 30 s, and
        a process that ended meanwhile would abort.
        """
        self._closed.set()
        self._wanted.release()
        with self._lock:
            if self._cancel is not None:
                self._cancel.start_cancel()
        self._thread.join(timeout=CONNECT + PROBE)

    def _reason(self) -> str:
        info, config = self._link.probe(), self._link.config
        if info is None:
            return f"the replay server at {self._link.address} does not answer"
        if info.current_size < min_windows(config):
            return f"the replay holds {info.current_size} of the {min_windows(config)} windows it needs"
        limiter = info.rate_limiter_info
        inserted, sampled = limiter.insert_stats.completed, limiter.sample_stats.completed
        return f"more play is due first: {inserted} windows in, {sampled} sampled"

    def _run(self) -> None:
        """The thread: connect, fetch until something breaks, connect again."""
        try:
            while not self._closed.is_set():
                if self._link.probe() is None:  # connecting to a dead server would block where nothing can cancel it
                    self._closed.wait(0.2)
                    continue
                try:
                    self._fetch_all()
                except tf.errors.OpError:
                    self._closed.wait(SLICE)  # a broken connection, or we are to close
        except BaseException as error:  # whatever it is, the caller of `sample` must hear of it
            self._ready.put(error)

    def _fetch_all(self) -> None:
        iterator = iter(_dataset(self._link))
        manager = CancellationManager()
        fetch = manager.get_cancelable_function(tf.function(lambda: iterator.get_next()).get_concrete_function())
        with self._lock:
            self._cancel = manager
        while True:
            self._wanted.acquire()
            if self._closed.is_set():
                return
            try:
                item = _to_sample(fetch().data, self._link.spec)
            except BaseException:
                self._wanted.release()  # still wanted, after the next connect
                raise
            self._link.heard()
            self._ready.put(item)


def _dataset(link: Link) -> Any:
    config, itemsize = link.config, record_dtype(link.spec).itemsize
    windows = reverb.TrajectoryDataset(
        link.address,
        link.table,
        dtypes=tf.uint8,
        shapes=tf.TensorShape((config.length, itemsize)),
        max_in_flight_samples_per_worker=config.batch,
        num_workers_per_iterator=1,
    )
    return windows.batch(config.batch, drop_remainder=True)


def _to_sample(windows: Any, spec: EnvSpec) -> Sample:
    """Tensor [B, T, bytes of a record] -> arrays that may be written to."""
    sample = to_sample(np.asarray(windows).view(record_dtype(spec))[..., 0])
    mark_starts(sample.sequences, spec)
    return sample
