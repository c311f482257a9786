"""Whether the games last long enough: one that is shorter than a training window is in none, and nothing is learned.

While that is so play is random, and goes on being so: after a time waiting for longer games is no hope any more.
"""

from __future__ import annotations

from cluster.config import Config
from cluster.messages import ActorMessage, LearnerMessage, Message
from replay.config import min_windows
from replay.errors import UserError

FEW = 4  # times the prefill without as many windows as it should have brought: then it is said


class ShortGames:
    """Adds up what the messages tell until training can begin."""

    def __init__(self, config: Config) -> None:
        self._replay, self._games = config.replay, config.actor.games
        self._played: dict[tuple[int, int], int] = {}  # (actor, incarnation) -> policy steps
        self._finished = self._longest = 0  # games; policy steps
        self._windows: int | None = None  # stored so far; not known before the replay has spoken
        self._said = 0

    def hear(self, message: Message) -> None:
        """Takes note of what actors played and what the replay holds."""
        match message:
            case ActorMessage():
                self._played[message.actor, message.incarnation] = message.played_total
                lengths = [episode.length for episode in message.episodes]
                self._finished += len(lengths)
                self._longest = max([self._longest, *lengths])
            case LearnerMessage(replay=stats) if stats:
                self._windows = stats.inserted

    def look(self) -> str:
        """What to say now, "" = nothing. Raises UserError where it has been said and nothing has changed for as long.

        By then every game has had time for two windows: none is a long first game that has not ended yet.
        """
        actors = {actor for actor, _ in self._played}
        enough = max(self._replay.prefill, 2 * self._replay.length * self._games * len(actors), 1)
        played = sum(self._played.values())
        if self._windows is None or self._windows >= min_windows(self._replay):
            return ""
        if self._windows > 0:
            if played < FEW * enough or self._said >= 2:
                return ""
            self._said = 2
            return f"only {self._windows} of the {min_windows(self._replay)} windows that training begins with: {self}"
        if played >= 2 * enough:
            raise UserError(str(self))
        if played < enough or self._said:
            return ""
        self._said = 1
        return f"{self}; if none lasts longer, training ends after {2 * enough:,} policy steps"

    def __str__(self) -> str:
        length = min(self._longest + 1, self._replay.length)
        return (
            f"the games are shorter than replay.length {self._replay.length}, the records of a training window: the "
            f"longest of {self._finished:,} had {self._longest} policy steps. Take --replay.length {length} "
            f"--replay.stride {max(1, length // 2)}, or a smaller --env.frame-skip"
        )
