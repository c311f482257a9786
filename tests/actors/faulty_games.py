"""Games that are wrong in one way each, and what must be said of them. Importing this module registers them."""

import atexit
import threading
from decimal import Decimal

import gymnasium
import numpy as np
from gymnasium import spaces

from tests.actors.toy_games import Toy

LATE = 100  # frames: long after a game was tried at the start


class Faulty(Toy):
    """A Toy whose constructor, `reset` and `step` do something else with what they would have returned."""

    def __init__(self, init=None, reset=None, step=None, render_mode=None, **toy):
        super().__init__(**({"length": 1000} | toy))
        self.on_reset, self.on_step, self.render_mode = reset, step, render_mode
        if init:
            init(self)

    def reset(self, *, seed=None, options=None):
        came = super().reset(seed=seed)
        return self.on_reset(self, *came) if self.on_reset else came

    def step(self, action):
        came = super().step(action)
        return self.on_step(self, *came) if self.on_step else came


class Seedless(Toy):
    """Takes no seed, as games of the old API."""

    def reset(self):
        return super().reset()


class Item(Toy):
    """Was only ever tried with action_space.sample()."""

    def step(self, action):
        return super().step(action.item())


class OldApi(Toy):
    def step(self, action):
        picture, reward, over, _, info = super().step(action)
        return picture, reward, over, info


def raises(error):
    def hook(*_):
        raise error

    return hook


def late(hook):
    """The step is right at first."""
    return lambda self, *came: hook(self, *came) if self.frames > LATE else came


def picture(change):
    """A step whose picture is another one."""
    return lambda self, seen, *rest: (change(seen), *rest)


def reward(value):
    return lambda self, seen, _, *rest: (seen, value, *rest)


def over(value):
    return lambda self, seen, gain, _, *rest: (seen, gain, value, *rest)


def info(value):
    return lambda self, seen, gain, end, cut, _: (seen, gain, end, cut, value)


def space(*arguments):
    def change(self):
        self.observation_space = spaces.Box(*arguments)

    return change


def wants_drawing(self):
    """As pygame's games that draw nothing unless they are told how."""
    if self.render_mode is None:
        raise ValueError("render_mode must be given")


class Unprintable(Exception):
    def __str__(self):
        raise RuntimeError("no words")


def many_actions(self):
    self.action_space = spaces.Discrete(2_000_000_000)


def one_action(self):
    self.action_space = spaces.Discrete(1)


def strays(self):
    """Errors that no caller hears of."""
    thread = threading.Thread(target=lambda: 1 / 0, name="engine")
    thread.start()
    thread.join()
    atexit.register(lambda: 1 / 0)


def prints(self):
    print("Hello from the game's community")


