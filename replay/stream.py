"""The books of one stream of games: when a window is due and which played steps it brings."""

from __future__ import annotations

from replay.experience import WindowCutter


class Stream:
    """Counts what happens to every played step: covered by a window, dropped, or still waiting."""

    def __init__(self, length: int, stride: int) -> None:
        self.played = 0
        self.dropped = 0
        self._cutter = WindowCutter(length, stride)
        self._waiting = 0  # played steps of the running game since the last window
        self._in_game = False

    def take(self, *, is_first: bool, is_last: bool) -> int | None:
        """Notes one record. If a window ends with it: how many played steps are in a window for the first time."""
        if is_first:
            self.break_off()
        elif not self._in_game:
            raise ValueError("the first record of a game must have is_first=True")
        else:
            self.played += 1
            self._waiting += 1
        self._in_game = not is_last
        if self._cutter.append(is_first=is_first, is_last=is_last):
            fresh, self._waiting = self._waiting, 0
            return fresh
        if is_last:
            self.break_off()
        return None

    def break_off(self) -> None:
        """Gives up what no window has covered yet."""
        self.dropped += self._waiting
        self._waiting = 0
        self._in_game = False
