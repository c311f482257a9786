"""Tiny Gymnasium games whose picture tells what happened. Importing this module registers them."""

import ale_py  # noqa: F401  registers the ALE ids
import gymnasium
import numpy as np
from gymnasium import spaces


class Toy(gymnasium.Env):
    """Left half: 50 * last action (250 = none yet); right half: frames since the reset, modulo 256.

    Reward: last action + 1.
    """

    def __init__(self, shape=(64, 64, 3), length=10, lives=0, start=0, noop=False):
        self.observation_space = spaces.Box(0, 255, shape, np.uint8)
        self.action_space = spaces.Discrete(3, start=start)
        self.length, self.start, self.lives = length, start, lives
        if noop:
            self.get_action_meanings = lambda: ["FIRE", "NOOP", "UP"]

    def _picture(self, left):
        picture = np.zeros(self.observation_space.shape, np.uint8)
        half = picture.shape[1] // 2
        picture[:, :half], picture[:, half:] = left, self.frames % 256
        info = {"lives": self.lives - self.frames // 4} if self.lives else {}  # a life is lost every 4 frames
        return picture, info

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.frames = 0
        return self._picture(250)

    def step(self, action):
        assert self.action_space.contains(action)
        assert self.frames < self.length, "a step after the end"
        self.frames += 1
        picture, info = self._picture(50 * (action - self.start))
        return picture, float(action - self.start + 1), self.frames >= self.length, False, info


class Reused(Toy):
    """Draws every picture into the same array."""

    def _picture(self, left):
        picture, info = super()._picture(left)
        self.canvas = getattr(self, "canvas", picture)
        self.canvas[...] = picture
        return self.canvas, info


class Chance(Toy):
    """Draws from a generator that no reset seeds, or from the game's own."""

    def __init__(self, own=False, **toy):
        super().__init__(**toy)
        self.rng = None if own else np.random.default_rng()

    def step(self, action):
        picture, *rest = super().step(action)
        picture[0, 0] = (self.rng or self.np_random).integers(256)
        return picture, *rest


class Painted(Toy):
    """Shows something else."""

    def __init__(self, paint, **toy):
        super().__init__(**toy)
        self.paint = paint

    def _picture(self, left):
        picture, info = super()._picture(left)
        return self.paint(picture), info


class Fewer(gymnasium.ActionWrapper):
    """Some of the game's actions."""

    def __init__(self, env, chosen):
        super().__init__(env)
        self.chosen, self.action_space = chosen, spaces.Discrete(len(chosen))

    def action(self, action):
        return self.chosen[action]


class Stepped(gymnasium.Wrapper):
    """A step of its own, that could do anything with an action."""

    def step(self, action):
        return self.env.step((action + 1) % 3)


class Half(gymnasium.RewardWrapper):
    """Another reward, the same actions."""

    def reward(self, reward):
        return reward / 2


class Told(Fewer):
    """Says what its actions mean."""

    def get_action_meanings(self):
        return ["NOOP", "FIRE"]


class Wrong(Fewer):
    """Says what the game's actions mean, as some wrappers do for good measure."""

    def get_action_meanings(self):
        return [*self.unwrapped.get_action_meanings(), "DOWN"]


def _noop_game():
    return Toy(noop=True, length=200)


class Odd(gymnasium.Env):
    """A game with the given spaces; it is never played."""

    def __init__(self, seen, actions):
        self.observation_space, self.action_space = seen, actions


def _odd(name, seen, actions=None):
    gymnasium.register(f"Toy/{name}-v0", Odd, kwargs={"seen": seen, "actions": actions or spaces.Discrete(2)})


gymnasium.register("Toy/Count-v0", Toy)
gymnasium.register("Toy/Flat-v0", Toy, kwargs={"shape": (64, 64)})
gymnasium.register("Toy/OneChannel-v0", Toy, kwargs={"shape": (64, 64, 1)})
gymnasium.register("Toy/Wide-v0", Toy, kwargs={"shape": (128, 192, 3)})
gymnasium.register("Toy/Lives-v0", Toy, kwargs={"lives": 5, "length": 9})
gymnasium.register("Toy/Limited-v0", Toy, max_episode_steps=6)
gymnasium.register("Toy/FromFive-v0", Toy, kwargs={"start": 5})
gymnasium.register("Toy/Noop-v0", Toy, kwargs={"noop": True, "length": 200})
gymnasium.register("Toy/Reused-v0", Reused, kwargs={"noop": True, "length": 200})
gymnasium.register("Toy/NoopFewer-v0", lambda: Fewer(_noop_game(), [0, 2]))
gymnasium.register("Toy/NoopTurned-v0", lambda: Fewer(_noop_game(), [2, 1, 0]))
gymnasium.register("Toy/NoopStepped-v0", lambda: Stepped(_noop_game()))
gymnasium.register("Toy/NoopPlain-v0", lambda: gymnasium.wrappers.TimeLimit(Half(_noop_game()), 150))
gymnasium.register("Toy/NoopTold-v0", lambda: Told(_noop_game(), [1, 0]))
gymnasium.register("Toy/NoopWrong-v0", lambda: Wrong(_noop_game(), [2, 1, 0]))
gymnasium.register("Toy/BreakoutOfThree-v0", lambda: Fewer(gymnasium.make("ALE/Breakout-v5"), [1, 2, 3]))
gymnasium.register("Toy/BreakoutLimited-v0", "ale_py.env:AtariEnv", kwargs={"game": "breakout"}, max_episode_steps=5)
gymnasium.register("Toy/Chance-v0", Chance, kwargs={"length": 1000})
gymnasium.register("Toy/Seeded-v0", Chance, kwargs={"own": True, "length": 1000})
for _name, _paint in {
    "Black": np.zeros_like,
    "Dark": lambda picture: (picture > 0).astype(np.uint8),
    "Faint": lambda picture: 9 * (picture > 0).astype(np.uint8),
    "Still": lambda picture: np.arange(picture.size).reshape(picture.shape).astype(np.uint8),
}.items():
    gymnasium.register(f"Toy/{_name}-v0", Painted, kwargs={"paint": _paint, "length": 1000})
gymnasium.register("Toy/Long-v0", Toy, kwargs={"length": 10**9})
gymnasium.register("PongDeterministic-v4", Toy)  # a name that looks old, but is taken
_picture = spaces.Box(0, 255, (64, 64, 3), np.uint8)
_odd("Vector", spaces.Box(-1, 1, (4,), np.float32))
_odd("Float", spaces.Box(0, 1, (64, 64, 3), np.float32))
_odd("FourChannels", spaces.Box(0, 255, (64, 64, 4), np.uint8))
_odd("Dict", spaces.Dict(picture=_picture))
_odd("Steering", _picture, spaces.Box(-1, 1, (3,), np.float32))
gymnasium.register("Toy/NoRom-v0", "ale_py.env:AtariEnv", kwargs={"game": "no_such_rom"})
