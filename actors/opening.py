"""Finding the games of Gymnasium, making them, and whether they can be played here: a picture and counted actions."""

from __future__ import annotations

import difflib
import importlib
import logging
import re
import warnings
from typing import Any

import gymnasium
import numpy as np
from gymnasium.utils.env_checker import check_env

from actors.calling import Calling
from actors.config import EnvConfig, GameBroke
from actors.patience import Patience
from replay.errors import UserError

MOST_ACTIONS = 65_536  # that a network can tell apart; far more than any game has
log = logging.getLogger("games")


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
    importing = Calling(f"env.import_module {name}", "its import")
    patience = Patience([importing])
    try:
        with importing:
            importlib.import_module(name)
    except GameBroke as broke:
        error = broke.__cause__
        if isinstance(error, ModuleNotFoundError):
            mend = "install it or set PYTHONPATH"
            raise UserError(f"env.import_module {name} cannot be imported ({error}): {mend}") from error
        raise UserError(f"{broke}: mend the module") from error
    del patience
    if importing.changed:
        log.warning("the import of %s has changed %s of this process: put back", name, " and ".join(importing.changed))


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


def make(name: str, making: Calling) -> gymnasium.Env:
    """A game of Gymnasium. One that wants to be told how to draw is told: into an array. Raises GameBroke."""
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
    if actions.n > MOST_ACTIONS:
        raise UserError(f"{name} has {actions.n:,} actions, of which {MOST_ACTIONS:,} can be told apart: wrap the game")


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


def official_findings(name: str) -> list[str] | None:
    """What Gymnasium's own checker has against a game, one line each; None where the game cannot be made."""
    refused, checking = [], Calling(name, "Gymnasium's checker")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            env = make(name, checking)
        except GameBroke:
            return None
        try:
            with checking:
                check_env(env.unwrapped, skip_render_check=True)
                env.close()
        except GameBroke as error:
            refused = [str(error)]
    said = [re.sub(r"\x1b\[\d*m", "", str(warning.message)) for warning in caught]
    lines = [" ".join(text.replace("WARN: ", "").split()) for text in said]
    return list(dict.fromkeys([*refused, *lines]))
