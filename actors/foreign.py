"""Games by other people: what `reset` and `step` return is held against what the game declares, at every step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from actors.calling import Calling, at_start
from actors.config import EnvConfig, GameBroke
from actors.opening import action_meanings, check_spaces, make
from actors.patience import Patience

LARGEST_REWARD = 1e18  # its square must fit into a float32: the reward head's loss
REHEARSED = 18  # steps that a game is tried with before anything depends on it; as many as Atari has actions


class Came(NamedTuple):
    """What one frame of a game brought, checked."""

    picture: np.ndarray  # as declared
    reward: float
    over: bool  # truly
    cut: bool  # by a limit of the game's own
    info: Mapping[str, Any]


class Foreign:
    """One game of Gymnasium that shows a picture and takes one of n actions. Raises UserError where it is neither."""

    def __init__(self, config: EnvConfig) -> None:
        self.id = config.id
        self._making, self._resetting = Calling(self.id, "making it"), Calling(self.id, "reset()")
        self._stepping, self._closing = Calling(self.id, "step()", often=True), Calling(self.id, "close()")
        self._patience = Patience([self._making, self._resetting, self._stepping, self._closing])
        with at_start(self.id):
            self.env = make(config.id, self._making)
            with Calling(self.id, "looking at its spaces"):
                check_spaces(self.env, self.id)
                seen, actions = self.env.observation_space, self.env.action_space
                self.shape: tuple[int, ...] = seen.shape
                self.low, self.high = seen.low, seen.high
                self.num_actions = int(actions.n)
                # Of the type that action_space.sample() gives: with it a game was tried by its author.
                self._actions = [actions.dtype.type(actions.start + a) for a in range(self.num_actions)]
            with Calling(self.id, "get_action_meanings()"):
                self.names = action_meanings(self.env)  # None where they are not known
        self.thorough = False  # whether pictures are also held against the range that is declared, which takes longer

    def reset(self, seed: int | None = None) -> tuple[np.ndarray, Mapping[str, Any]]:
        """Starts the game -> picture, info. Raises GameBroke."""
        with self._resetting:
            back = self.env.reset(seed=seed) if seed is not None else self.env.reset()
        if not isinstance(back, tuple) or len(back) != 2:
            raise self._wrong("reset()", f"returned {kind_of(back)} where observation, info are due")
        picture, info = back
        self._check_picture(picture, "reset()")
        self._check_info(info, "reset()")
        return picture, info

    def step(self, action: int) -> Came:
        """Plays one frame. action: 0..num_actions-1. Raises GameBroke."""
        with self._stepping:
            back = self.env.step(self._actions[action])
        if not isinstance(back, tuple) or len(back) != 5:
            old = " (that is the old Gym API)" if isinstance(back, tuple) and len(back) == 4 else ""
            due = "observation, reward, terminated, truncated, info"
            raise self._wrong("step()", f"returned {kind_of(back)} where {due} are due{old}")
        picture, reward, over, cut, info = back
        self._check_picture(picture, "step()")
        self._check_info(info, "step()")
        return Came(picture, self._reward(reward), self._flag(over, "terminated"), self._flag(cut, "truncated"), info)

    def lives(self, info: Mapping[str, Any]) -> int | None:
        """What `info` tells of them; None where it does not. Raises GameBroke."""
        lives = info.get("lives")
        if "lives" not in info:
            return None
        if not isinstance(lives, int | np.integer) or isinstance(lives, bool) or lives < 0:
            raise self._wrong("info['lives']", f"is {lives!r}, not a number of lives, 0 or more")
        return int(lives)

    def rehearse(self) -> None:
        """Tries the game: every action once, through ends and resets, and the pictures' range. Raises GameBroke."""
        self.thorough = True
        self.reset(seed=0)
        for step in range(REHEARSED):
            came = self.step(step % self.num_actions)
            if came.over or came.cut:
                self.reset()
        self.reset()
        self.thorough = False

    def changed(self) -> str:
        """What it has changed of the process that it is in, in words; "" = nothing."""
        return " and ".join(sorted(self._making.changed | self._resetting.changed))

    def close(self) -> None:
        """Raises GameBroke."""
        with self._closing:
            self.env.close()

    def _check_picture(self, picture: Any, call: str) -> None:
        right = isinstance(picture, np.ndarray) and picture.dtype == np.uint8 and picture.shape == self.shape
        if not right:
            text = f"returned a picture that is {kind_of(picture)} where uint8 {list(self.shape)} is declared"
            is_float = isinstance(picture, np.ndarray) and picture.dtype.kind == "f"
            raise self._wrong(call, text + ("; multiply by 255 if it is 0 to 1, and round" if is_float else ""))
        if self.thorough and ((picture < self.low).any() or (picture > self.high).any()):
            range_, declared = (f"{a.min()} to {b.max()}" for a, b in ((picture, picture), (self.low, self.high)))
            raise self._wrong(call, f"returned a picture of levels {range_} where {declared} are declared")

    def _check_info(self, info: Any, call: str) -> None:
        if type(info) is not dict and not isinstance(info, Mapping):
            raise self._wrong(call, f"returned an info that is {kind_of(info)}, not a dict")

    def _reward(self, reward: Any) -> float:
        if type(reward) is not float:
            number = as_number(reward)
            if number is None:
                raise self._wrong("step()", f"returned a reward that is {kind_of(reward)}, not one number")
            reward = number
        if not -LARGEST_REWARD <= reward <= LARGEST_REWARD:  # also what is not a number
            raise self._wrong("step()", f"returned the reward {reward}, which nothing can be learned from")
        return reward

    def _flag(self, value: Any, name: str) -> bool:
        if type(value) is bool:
            return value
        if isinstance(value, np.bool_) or (isinstance(value, int | np.integer) and value in (0, 1)):
            return bool(value)
        raise self._wrong("step()", f"returned {name} that is {kind_of(value)}, not True or False")

    def _wrong(self, call: str, what: str) -> GameBroke:
        return GameBroke(f"{self.id}: {call} {what}")


def as_number(value: Any) -> float | None:
    """The float that something is, also a scalar of numpy or of another library; None if it is none."""
    if type(value) is str or type(value) is bytes or getattr(value, "shape", ()) != ():
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def kind_of(value: Any) -> str:
    """Such as `float64 [64, 64, 3]`, `4 values`, `None`."""
    match value:
        case np.ndarray():
            return f"{value.dtype} {list(value.shape)}"
        case tuple():
            return f"{len(value)} values"
        case None | bool() | int() | float() | complex() | str():
            return repr(value)[:60]
        case _:
            return f"a {type(value).__name__}"
