"""Games by other people. Every call into their code passes through here, and so does all that comes back.

    Calling    what their code raises becomes a GameBroke: one line that names the game, the call and the error
    Foreign    one game: what it returns is what it declares, at every step
    at_start   before training has begun a broken game is a wrong request: the same line as a UserError

A GameBroke is chained to what was raised, so that whoever logs it has the traceback. What a game prints goes to stderr:
stdout belongs to `--json`.
"""

from __future__ import annotations

import difflib
import importlib
import re
import sys
import traceback
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium.utils.env_checker import check_env

from actors.config import EnvConfig, GameBroke
from replay.config import UserError

LARGEST_REWARD = 1e18  # its square must fit into a float32: the reward head's loss
REHEARSED = 18  # steps that a game is tried with before anything depends on it; as many as Atari has actions

_ADVICE = {  # what an error says -> what its author probably has not heard of
    r"expected 5, got 4": "that is the old Gym API: step must return observation, reward, terminated, truncated, info",
    r"\(expected 2": "reset must return observation, info",
    r"unexpected keyword argument '(seed|options)'": "it must be def reset(self, *, seed=None, options=None)",
    r"missing \d+ .*environment creator": "give the arguments that it needs as kwargs of gymnasium.register",
}
_OF_GYMNASIUM = re.compile(r"[/\\]gymnasium[/\\]|<frozen |actors[/\\]foreign\.py$")


# --- What their code raises ---


class Calling:
    """Around one kind of call into a game's code; not nested in itself. Ctrl-C passes."""

    __slots__ = ("_call", "_game", "_stdout")

    def __init__(self, game: str, call: str) -> None:
        self._game, self._call = game, call

    def __enter__(self) -> None:
        self._stdout, sys.stdout = sys.stdout, sys.stderr

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        sys.stdout = self._stdout
        if error is not None and not isinstance(error, KeyboardInterrupt | GameBroke | UserError):
            raise GameBroke(f"{self._game}: {self._call} {told(error)}") from error


def told(error: BaseException) -> str:
    """What was raised and where, in one line."""
    advice = "".join(f"; {words}" for pattern, words in _ADVICE.items() if re.search(pattern, str(error)))
    if "environment creator" in str(error) and error.__cause__:  # gymnasium.make has added all arguments to it
        error = error.__cause__
    text = f"raised {type(error).__name__}"
    if said := " ".join(str(error).split()):
        text += f": {said[:200]}"
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [frame for frame in frames if not _OF_GYMNASIUM.search(frame.filename)]
    if theirs and not isinstance(error, SyntaxError | ModuleNotFoundError):  # these say it themselves
        text += f" ({theirs[-1].filename}:{theirs[-1].lineno})"
    return text + advice


@contextmanager
def at_start(name: str) -> Iterator[None]:
    """What is broken before anything was played is a wrong request."""
    try:
        yield
    except GameBroke as error:
        raise UserError(
            f"{error}: mend the game or choose another env.id (python -m cluster doctor --env {name} says more)"
        ) from error.__cause__ or error


# --- What they return ---


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
        with at_start(self.id):
            self.env = make(config.id)
            with Calling(self.id, "looking at its spaces"):
                check_spaces(self.env, self.id)
                seen, actions = self.env.observation_space, self.env.action_space
                self.shape: tuple[int, ...] = seen.shape
                self.low, self.high = seen.low, seen.high
                self.num_actions, self._first_action = int(actions.n), int(actions.start)
            with Calling(self.id, "get_action_meanings()"):
                self.names = action_meanings(self.env)  # None where they are not known
        self.thorough = False  # whether pictures are also held against the range that is declared, which takes longer
        self._resetting, self._stepping = Calling(self.id, "reset()"), Calling(self.id, "step()")

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
            back = self.env.step(self._first_action + action)
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

    def close(self) -> None:
        """Raises GameBroke."""
        with Calling(self.id, "close()"):
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


# --- Finding and making them ---


def import_games(config: EnvConfig) -> None:
    """Imports the module that registers the game. Raises UserError whatever goes wrong in it."""
    name = config.import_module
    if not name:
        return
    if name.startswith(".") or name.endswith(".py") or re.search(r"[/\\\s]", name):
        raise UserError(
            f"env.import_module {name} is not the name of a module: write it as in `import my_games.breakout`, "
            "and set PYTHONPATH to the folder that it is in"
        )
    try:
        with Calling(f"env.import_module {name}", "its import"):
            importlib.import_module(name)
    except GameBroke as broke:
        error = broke.__cause__
        if isinstance(error, ModuleNotFoundError):
            mend = "install it or set PYTHONPATH"
            raise UserError(f"env.import_module {name} cannot be imported ({error}): {mend}") from error
        raise UserError(f"{broke}: mend the module") from error


def find(config: EnvConfig) -> gymnasium.envs.registration.EnvSpec:
    """What is registered under the game's id. Raises UserError."""
    spec = gymnasium.registry.get(config.id)
    if spec is not None:
        return spec
    module, _, rest = config.id.partition(":")
    if rest:
        raise UserError(f"env.id {config.id} is unknown: take --env.id {rest} --env.import-module {module}")
    near = near_names(config.id, list(gymnasium.registry))
    raise UserError(f"env.id {config.id} is unknown{near}{whose(config)}")


