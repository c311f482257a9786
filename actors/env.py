"""The games of one process, stepped one after the other, each screen made into a small picture.

ALE games are played through the emulator itself: Gymnasium's step would fetch a colour screen for every frame.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import ale_py  # its import registers the ALE/... ids
import gymnasium
import numpy as np
from ale_py import roms

from actors.config import EnvConfig, check_crop, check_numbers, import_games, near_names
from actors.interface import Arrived
from actors.screen import as_screen, level_table, one_thread, shrink
from replay.config import UserError
from replay.experience import EnvSpec, Step

# What the perturbation noop does. Of a wait before the serve Breakout keeps only its length modulo 4: training has seen
# these four starts, and a longer wait adds none. So the hand slips as well.
LONGER_NOOPS = 90  # a game starts with noop_max + 1 ... noop_max + LONGER_NOOPS no-ops
SLIP = 0.1  # probability that a policy step is played as a no-op; like a sticky action, the record does not say so

_ATARI = ("ale_py.env:AtariEnv", "ale_py:AtariEnv", ale_py.AtariEnv)
_OLD_NAME = re.compile(r"(?P<game>\w+?)(?P<kind>Deterministic|NoFrameskip)?-v(?P<version>[04])")


class AtariGame:
    """A game of the Arcade Learning Environment. No FIRE on reset: pressing it is the player's business."""

    def __init__(self, settings: dict, config: EnvConfig, seed: int) -> None:
        ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)  # else every emulator prints a banner
        self.ale = ale = ale_py.ALEInterface()
        ale.setInt("random_seed", seed)  # of the sticky actions; must precede the ROM
        ale.setFloat("repeat_action_probability", config.sticky)
        ale.loadROM(find_rom(settings["game"], config.id))
        if settings.get("mode") is not None:
            ale.setMode(settings["mode"])
        if settings.get("difficulty") is not None:
            ale.setDifficulty(settings["difficulty"])
        self._codes = list(ale.getLegalActionSet() if config.full_action_set else ale.getMinimalActionSet())
        self.names = [code.name for code in self._codes]
        self.screen_shape = ale.getScreenDims()
        self.look = ale.getScreenGrayscale if config.grayscale else ale.getScreenRGB  # writes into its argument
        self.start, self.lives = ale.reset_game, ale.lives

    def frame(self, action: int) -> tuple[float, bool, bool]:
        """Plays one frame -> reward, true end, end by a limit of the game's own."""
        return self.ale.act(self._codes[action]), self.ale.game_over(), False

    def close(self) -> None:
        """The emulator goes with its last reference."""


class PictureGame:
    """Any other Gymnasium game that shows a picture; the methods are those of `AtariGame`.

    Sticky actions are made here, per frame like the emulator's. No-ops at the start need an action named NOOP
    (`get_action_meanings`, as Atari-like games have it); without one `noop_max` has no effect.
    """

    def __init__(self, env: gymnasium.Env, config: EnvConfig, seed: int) -> None:
        self._env, self._config, self._rng = env, config, np.random.default_rng(seed)
        self._first_action = int(env.action_space.start)
        meanings = getattr(env.unwrapped, "get_action_meanings", None)  # optional in Gymnasium
        self.names = list(meanings()) if meanings else [str(n) for n in range(env.action_space.n)]
        self.screen_shape = env.observation_space.shape[:2]
        self._picture, self._info = env.reset(seed=seed)
        if config.life_loss and "lives" not in self._info:
            raise UserError(f"{config.id} does not tell its lives (info['lives']): set env.life_loss to false")
        self._doing: int | None = None  # the action that a sticky joystick holds

    def start(self) -> None:
        self._picture, self._info = self._env.reset()
        self._doing = None

    def frame(self, action: int) -> tuple[float, bool, bool]:
        if self._doing is None or self._rng.random() >= self._config.sticky:
            self._doing = action
        self._picture, reward, over, cut, self._info = self._env.step(self._first_action + self._doing)
        return float(reward), bool(over), bool(cut)

    def look(self, screen: np.ndarray) -> None:
        screen[...] = as_screen(np.asarray(self._picture), self._config.grayscale)

    def lives(self) -> int:
        return int(self._info.get("lives", 0))

    def close(self) -> None:
        self._env.close()


