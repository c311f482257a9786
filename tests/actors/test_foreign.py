"""Games by other people: whatever is wrong with one is said in one line that names it, from wherever it is opened."""

from __future__ import annotations

import re
import sys
from contextlib import closing
from itertools import chain
from pathlib import Path

import gymnasium
import numpy as np
import pytest

from actors.calling import Calling
from actors.config import EnvConfig, GameBroke
from actors.env import action_names, check_game, make_games
from actors.foreign import Foreign
from actors.opening import action_meanings
from actors.parallel import ParallelGames
from replay.errors import UserError
from tests.actors import faulty_games, toy_games
from tests.actors.test_env import play, toy

WRONG = {name: words for name, (_, words) in faulty_games.FAULTY.items()} | faulty_games.MADE
LIVES = {name: words for name, (_, words) in faulty_games.LIVES.items()}
LATER = {name: words for name, (_, words) in faulty_games.LATER.items()}


def faulty(name: str, **settings: object) -> EnvConfig:
    plain = {"frame_skip": 1, "sticky": 0.0, "noop_max": 0, "import_module": "tests.actors.faulty_games"}
    return EnvConfig(id=f"Faulty/{name}-v0", **(plain | settings))


# --- At the start ---


@pytest.mark.parametrize(
    ("name", "words", "life_loss"),
    [*((name, words, False) for name, words in WRONG.items()), *((name, words, True) for name, words in LIVES.items())],
)
def test_a_wrong_game_is_a_wrong_request(
    name: str, words: str, life_loss: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match=words) as error:
        check_game(faulty(name, life_loss=life_loss))
    text = str(error.value)
    assert "\n" not in text and f"Faulty/{name}-v0" in text
    assert capfd.readouterr() == ("", "")


def test_what_a_game_raised_is_chained() -> None:
    with pytest.raises(UserError) as error:
        check_game(faulty("ResetRaises"))
    causes = []
    while (cause := (causes[-1] if causes else error.value).__cause__) is not None:
        causes.append(cause)
    assert isinstance(causes[-1], KeyError)


def test_ctrl_c_is_nobodys_fault() -> None:
    with pytest.raises(KeyboardInterrupt), Calling("a game", "step()"):
        raise KeyboardInterrupt


