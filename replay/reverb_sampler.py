"""Batches from a Reverb server, for the learner."""

from __future__ import annotations

import os
import queue
import threading
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow reads it while it is imported

import numpy as np
import reverb
import tensorflow as tf

# Private, but the only way to end a call that waits for a server: without it the process could not end either.
from tensorflow.python.eager.cancellation import CancellationManager

from replay.config import min_windows
from replay.errors import ReplayTimeout
from replay.experience import EnvSpec
from replay.interface import Sample
from replay.reverb_link import PROBE, SLICE, Link
from replay.schema import mark_starts, record_dtype, to_sample

CONNECT = 30  # seconds that Reverb itself tries to connect a sampler


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
