"""What `play` needs of the games, wherever they are: E of them side by side, stepped together.

    action given     -      a_0     a_1    (any)    a_3
    prev_action      0      a_0     a_1      0      a_3
    is_first         1       0       0       1       0
    is_last          0       0       1       0       0

A game whose previous record was its last is reset by the next step instead of acting (Gymnasium's "next-step"
autoreset), so every step brings exactly one record of every game. One policy step = `frame_skip` emulator frames.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np

from replay.experience import EnvSpec, Step


class Arrived(NamedTuple):
    """What one vector step brought. The arrays are new each time: whoever got them may keep them."""

    step: Step  # every field [E, ...]
    is_last: np.ndarray  # bool [E]  the game ended with this record, truly or by the time limit
    life_lost: np.ndarray  # bool [E]  a life was lost with this record, or the whole game was, whatever the rules say
    practice: np.ndarray  # bool [E]  it began before a lost life, see practice.py: what it comes to is no game's score


class AnyGames(Protocol):
    """E games; the first call must be `reset`."""

    num: int  # E
    spec: EnvSpec

    def reset(self) -> Arrived:
        """Starts every game anew, also in the middle of one; forgets a step that was sent and not received."""

    def send(self, actions: np.ndarray) -> None:
        """Starts a step. actions: int [E], each 0..num_actions-1; that of a game that is reset instead is ignored."""

    def receive(self) -> Arrived:
        """What the actions sent lead to; exactly once per `send`."""

    def step(self, actions: np.ndarray) -> Arrived:
        """`send`, then `receive`."""

    def close(self) -> None:
        """Ends the games, also between `send` and `receive`; a second time does nothing."""
