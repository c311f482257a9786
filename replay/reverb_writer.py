"""Steps to a Reverb server, for the actors."""

from __future__ import annotations

import contextlib
import os
import time
from collections import deque
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow reads it while it is imported

import numpy as np
import reverb

from replay.experience import NO_STATE, PrevState, Step
from replay.reverb_link import SLICE, Link
from replay.schema import check_step, field_types, to_bytes
from replay.stream import Stream

IN_FLIGHT = 2  # windows of one writer that may be unconfirmed: their last chunk is still growing
MAX_CHUNK = 25  # steps compressed together: 305 bytes of memory per step of Breakout; 368 at 10 and 269 at 50


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
