"""What actors and learner tell whoever keeps the run's records; the same in one process and in many."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from actors.episodes import EpisodeReport
from replay import ReplayStats


class ActorMessage(NamedTuple):
    """What one actor did since its last message.

    Its totals are sums since this incarnation began, so that a message that gets lost (with the mailbox, or on a cut
    link) is made good by the next one, and one that comes late counts nothing twice.
    """

    actor: int
    incarnation: int  # how often this actor was started before
    played_total: int  # policy steps, since this incarnation began
    episodes: list[EpisodeReport]
    policy_version: int  # update count of its policy; -1 = random play
    seconds: float  # wall clock that this message covers
    wait_seconds: float  # of these, waiting for the replay: the learner is behind
    acknowledged: int  # policy steps, since this incarnation began, that the replay has confirmed
    dropped: int  # likewise, that are in no window: games shorter than one, and ends of games that were broken off


class LearnerMessage(NamedTuple):
    """What the learner did since its last message."""

    update: int  # updates so far
    updates: int  # of these, new
    metrics: dict[str, float]  # means over the new ones
    seconds: float  # wall clock that this message covers
    wait_seconds: float  # of these, waiting for data: the actors are behind
    replay: ReplayStats | None
    images: dict[str, np.ndarray]  # uint8 [H, W, 3], of a film [N, H, W, 3]; now and then, else none
    sight: dict[str, float]  # likewise: what the world model sees and foresees, see cluster/look/world_report.py
    unsaved: str = ""  # why the last try to save failed; "" = it did not


class Note(NamedTuple):
    """Something that a person should read."""

    role: str
    text: str


class Target(NamedTuple):
    """Where the metrics of one process are; said at its start, and now and then in case that was lost."""

    role: str  # learner, actor, replay, board (the mailbox); of the driver's own process driver or inline
    instance: str  # "learner", "actor-3": the same after a restart
    address: str  # host:port


Message = ActorMessage | LearnerMessage | Note | Target
