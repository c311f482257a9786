"""Tiny Gymnasium games whose picture tells what happened. Importing this module registers them."""

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
        self.frames += 1
        picture, info = self._picture(50 * (action - self.start))
        return picture, float(action - self.start + 1), self.frames >= self.length, False, info


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
gymnasium.register("Toy/Long-v0", Toy, kwargs={"length": 10**9})
gymnasium.register("PongDeterministic-v4", Toy)  # a name that looks old, but is taken
_picture = spaces.Box(0, 255, (64, 64, 3), np.uint8)
_odd("Vector", spaces.Box(-1, 1, (4,), np.float32))
_odd("Float", spaces.Box(0, 1, (64, 64, 3), np.float32))
_odd("FourChannels", spaces.Box(0, 255, (64, 64, 4), np.uint8))
_odd("Dict", spaces.Dict(picture=_picture))
_odd("Steering", _picture, spaces.Box(-1, 1, (3,), np.float32))
gymnasium.register("Toy/NoRom-v0", "ale_py.env:AtariEnv", kwargs={"game": "no_such_rom"})