# name -> (what its constructor, reset and step do, what must be said)
FAULTY = {
    "InitTypeError": ({"init": raises(TypeError("wants more"))}, "making it raised TypeError: wants more"),
    "InitImport": ({"init": raises(ImportError("no such engine"))}, "making it raised ImportError: no such engine"),
    "InitAssert": ({"init": raises(AssertionError())}, "making it raised AssertionError"),
    "InitExit": ({"init": raises(SystemExit(3))}, "making it raised SystemExit: 3"),
    "InitManyLines": ({"init": raises(ValueError("one\ntwo\n"))}, "making it raised ValueError: one two"),
    "InitUnprintable": ({"init": raises(Unprintable())}, r"making it raised Unprintable: \(it cannot be shown\)"),
    "InitColours": ({"init": raises(ValueError("\x1b[31mred\x07\x1b[0m"))}, r"raised ValueError: red \("),
    "InitActions": ({"init": many_actions}, "has 2,000,000,000 actions, of which"),
    "InitNoSpace": ({"init": lambda self: delattr(self, "action_space")}, "spaces raised AttributeError"),
    "ResetRaises": (
        {"reset": raises(KeyError("level"))},
        r"reset\(\) raised KeyError: 'level' \(.*faulty_games.py:\d+",
    ),
    "ResetPictureOnly": ({"reset": lambda self, seen, _: seen}, r"reset\(\) returned uint8 .* observation, info are"),
    "ResetNone": ({"reset": lambda *_: None}, r"reset\(\) returned None where"),
    "ResetInfoNone": ({"reset": lambda self, seen, _: (seen, None)}, "info that is None, not a dict"),
    "ResetFloat": ({"reset": lambda self, seen, _: (seen / 255, {})}, r"float64 \[64, 64, 3\] where uint8 .*by 255"),
    "StepRaises": ({"step": raises(IndexError("list index"))}, r"step\(\) raised IndexError: list index \(.*\d+\)"),
    "StepFour": ({"step": lambda self, seen, gain, end, cut, info: (seen, gain, end, info)}, "4 values .*old Gym API"),
    "StepNone": ({"step": lambda *_: None}, r"step\(\) returned None"),
    "StepFloat": ({"step": picture(lambda seen: seen / np.float32(255))}, r"float32 .*uint8 .*multiply by 255"),
    "StepShape": ({"step": picture(lambda seen: seen[:32])}, r"uint8 \[32, 64, 3\] where uint8 \[64, 64, 3\]"),
    "StepInt": ({"step": picture(lambda seen: seen.astype(int))}, r"int64 \[64, 64, 3\] where uint8"),
    "StepNoPicture": ({"step": picture(lambda seen: None)}, "picture that is None"),
    "StepList": ({"step": picture(lambda seen: seen.tolist())}, "picture that is a list"),
    "StepRange": ({"init": space(0, 99, (64, 64, 3), np.uint8)}, "levels 0 to 250 where 0 to 99"),
    "RewardNan": ({"step": reward(float("nan"))}, "returned the reward nan"),
    "RewardInf": ({"step": reward(np.float32("-inf"))}, "returned the reward -inf"),
    "RewardHuge": ({"step": reward(1e300)}, r"returned the reward 1e\+300"),
    "RewardLong": ({"step": reward(10**400)}, "reward that is 10+, not one number"),
    "RewardNone": ({"step": reward(None)}, "reward that is None, not one number"),
    "RewardArray": ({"step": reward(np.zeros(1))}, r"reward that is float64 \[1\], not one number"),
    "RewardComplex": ({"step": reward(1j)}, "reward that is 1j, not one number"),
    "RewardText": ({"step": reward("1")}, "reward that is '1', not one number"),
    "RewardDict": ({"step": reward({})}, "reward that is a dict, not one number"),
    "OverNone": ({"step": over(None)}, "terminated that is None, not True or False"),
    "OverArray": ({"step": over(np.zeros(3, bool))}, r"terminated that is bool \[3\], not True"),
    "OverText": ({"step": over("no")}, "terminated that is 'no'"),
    "InfoNone": ({"step": info(None)}, r"step\(\) returned an info that is None, not a dict"),
    "InfoList": ({"step": info([])}, "info that is a list, not a dict"),
    "Rgba": ({"init": space(0, 255, (64, 64, 4), np.uint8)}, "not a picture .*fourth channel"),
    "ChannelsFirst": ({"init": space(0, 255, (3, 64, 64), np.uint8)}, "not a picture .*channels come last"),
    "FloatSpace": ({"init": space(0, 1, (64, 64, 3), np.float32)}, "not a picture .*times 255"),
    "ZeroOne": ({"init": space(0, 1, (64, 64, 3), np.uint8)}, "only the levels 0 and 1: .*multiply it by 255"),
    "Empty": ({"init": space(0, 255, (0, 64, 3), np.uint8)}, "not a picture"),
}
# What is seen only where lives matter.
LIVES = {
    "LivesNone": ({"reset": lambda self, seen, _: (seen, {"lives": None})}, r"\['lives'\] is None, not a number"),
    "LivesText": ({"reset": lambda self, seen, _: (seen, {"lives": "3"})}, r"\['lives'\] is '3', not a number"),
    "LivesNegative": ({"reset": lambda self, seen, _: (seen, {"lives": -1})}, r"\['lives'\] is -1, not a number"),
    "LivesMissing": ({}, "does not tell its lives .*env.life_loss"),
    "LivesStop": ({"lives": 5, "step": info({})}, "no 'lives' any more: set env.life_loss to false"),
}
# What happens long after the start.
LATER = {
    "LateRaise": ({"step": late(raises(RuntimeError("engine lost")))}, r"step\(\) raised RuntimeError: engine lost"),
    "LateNan": ({"step": late(reward(np.nan))}, "returned the reward nan"),
    "LateFloat": ({"step": late(picture(lambda seen: seen / 255))}, "picture that is float64"),
    "LateExit": ({"step": late(raises(SystemExit()))}, r"step\(\) raised SystemExit \("),
}
# Unusual, and right.
STRANGE = {
    "NumpyBool": {"step": over(np.bool_(False))},
    "IntBool": {"step": over(0)},
    "NumpyReward": {"step": reward(np.float32(0.5))},
    "ScalarArray": {"step": reward(np.array(0.5))},
    "BoolReward": {"step": reward(True)},
    "DecimalReward": {"step": reward(Decimal("0.5"))},
    "StrangeLives": {"step": info({"lives": None})},  # as long as nobody asks
    "Drawing": {"init": wants_drawing},
    "Printing": {"init": prints},
    "Tiny": {"shape": (2, 2, 3)},
    "Large": {"step": reward(1000)},
    "NoReward": {"step": reward(0.0)},
    "LateRange": {"init": space(0, 250, (64, 64, 3), np.uint8), "step": late(picture(lambda seen: seen | 255))},
    "Flipped": {"reset": lambda self, seen, told: (seen[::-1], told), "step": picture(lambda seen: seen[::-1, ::-1])},
    "ReadOnly": {"step": picture(lambda seen: np.broadcast_to(seen[:1], seen.shape))},
    "OneStep": {"length": 1},
}