class Games:
    """E games of one kind, preprocessed as in dreamerv2: `AnyGames` in this process.

    One difference: a game's last picture shows its end, not the step before, so that the end can be predicted from it.
    """

    def __init__(
        self, games: list[AtariGame | PictureGame], rngs: list[np.random.Generator], config: EnvConfig
    ) -> None:
        self.games, self.num, self._rngs, self._config = games, len(games), rngs, config
        check_crop(games[0].screen_shape, config)
        if config.auto_fire and "FIRE" not in games[0].names:
            raise UserError(f"{config.id} has no action FIRE: set env.auto_fire to false")
        if config.perturb == "noop" and "NOOP" not in games[0].names:
            raise UserError(f"{config.id} has no action NOOP: choose another env.perturb")
        channels = 1 if config.grayscale else 3
        self.spec = EnvSpec((config.size, config.size, channels), len(games[0].names))
        shape = games[0].screen_shape if config.grayscale else (*games[0].screen_shape, 3)
        self._screen, self._before = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)  # for each game in turn
        self._table = level_table(config)
        self._ended = np.ones(self.num, bool)  # [E] the previous record was a last one
        self._lives = [0] * self.num
        self._serve = [False] * self.num  # the ball must be served before anything can happen
        self._steps = [0] * self.num  # policy steps since the reset
        self._sent: np.ndarray | None = None  # actions that wait for `receive`

    def reset(self) -> Arrived:
        """Starts every game anew."""
        self._ended = np.ones(self.num, bool)
        return self.step(np.zeros(self.num, np.int32))

    def step(self, actions: np.ndarray) -> Arrived:
        """`send`, then `receive`."""
        self.send(actions)
        return self.receive()

    def send(self, actions: np.ndarray) -> None:
        """actions: int [E]. Only keeps them: the games of this process play in `receive`."""
        assert actions.shape == (self.num,), actions.shape
        self._sent = actions

    def receive(self) -> Arrived:
        """What the actions sent lead to."""
        assert self._sent is not None, "receive() without send()"
        actions, self._sent = self._with_fire(self._sent), None
        is_first, (is_last, is_terminal, life_lost) = self._ended, np.zeros((3, self.num), bool)
        reward = np.zeros(self.num, np.float32)
        obs = np.empty((self.num, *self.spec.obs_shape), np.uint8)  # new each time: others keep these records
        for e, game in enumerate(self.games):
            if is_first[e]:
                self._start(e)
                self._steps[e] = 0
            else:
                reward[e], over, cut = self._play(game, self._slip(e, int(actions[e])))
                self._steps[e] += 1
                is_last[e] = over or cut or self._steps[e] >= self._config.time_limit
                life_lost[e] = over or game.lives() < self._lives[e]
                is_terminal[e] = over or (self._config.life_loss and life_lost[e])
            self._serve[e] = bool(is_first[e]) or game.lives() < self._lives[e]
            self._lives[e] = game.lives()
            obs[e] = shrink(self._screen, self._config, self._table)
        self._ended = is_last.copy()  # a copy: what was handed out may be written to
        prev_action = np.where(is_first, 0, actions).astype(np.int32)
        return Arrived(Step(obs, prev_action, reward, is_first, is_terminal), is_last, life_lost)

    def _with_fire(self, actions: np.ndarray) -> np.ndarray:
        """The actions, with FIRE where the ball must be served: what the record says is what was done."""
        if not self._config.auto_fire:
            return actions
        return np.where(self._serve, self.games[0].names.index("FIRE"), actions)

    def _start(self, e: int) -> None:
        """Resets game e and lets 1..noop_max no-ops pass, so that games do not all begin alike."""
        game, least, most = self.games[e], 1, self._config.noop_max
        if self._config.perturb == "noop":
            least, most = most + 1, most + LONGER_NOOPS
        game.start()
        if most > 0 and "NOOP" in game.names:
            for _ in range(self._rngs[e].integers(least, most + 1)):
                _, over, cut = game.frame(game.names.index("NOOP"))
                if over or cut:
                    game.start()
        game.look(self._screen)

    def _slip(self, e: int, action: int) -> int:
        """The action that game e is played with: under the perturbation noop now and then a no-op."""
        slips = self._config.perturb == "noop" and self._rngs[e].random() < SLIP
        return self.games[e].names.index("NOOP") if slips else action

    def _play(self, game: AtariGame | PictureGame, action: int) -> tuple[float, bool, bool]:
        """One policy step -> sum of the rewards, true end, end by a limit of the game's own."""
        total, skip, two_frames = 0.0, self._config.frame_skip, False
        for frame in range(skip):
            reward, over, cut = game.frame(action)
            total += reward
            if over or cut:
                break
            if frame == skip - 2 and self._config.max_pool:
                game.look(self._before)  # some sprites flicker: they are drawn in every second frame only
                two_frames = True
        game.look(self._screen)
        if two_frames:
            np.maximum(self._screen, self._before, out=self._screen)
        return total, over, cut

    def close(self) -> None:
        for game in self.games:
            game.close()


