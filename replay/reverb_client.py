"""A Reverb server as the other processes see it: writers in the actors, a sampler in the learner."""

from __future__ import annotations

from collections.abc import Callable

from replay.errors import ReplayUnavailable
from replay.interface import ReplayStats
from replay.reverb_link import Link
from replay.reverb_sampler import ReverbSampler
from replay.reverb_stats import stats_of
from replay.reverb_writer import ReverbWriter


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