def near_names(name: str, known: list[str]) -> str:
    """Those of the known games whose bare names look most like that of `name`, as the end of a sentence."""

    def bare(full: str) -> str:
        return re.sub(r"(Deterministic|NoFrameskip)?(-v\d+)?$", "", full.split("/")[-1]).lower()

    by_bare = {bare(full): full for full in known}  # the last of several versions stays
    near = difflib.get_close_matches(bare(name), by_bare, n=3)
    return f": did you mean {', '.join(by_bare[n] for n in near)}?" if near else ": see env.import_module for own games"


def whose(config: EnvConfig) -> str:
    """What the module that should have registered the game has registered instead, as a further sentence."""
    if not config.import_module:
        return ""
    package = config.import_module.partition(".")[0]
    entries = {name: spec.entry_point for name, spec in gymnasium.registry.items()}
    homes = {n: e if isinstance(e, str) else getattr(e, "__module__", None) or "" for n, e in entries.items()}
    theirs = [name for name, home in homes.items() if re.split("[.:]", home)[0] == package]
    if theirs:
        return f" ({config.import_module} has {', '.join(theirs[:5])}{' ...' if len(theirs) > 5 else ''})"
    return f" ({config.import_module} registers no game: it must call gymnasium.register when it is imported)"


def make(name: str) -> gymnasium.Env:
    """A game of Gymnasium. One that wants to be told how to draw is told: into an array. Raises GameBroke."""
    making = Calling(name, "making it")
    try:
        with making:
            return gymnasium.make(name, disable_env_checker=True)
    except GameBroke as first:
        if "render" not in str(first):
            raise
        try:
            with making:
                return gymnasium.make(name, disable_env_checker=True, render_mode="rgb_array")
        except GameBroke:
            raise first from first.__cause__


def check_spaces(env: gymnasium.Env, name: str) -> None:
    """What the game shows is a picture, and its actions can be counted. Raises UserError."""
    seen, actions = env.observation_space, env.action_space
    shape = getattr(seen, "shape", None) or ()
    is_picture = len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3))
    if not (isinstance(seen, gymnasium.spaces.Box) and seen.dtype == np.uint8 and is_picture and min(shape) > 0):
        raise UserError(
            f"the observation of {name} is not a picture (uint8 [H,W,3], [H,W,1] or [H,W]) but "
            f"{type(seen).__name__} {getattr(seen, 'dtype', None)} {list(shape)}: {how_to_show(seen, shape)}"
        )
    if seen.high.max() <= 1:
        raise UserError(f"the picture of {name} has only the levels 0 and 1: wrap the game and multiply it by 255")
    if not isinstance(actions, gymnasium.spaces.Discrete):
        raise UserError(f"the actions of {name} are not discrete but {type(actions).__name__}: choose another env.id")


def how_to_show(seen: Any, shape: tuple[int, ...]) -> str:
    """How a wrapper would make a picture of it."""
    if isinstance(seen, gymnasium.spaces.Dict):
        return "wrap the game so that it shows the picture alone"
    if len(shape) == 3 and shape[2] == 4:
        return "wrap the game so that it leaves the fourth channel (alpha) away"
    if len(shape) == 3 and shape[0] in (1, 3) and shape[2] not in (1, 3):
        return "wrap the game so that the channels come last (np.moveaxis(picture, 0, -1))"
    if len(shape) in (2, 3) and getattr(seen, "dtype", None) != np.uint8:
        return "wrap the game so that it shows whole numbers 0 to 255 (times 255 if they are 0 to 1)"
    return "wrap the game so that it shows one"


# --- What their actions mean ---


def action_meanings(env: gymnasium.Env) -> list[str] | None:
    """The names of all actions, if the game tells them and no wrapper on the way gives the numbers other meanings.

    Optional in Gymnasium (`get_action_meanings`, as Atari has it). Where there is any doubt None.
    """
    layer = env
    while isinstance(layer, gymnasium.Wrapper) and "get_action_meanings" not in dir(layer):
        if may_change_actions(layer):
            return None
        layer = layer.env
    tell = getattr(layer, "get_action_meanings", None)
    names = list(tell()) if tell else []
    whole = len(names) == env.action_space.n and all(isinstance(name, str) for name in names)
    return names if whole else None


def may_change_actions(layer: gymnasium.Wrapper) -> bool:
    """Gymnasium's own wrappers hand actions on unless they are ActionWrappers; a `step` of somebody else may not."""
    if isinstance(layer, gymnasium.ActionWrapper) or layer.action_space != layer.env.action_space:
        return True
    home = next(kind for kind in type(layer).__mro__ if "step" in vars(kind)).__module__
    return not home.startswith("gymnasium.")


# --- What Gymnasium says of them ---


def official_findings(env: gymnasium.Env, name: str) -> list[str]:
    """What Gymnasium's own checker has against a game, one line each."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            with Calling(name, "Gymnasium's checker"):
                check_env(env.unwrapped, skip_render_check=True)
            refused = []
        except GameBroke as error:
            refused = [str(error)]
    said = [re.sub(r"\x1b\[\d*m", "", str(warning.message)) for warning in caught]
    lines = [" ".join(text.replace("WARN: ", "").split()) for text in said]
    return list(dict.fromkeys([*refused, *lines]))
