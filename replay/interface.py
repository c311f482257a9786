"""What a replay offers, whichever backend holds the steps."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from replay.experience import NO_STATE, Array, PrevState, Sequences, Step


class Sample(NamedTuple):
    """A batch of windows, drawn uniformly. The arrays (or tensors) belong to the caller."""

    sequences: Sequences
    policy_version: Array  # int64 [B]  update count of the policy that played the window's last step


class ReplayStats(NamedTuple):
    """The state of the replay. `inserted` and `sampled` are the counts that the rate limit goes by."""

    steps: int  # policy steps kept; Reverb: windows * stride, which the window cutter makes true on average
    windows: int  # windows kept
    inserted: int  # windows inserted ever
    sampled: int  # windows sampled ever, prefetched ones included
    bytes: int  # steps * bytes_per_step: what they would need uncompressed (Reverb does not tell what it uses)
    actors_wait: bool = False  # the rate limit holds back the next window
    learner_waits: bool = False  # the rate limit holds back the next sample


class Writer(Protocol):
    """One stream of steps: one game slot of one actor. Not to be shared between threads."""

    @property
    def played(self) -> int:
        """Steps appended, the records of resets not counted."""

    @property
    def acknowledged(self) -> int:
        """Played steps that are in windows which the replay has confirmed."""

    @property
    def dropped(self) -> int:
        """Played steps that are in no window: games shorter than T, and ends of games that were broken off."""

    @property
    def wait_seconds(self) -> float:
        """Time spent waiting for the replay to take windows in."""

    @property
    def errors(self) -> int:
        """Calls to the replay that failed and were tried again."""

    def append(self, step: Step, *, is_last: bool, policy_version: int, prev: PrevState = NO_STATE) -> None:
        """Takes one record in, with the state before it if the spec has one; blocks while the learner lags too far."""

    def flush(self) -> None:
        """Waits until every window stored so far is confirmed."""

    def close(self) -> None:
        """Ends the stream; a running game's unfinished window is lost. Never blocks for long."""


class Sampler(Protocol):
    """A stream of batches."""

    def sample(self, timeout: float) -> Sample:
        """The next batch, or ReplayTimeout after `timeout` seconds."""

    def close(self) -> None:
        """Ends the stream, whatever state the replay is in."""


class Replay(Protocol):
    """A replay as actors and learners see it."""

    def writer(self) -> Writer:
        """A new stream of steps."""

    def sampler(self) -> Sampler:
        """A new stream of batches of the configured size."""

    def stats(self) -> ReplayStats:
        """Counts, as of now."""

    def close(self) -> None:
        """Lets go of the replay; writers and samplers are closed by whoever made them."""


class ReplayServer(Protocol):
    """A replay that other processes connect to."""

    @property
    def address(self) -> str:
        """host:port for `connect`."""

    def checkpoint(self) -> None:
        """Saves everything; the next `serve` on the same directory starts from it."""

    def stats(self) -> ReplayStats:
        """Counts, as of now."""

    def close(self) -> None:
        """Ends the server; what was not checkpointed is gone."""