for _table in (FAULTY, LIVES, LATER):
    for _name, (_faults, _) in _table.items():
        gymnasium.register(f"Faulty/{_name}-v0", Faulty, kwargs=_faults)
for _name, _ways in STRANGE.items():
    gymnasium.register(f"Faulty/{_name}-v0", Faulty, kwargs=_ways)
# Wrapped by Gymnasium, whose own wrapper stumbles first; and what cannot even be made.
gymnasium.register("Faulty/OldApiLimited-v0", OldApi, max_episode_steps=100)
gymnasium.register("Faulty/Seedless-v0", Seedless)
gymnasium.register("Faulty/Strays-v0", Faulty, kwargs={"init": strays})
gymnasium.register("Faulty/OneAction-v0", Faulty, kwargs={"init": one_action})
gymnasium.register("Faulty/Item-v0", Item)
gymnasium.register("Faulty/NoEntry-v0", "tests.actors.faulty_games:Missing")
gymnasium.register("Faulty/NoModule-v0", "no_such_package.games:Game")
gymnasium.register("Faulty/NoGame-v0", lambda: 3)
gymnasium.register("Faulty/Arguments-v0", lambda level: Toy())
MADE = {
    "OldApiLimited": r"step\(\) raised ValueError: .*expected 5, got 4.*old Gym API",
    "Seedless": r"reset\(\) raised TypeError: .*seed.*def reset\(self, \*, seed=None, options=None\)",
    "NoEntry": "making it raised AttributeError: .*Missing",
    "NoModule": "making it raised ModuleNotFoundError: .*no_such_package",
    "NoGame": "making it raised TypeError: .*gymnasium.Env",
    "Arguments": r"making it raised TypeError: .*'level'.*kwargs of gymnasium.register",
}

# What is wrong with a module, as its text.
MODULES = {
    "syntax": ("def (", r"its import raised SyntaxError: invalid syntax \(games_syntax.py, line 1\): mend the module"),
    "value": ("raise ValueError('no licence')", r"raised ValueError: no licence \(.*games_value.py:1\)"),
    "leaves": ("import sys; sys.exit(4)", "raised SystemExit: 4"),
    "needs": ("import no_such_engine", r"cannot be imported \(No module named 'no_such_engine'\): install it"),
    "nothing": ("", "Own/Game-v0 is unknown.*registers no game: it must call gymnasium.register"),
    "other": (
        "import gymnasium\nclass G(gymnasium.Env): pass\ngymnasium.register('Mine/Zzz-v0', G)",
        r"Own/Game-v0 is unknown.*\(games_other has Mine/Zzz-v0\)",
    ),
}
