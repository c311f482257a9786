"""One game, frame by frame: Atari's through the emulator itself, any other through Gymnasium.

Gymnasium's step of an Atari game would fetch a colour screen for every frame.
"""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from pathlib import Path

import ale_py  # its import registers the ALE/... ids
import gymnasium
import numpy as np
from ale_py import roms

from actors.calling import Calling, at_start
from actors.config import EnvConfig, GameBroke
from actors.foreign import Foreign
from actors.opening import find, import_games
from actors.screen import as_screen
from replay.errors import UserError

log = logging.getLogger("games")
_ATARI = ("ale_py.env:AtariEnv", "ale_py:AtariEnv", ale_py.AtariEnv)
_OLD_NAME = re.compile(r"(?P<game>\w+?)(?P<kind>Deterministic|NoFrameskip)?-v(?P<version>[04])")


class AtariGame:
    """A game of the Arcade Learning Environment. No FIRE on reset: pressing it is the player's business."""

    def __init__(self, settings: dict, config: EnvConfig, seed: int) -> None:
        self.ale = ale = ale_py.ALEInterface()
        ale.setInt("random_seed", seed)  # of the sticky actions; must precede the ROM
        ale.setFloat("repeat_action_probability", config.sticky)
        ale.loadROM(find_rom(settings["game"], config.id))
        if settings.get("mode") is not None:
            ale.setMode(settings["mode"])
        if settings.get("difficulty") is not None:
            ale.setDifficulty(settings["difficulty"])
        self._codes = list(ale.getLegalActionSet() if config.full_action_set else ale.getMinimalActionSet())
        self.names, self.named = [code.name for code in self._codes], True
        self.screen_shape = ale.getScreenDims()
        self.look = ale.getScreenGrayscale if config.grayscale else ale.getScreenRGB  # writes into its argument
        self.start, self.lives, self.told_lives = ale.reset_game, ale.lives, ale.lives

    def frame(self, action: int) -> tuple[float, bool, bool]:
        """Plays one frame -> reward, true end, end by a limit of the game's own."""
        return self.ale.act(self._codes[action]), self.ale.game_over(), False

    def keep(self) -> bytes:
        """All that the emulator is at this moment, chance included."""
        return self.ale.cloneState(include_rng=True).serialize()

    def go_back(self, kept: bytes) -> None:
        """To a moment that this emulator, or another of the same game, has kept. The screen follows with a frame."""
        self.ale.restoreState(ale_py.ALEState(kept))

    def close(self) -> None:
        """The emulator goes with its last reference."""


class PictureGame:
    """Any other Gymnasium game that shows a picture; the methods are those of `AtariGame`.

    Sticky actions are made here, per frame like the emulator's. No-ops at the start need an action that is known to be
    NOOP (`opening.action_meanings`); without one `noop_max` has no effect.
    """

    def __init__(self, config: EnvConfig, seed: int) -> None:
        self.foreign = game = Foreign(config)
        self._config, self._rng = config, np.random.default_rng(seed)
        self.named = game.names is not None
        self.names = game.names or [str(n) for n in range(game.num_actions)]
        self.screen_shape = game.shape[:2]
        with at_start(config.id):
            self._picture, self._info = game.reset(seed=seed)
            if config.life_loss and self.told_lives() is None:
                raise UserError(f"{config.id} does not tell its lives (info['lives']): set env.life_loss to false")
        self._doing: int | None = None  # the action that a sticky joystick holds

    def start(self) -> None:
        self._picture, self._info = self.foreign.reset()
        self._doing = None

    def frame(self, action: int) -> tuple[float, bool, bool]:
        if self._doing is None or self._rng.random() >= self._config.sticky:
            self._doing = action
        self._picture, reward, over, cut, self._info = self.foreign.step(self._doing)
        return reward, over, cut

    def look(self, screen: np.ndarray) -> None:
        screen[...] = as_screen(self._picture, self._config.grayscale)

    def lives(self) -> int:
        """0 where the game tells none, or nonsense and nothing of the training depends on it."""
        try:
            lives = self.told_lives()
        except GameBroke:
            if self._config.life_loss or self._config.auto_fire:
                raise
            return 0
        if lives is None and self._config.life_loss:
            raise GameBroke(f"{self._config.id}: info has no 'lives' any more: set env.life_loss to false")
        return lives or 0

    def told_lives(self) -> int | None:
        """What the game itself says, if it does."""
        return self.foreign.lives(self._info)

    def close(self) -> None:
        """A game that cannot even end has cost nothing: it is only said."""
        try:
            self.foreign.close()
        except GameBroke as error:
            log.warning("%s", error)


# --- Making one, and plain words when that is impossible ---


def resolve(config: EnvConfig) -> EnvConfig:
    """Old names (BreakoutDeterministic-v4), which ale-py no longer knows, become the plain id and their settings.

    The name decides frame_skip and sticky; to override them, replace them in the result (which resolves to itself).
    """
    import_games(config)
    match = _OLD_NAME.fullmatch(config.id)
    known = gymnasium.registry.get(config.id)
    if match is None or (known is not None and known.entry_point not in _ATARI):
        return config
    plain = f"ALE/{match['game']}-v5"
    if plain not in gymnasium.registry:
        return config
    if match["kind"] is None:
        better = f"{match['game']}Deterministic-v{match['version']} or {plain}"
        raise UserError(f"env.id {config.id} skips a random number of frames: take {better}")
    skip, sticky = {"Deterministic": 4, "NoFrameskip": 1}[match["kind"]], {"4": 0.0, "0": 0.25}[match["version"]]
    return replace(config, id=plain, frame_skip=skip, sticky=sticky)


def open_game(config: EnvConfig, seed: int) -> AtariGame | PictureGame:
    """One game, checked; `config` is resolved."""
    spec = find(config)
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)  # else every emulator prints a banner
    # The emulator would leave a wrapper or a limit away that is registered with the game.
    if spec.entry_point not in _ATARI or spec.additional_wrappers or spec.max_episode_steps is not None:
        return PictureGame(config, seed)
    with at_start(config.id), Calling(config.id, "the emulator"):
        return AtariGame(spec.kwargs, config, seed)


def is_emulator_below(game: AtariGame | PictureGame) -> bool:
    """Whether an Atari game is played through Gymnasium, in somebody's wrapper."""
    return isinstance(game, PictureGame) and isinstance(game.foreign.env.unwrapped, ale_py.AtariEnv)


def find_rom(game: str, name: str) -> Path:
    try:
        path = roms.get_rom_path(game) if game in roms.get_all_rom_ids() else None
    except OSError as error:  # missing, or not the bytes that ale-py expects
        raise UserError(f"the ROM of {name} cannot be used ({error}): reinstall ale-py or mend ALE_ROMS_DIR") from error
    if path is None:
        raise UserError(f"the ROM of {name}, {game}, is not one of ale-py's: choose another env.id")
    return path
