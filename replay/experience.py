"""What is remembered: one step of a game, windows of steps, and when a window is cut.

Index t holds what ARRIVED together: the picture, the action that led to it and the reward that it brought.

    prev_action   0 --- a_0 --- a_1 --- a_2
    obs             x_0     x_1     x_2     x_3
    reward           0      r_1     r_2     r_3
    is_first         1       0       0       0
    prev_h, prev_z   *      s_0     s_1     s_2     the player's state before x_t; * is erased by is_first

T time  B batch  E games of one actor  C channels
D units of h, S categoricals of z: 0 unless states are stored
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from replay.errors import UserError

Array: TypeAlias = NDArray[Any]
ArrayOrTensor: TypeAlias = Any  # NDArray; torch.Tensor (not to be imported here) from a replay on a device


class Step(NamedTuple):
    """One record of one game, or of E games at once (then every field has a leading [E])."""

    obs: Array  # uint8   [H, W, C]
    prev_action: Array  # int32   []
    reward: Array  # float32 []  raw game reward; squashed inside dreamer/
    is_first: Array  # bool    []  the record that a reset brought
    is_terminal: Array  # bool    []  true end (or lost life); a time limit is not one


class PrevState(NamedTuple):
    """The player's recurrent state when a record of one game, or of E games at once, arrived: small, for storing.

    float16 is safe: h is a mean of hyperbolic tangents, within -1..1, and is rounded by 2.5e-4 at most.
    """

    prev_h: Array  # float16 [D]
    prev_z: Array  # uint8   [S]  class of each categorical; 255 = none yet, as in the zero state


NO_STATE = PrevState(np.zeros(0, np.float16), np.zeros(0, np.uint8))


class Sequences(NamedTuple):
    """A batch of windows, batch-major: the fields of Step and of PrevState.

    Where states are stored, training starts from those of `[:, 0]`, and `is_first[:, 0]` says whether a game begins
    there. Else `is_first[:, 0]` is always True: training starts from a zero state.
    """

    obs: ArrayOrTensor  # uint8   [B, T, H, W, C]
    prev_action: ArrayOrTensor  # int32   [B, T]
    reward: ArrayOrTensor  # float32 [B, T]
    is_first: ArrayOrTensor  # bool    [B, T]
    is_terminal: ArrayOrTensor  # bool    [B, T]
    prev_h: ArrayOrTensor  # float16 [B, T, D]
    prev_z: ArrayOrTensor  # uint8   [B, T, S]


class EnvSpec(NamedTuple):
    """What a game looks like from outside; for a replay also what is kept of the one who plays it."""

    obs_shape: tuple[int, int, int]  # (H, W, C) of the uint8 picture
    num_actions: int
    state: tuple[int, int] = (0, 0)  # (D, S) of the player's state stored with each record; (0, 0) = none is


SAVINGS = 3  # windows' lengths of played steps: games of mixed lengths save up 3.0 at most and owe 0.5; ours


class WindowCutter:
    """Decides, record by record, when a window of the last `length` records of one stream of games is stored.

    One window is stored per `stride` played steps *exactly* (in the long run), so that a limit on samples per stored
    window is a limit on trained steps per played step (exact for 1 < stride <= length / 2). A plain grid of windows per
    game misses that by several per cent, because a game's first window needs `length` records and its last one must end
    on its last record. So a stream keeps a balance: each played step earns 1/stride, each window costs 1, and a window
    is due as soon as there is balance for it.

    Games of just `length` records have room for one window and earn more, so what is saved up has an end: or they would
    be paid for, when longer ones come, by a window at every record of those. Likewise what is owed.

    Guarantees: no window crosses a game; every record of a game of at least `length` records is in some window, its
    last record included. Games of fewer than `length` records are dropped (as in the official code) and give back what
    they earned.
    """

    def __init__(self, length: int, stride: int) -> None:
        if not 1 <= stride <= length:
            raise UserError(f"replay.stride must be between 1 and replay.length ({length}), not {stride}")
        self.length, self.stride = length, stride
        self._most = SAVINGS * length
        self._balance = 0  # in units of 1/stride windows
        self._in_game = 0  # records of the running game
        self._uncovered = 0  # records since the last window's end

    def append(self, *, is_first: bool, is_last: bool) -> bool:
        """Takes note of one record; True if the window that ends with this record is to be stored now."""
        if is_first:
            self._end_game()  # does nothing where the last game ended properly
        else:
            self._balance = min(self._balance + 1, self._most)  # the record of a reset is not a played step
        self._in_game += 1
        self._uncovered += 1
        if self._in_game < self.length:
            if is_last:
                self._end_game()
            return False
        due = self._balance >= self.stride
        must = is_last or self._uncovered == self.length  # the latter includes the first window of a game
        if due or must:
            self._balance = max(self._balance - self.stride, -self._most)
            self._uncovered = 0
            if is_last:
                self._end_game()
            return True
        return False

    def _end_game(self) -> None:
        if 0 < self._in_game < self.length:
            self._balance -= self._in_game - 1
        self._in_game = self._uncovered = 0