@pytest.mark.parametrize("name", [*faulty_games.STRANGE, "Item"])
def test_a_strange_game_is_played(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    check_game(faulty(name))
    assert np.isfinite(play(faulty(name), [0, 1, 2])[0].reward).all()
    assert capfd.readouterr().out == ""  # what a game prints would spoil the document of --json


@pytest.mark.parametrize("name", faulty_games.MODULES)
def test_a_wrong_module_is_a_wrong_request(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text, words = faulty_games.MODULES[name]
    (tmp_path / f"games_{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=words) as error:
        check_game(EnvConfig(id="Own/Game-v0", import_module=f"games_{name}"))
    assert "\n" not in str(error.value)
    sys.modules.pop(f"games_{name}", None)
    gymnasium.registry.pop("Mine/Zzz-v0", None)


@pytest.mark.parametrize("name", ["games.py", "./games", ".games", "my games", "games/breakout"])
def test_a_path_is_no_module(name: str) -> None:
    with pytest.raises(UserError, match=r"not the name of a module: .*PYTHONPATH"):
        check_game(EnvConfig(import_module=name))


def test_a_typo_and_the_other_way_to_name_a_module() -> None:
    with pytest.raises(UserError, match=r"Toyy/Noop-v0 is unknown: did you mean Toy/Noop-v0"):
        check_game(EnvConfig(id="Toyy/Noop-v0", import_module="tests.actors.toy_games"))
    with pytest.raises(UserError, match=r"take --env.id Toy/Count-v0 --env.import-module tests.actors.toy_games"):
        check_game(EnvConfig(id="tests.actors.toy_games:Toy/Count-v0"))


# --- In mid-game ---


@pytest.mark.parametrize("name", LATER)
def test_a_game_that_breaks_in_the_middle_is_named(name: str) -> None:
    check_game(faulty(name))
    with pytest.raises(GameBroke, match=f"^Faulty/{name}-v0: .*{LATER[name]}") as error:
        play(faulty(name), [0] * (faulty_games.LATE + 1))
    assert "\n" not in str(error.value) and not isinstance(error.value, UserError)


@pytest.mark.parametrize("name", ["InitTypeError", "LateRaise"])
def test_games_in_worker_processes_say_the_same(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    said = []
    for make in (lambda: make_games(faulty(name), 2, 0), lambda: ParallelGames(faulty(name), 2, 0, workers=2)):
        with pytest.raises((UserError, GameBroke)) as error, closing(make()) as games:
            games.reset()
            for _ in range(faulty_games.LATE + 1):
                games.step(np.zeros(2, np.int32))
        said.append((type(error.value), str(error.value)))
    assert said[0] == said[1]
    assert "faulty_games.py" in str(error.value.__cause__) and "Traceback" in str(error.value.__cause__)
    assert capfd.readouterr() == ("", "")


def test_a_game_that_cannot_close_costs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    games = make_games(toy(), 1, 0)
    games.games[0].foreign.env.unwrapped.close = faulty_games.raises(OSError("still open"))
    games.close()
    assert r"Toy/Count-v0: close() raised OSError: still open" in caplog.text


def test_a_picture_that_the_game_goes_on_drawing_into_is_read_at_once() -> None:
    """Of a game that returns the same array each time the records are those of one that does not."""
    for config in (toy("Reused", frame_skip=4), toy("Reused", frame_skip=4, noop_max=5)):
        fresh = toy("Noop", **{name: getattr(config, name) for name in ("frame_skip", "noop_max")})
        for one, other in zip(play(config, [1] * 60, num=2)[0], play(fresh, [1] * 60, num=2)[0], strict=True):
            np.testing.assert_array_equal(one, other)


# --- Actions ---


@pytest.mark.parametrize(
    ("name", "number", "names"),
    [
        ("Noop", 3, ["FIRE", "NOOP", "UP"]),
        ("NoopFewer", 2, None),  # a wrapper with fewer actions
        ("NoopTurned", 3, None),  # as many, in another order
        ("NoopStepped", 3, None),  # a wrapper with a step of its own: who knows
        ("NoopPlain", 3, ["FIRE", "NOOP", "UP"]),  # wrappers that hand actions on
        ("NoopTold", 2, ["NOOP", "FIRE"]),  # a wrapper that says what they mean now
        ("NoopWrong", 3, None),  # as many names as it had before it was changed
    ],
)
def test_actions_are_counted_by_the_space_and_named_where_the_names_are_sure(
    name: str, number: int, names: list[str] | None
) -> None:
    games = make_games(toy(name, noop_max=4), num=1, seed=0)
    assert games.spec.num_actions == number
    assert Foreign(toy(name)).names == names
    assert action_names(toy(name)) == (names or [str(n) for n in range(number)])
    began = games.reset().step.obs[0, 0, -1, 0]
    assert (began > 0) == (names is not None)  # no no-ops where it is not known which action is one
    for action in range(number):
        assert not games.step(np.array([action])).is_last[0]
    if names is None:
        with pytest.raises(UserError, match=r"has no action FIRE \(what its actions mean is not told"):
            check_game(toy(name, auto_fire=True))


def test_breakout_behind_a_wrapper_of_three_actions_is_never_given_a_fourth() -> None:
    config = EnvConfig(id="Toy/BreakoutOfThree-v0", import_module="tests.actors.toy_games", noop_max=30)
    assert check_game(config).num_actions == 3
    assert action_names(config) == ["0", "1", "2"]


def test_what_is_registered_around_the_emulator_is_not_left_away() -> None:
    """A wrapper or a limit that belongs to the id: then the game is Gymnasium's, not the bare emulator."""
    limited = EnvConfig(id="Toy/BreakoutLimited-v0", import_module="tests.actors.toy_games", frame_skip=1, noop_max=0)
    _, is_last = play(limited, [0] * 5)
    assert np.flatnonzero(is_last).tolist() == [5]


def test_atari_knows_what_its_actions_mean() -> None:
    env = gymnasium.make("ALE/Breakout-v5")
    assert action_meanings(env) == ["NOOP", "FIRE", "RIGHT", "LEFT"]


# --- Ends ---


@pytest.mark.parametrize("length", [1, 2, 3, 7])
def test_a_game_that_ends_during_its_noops_is_started_again(length: int) -> None:
    """The toy refuses a step after its end, and its picture counts the frames since its start."""
    name = f"Ends{length}"
    gymnasium.register(f"Toy/{name}-v0", toy_games.Toy, kwargs={"noop": True, "length": length})
    began = set()
    for seed in range(40):
        step, is_last = play(toy(name, noop_max=20), [0] * length, seed=seed)
        shown = int(step.obs[0, 0, 0, -1, 0])
        assert shown < length and step.is_first[0, 0] and not is_last[0, 0]
        assert np.flatnonzero(is_last[:, 0])[0] == length - shown  # as many frames are left as were not used up
        began.add(shown)
    assert began == set(range(length))


def test_episodes_of_one_step() -> None:
    step, is_last = play(faulty("OneStep"), [1] * 6)
    assert is_last[:, 0].tolist() == step.is_terminal[:, 0].tolist() == [False, True] * 3 + [False]
    assert step.is_first[:, 0].tolist() == [True, False] * 3 + [True]


def test_every_name_is_registered() -> None:
    for name in chain(WRONG, LIVES, LATER, faulty_games.STRANGE):
        assert f"Faulty/{name}-v0" in gymnasium.registry


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (toy("Still"), r"^Toy/Still-v0 shows the same picture at each of 18 steps"),
        (EnvConfig(crop=(200, 0, 0, 0), noop_max=0), r"^ALE/Breakout-v5 shows the same picture"),  # below the paddle
        (faulty("OneAction"), r"^Faulty/OneAction-v0 has one action only"),
        (faulty("NoReward"), ""),
        (EnvConfig(), ""),
    ],
)
def test_what_can_be_played_and_not_learned_is_said(config: EnvConfig, words: str) -> None:
    said: list[str] = []
    check_game(config, said.append)
    assert len(said) == bool(words) and all(re.search(words, line) for line in said)