# --- Making games, and plain words when that is impossible ---


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


def make_games(config: EnvConfig, num: int, seed: int, *, first: int = 0) -> Games:
    """Games first, first + 1, ... Game e has its own stream of chance, a function of (seed, e) alone."""
    config = resolve(config)
    check_numbers(config)
    one_thread()
    chances = [np.random.SeedSequence([seed, e]) for e in range(first, first + num)]
    seeds = [int(chance.generate_state(1)[0]) >> 1 for chance in chances]  # the emulator takes 31 bits
    games = [open_game(config, number) for number in seeds]
    return Games(games, [np.random.default_rng(chance.spawn(1)[0]) for chance in chances], config)


def open_game(config: EnvConfig, seed: int) -> AtariGame | PictureGame:
    """One game, checked; `config` is resolved."""
    spec = gymnasium.registry.get(config.id)
    if spec is None:
        raise UserError(f"env.id {config.id} is unknown{near_names(config.id, list(gymnasium.registry))}")
    if spec.entry_point in _ATARI:
        return AtariGame(spec.kwargs, config, seed)
    try:
        env = gymnasium.make(config.id, disable_env_checker=True)
    except gymnasium.error.Error as error:  # e.g. that game's own dependency is missing
        raise UserError(f"env.id {config.id} cannot be made: {' '.join(str(error).split())}") from error
    check_spaces(env, config.id)
    return PictureGame(env, config, seed)


def action_names(config: EnvConfig) -> list[str]:
    """Such as NOOP FIRE RIGHT LEFT; the numbers of the actions where a game has no names for them."""
    games = make_games(config, num=1, seed=0)
    games.close()
    return games.games[0].names


def check_game(config: EnvConfig) -> None:
    """Raises a UserError, one line, if no such game can be played."""
    make_games(config, num=1, seed=0).close()


def find_rom(game: str, name: str) -> Path:
    try:
        path = roms.get_rom_path(game) if game in roms.get_all_rom_ids() else None
    except OSError as error:  # missing, or not the bytes that ale-py expects
        raise UserError(f"the ROM of {name} cannot be used ({error}): reinstall ale-py or mend ALE_ROMS_DIR") from error
    if path is None:
        raise UserError(f"the ROM of {name}, {game}, is not one of ale-py's: choose another env.id")
    return path


def check_spaces(env: gymnasium.Env, name: str) -> None:
    """What the game shows is a picture, and its actions can be counted."""
    seen, actions = env.observation_space, env.action_space
    shape = seen.shape or ()
    is_picture = len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3))
    if not (isinstance(seen, gymnasium.spaces.Box) and seen.dtype == np.uint8 and is_picture):
        raise UserError(
            f"the observation of {name} is not a picture (uint8 [H,W,3], [H,W,1] or [H,W]) but "
            f"{type(seen).__name__} {seen.dtype} {list(shape)}: wrap the game so that it shows one"
        )
    if not isinstance(actions, gymnasium.spaces.Discrete):
        raise UserError(f"the actions of {name} are not discrete but {type(actions).__name__}: choose another env.id")
