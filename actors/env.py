"""The games of one process, stepped one after the other, each screen made into a small picture."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from actors.calling import at_start
from actors.config import EnvConfig, check_crop, check_numbers
from actors.foreign import REHEARSED
from actors.game import AtariGame, PictureGame, open_game, resolve
from actors.interface import Arrived
from actors.practice import Practice, practises
from actors.screen import level_table, one_thread, shrink
from replay.errors import UserError
from replay.experience import EnvSpec, Step

# What the perturbation noop does. Of a wait before the serve Breakout keeps only its length modulo 4: training has seen
# these four starts, and a longer wait adds none. So the hand slips as well.
LONGER_NOOPS = 90  # a game starts with noop_max + 1 ... noop_max + LONGER_NOOPS no-ops
LONG = 5.0  # seconds for which a game is looked at before it is trained on
SLIP = 0.1  # probability that a policy step is played as a no-op; like a sticky action, the record does not say so


class Kept(NamedTuple):
    """A moment of E games, to go back to."""

    emulators: list[bytes]  # [E]
    ended: list[bool]  # [E]
    lives: list[int]  # [E]
    serve: list[bool]  # [E]
    steps: list[int]  # [E]


class Games:
    """E games of one kind, preprocessed as in dreamerv2: `AnyGames` in this process.

    One difference: a game's last picture shows its end, not the step before, so that the end can be predicted from it.
    """

    def __init__(
        self,
        games: list[AtariGame | PictureGame],
        rngs: list[np.random.Generator],
        config: EnvConfig,
        practises: list[bool],
    ) -> None:
        self.games, self.num, self._rngs, self._config = games, len(games), rngs, config
        emulated = isinstance(games[0], AtariGame)  # others cannot be set back
        self._practice = Practice([asked and emulated for asked in practises], len(games[0].names))
        check_crop(games[0].screen_shape, config)
        why = "" if games[0].named else " (what its actions mean is not told, or a wrapper changes it)"
        if config.auto_fire and "FIRE" not in games[0].names:
            raise UserError(f"{config.id} has no action FIRE{why}: set env.auto_fire to false")
        if config.perturb == "noop" and "NOOP" not in games[0].names:
            raise UserError(f"{config.id} has no action NOOP{why}: choose another env.perturb")
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
        actions, self._sent = self._overruled(self._sent), None
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
                life_lost[e] = over or game.lives() < self._lives[e]
                limit = self._steps[e] >= self._config.time_limit or (self._practice.running[e] and life_lost[e])
                is_last[e] = over or cut or limit
                is_terminal[e] = over or (self._config.life_loss and life_lost[e])
                self._practice.watch(e, game, lost=bool(life_lost[e]))
            self._serve[e] = not self._practice.running[e] if is_first[e] else game.lives() < self._lives[e]
            self._lives[e] = game.lives()
            obs[e] = shrink(self._screen, self._config, self._table)
        self._ended = is_last.copy()  # a copy: what was handed out may be written to
        prev_action = np.where(is_first, 0, actions).astype(np.int32)
        step = Step(obs, prev_action, reward, is_first, is_terminal)
        return Arrived(step, is_last, life_lost, self._practice.running.copy())

    def _overruled(self, actions: np.ndarray) -> np.ndarray:
        """The actions that are played, which the record has: FIRE where the ball must be served, practice's own."""
        if self._config.auto_fire:
            actions = np.where(self._serve, self.games[0].names.index("FIRE"), actions)
        return self._practice.overrule(actions)

    def _start(self, e: int) -> None:
        """Resets game e and lets 1..noop_max no-ops pass, so that games do not all begin alike.

        One that practises begins before a lost life, where there is one.
        """
        game, least, most = self.games[e], 1, self._config.noop_max
        if self._practice.begin(e, game, self._rngs[e]):
            game.look(self._screen)
            return
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

    def keep(self) -> Kept | None:
        """This moment; None where a game has no emulator that can be set to it."""
        emulators = [game.keep() for game in self.games if isinstance(game, AtariGame)]
        if len(emulators) < self.num:
            return None
        return Kept(emulators, self._ended.tolist(), list(self._lives), list(self._serve), list(self._steps))

    def go_back(self, kept: Kept) -> None:
        """To a moment that these games, or others of the same configuration, have kept."""
        for game, state in zip(self.games, kept.emulators, strict=True):
            assert isinstance(game, AtariGame), game
            game.go_back(state)
        self._ended = np.array(kept.ended)
        self._lives, self._serve, self._steps = list(kept.lives), list(kept.serve), list(kept.steps)

    def close(self) -> None:
        for game in self.games:
            game.close()


# --- Making them ---


def make_games(config: EnvConfig, num: int, seed: int, *, first: int = 0, practice: float = 0.0) -> Games:
    """Games first, first + 1, ... Game e has its own stream of chance, a function of (seed, e) alone.

    practice: the share of them that only plays on from shortly before lives that the others have lost, if they are an
    emulator's: others cannot be set back.
    """
    config = resolve(config)
    check_numbers(config)
    one_thread()
    chances = [np.random.SeedSequence([seed, e]) for e in range(first, first + num)]
    seeds = [int(chance.generate_state(1)[0]) >> 1 for chance in chances]  # the emulator takes 31 bits
    games = [open_game(config, number) for number in seeds]
    rngs = [np.random.default_rng(chance.spawn(1)[0]) for chance in chances]
    return Games(games, rngs, config, [practises(e, practice) for e in range(first, first + num)])


def action_names(config: EnvConfig) -> list[str]:
    """Such as NOOP FIRE RIGHT LEFT; the numbers of the actions where a game has no names for them."""
    games = make_games(config, num=1, seed=0)
    games.close()
    return games.games[0].names


def check_game(config: EnvConfig, say: Callable[[str], None] | None = None) -> EnvSpec:
    """What the game looks like from outside, after trying it. Raises a UserError, one line, if it cannot be played.

    say: hears what is odd about a game that can.
    """
    games = make_games(config, num=1, seed=0)
    try:
        with at_start(config.id):
            for game in games.games:
                if isinstance(game, PictureGame):
                    game.foreign.rehearse()
            games.reset()
            games.step(np.zeros(1, np.int32))
            for oddity in oddities(games) if say else ():
                say(f"{config.id} {oddity} (python -m cluster doctor --env {config.id} says more)")
    finally:
        games.close()
    return games.spec


def oddities(games: Games) -> Iterator[str]:
    """What somebody should know who trains on it; plays it a little. Raises GameBroke."""
    for game in games.games:
        if isinstance(game, PictureGame) and (changed := game.foreign.changed()):
            yield f"changes {changed} of the process that it is played in: put back each time"
    number = games.spec.num_actions
    if number == 1:
        yield "has one action only: there is nothing to learn"
    first, began = games.reset().step.obs, time.monotonic()
    for step in range(REHEARSED):
        if (games.step(np.full(games.num, step % number)).step.obs != first).any():
            return
        if time.monotonic() - began > LONG:
            break
    yield f"shows the same picture at each of {step + 1} steps: if that goes on, nothing can be learned"
