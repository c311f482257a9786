"""Which games can be made: old names, and one plain line for each that cannot."""

from dataclasses import replace

import pytest

from actors.config import EnvConfig
from actors.env import check_game, make_games
from actors.game import resolve
from replay.errors import UserError
from tests.actors.test_env import toy

# --- Old names ---


@pytest.mark.parametrize(
    ("name", "skip", "sticky"),
    [
        ("BreakoutDeterministic-v4", 4, 0.0),
        ("BreakoutDeterministic-v0", 4, 0.25),
        ("BreakoutNoFrameskip-v4", 1, 0.0),
        ("BreakoutNoFrameskip-v0", 1, 0.25),
    ],
)
def test_old_names(name, skip, sticky):
    resolved = resolve(EnvConfig(id=name, size=48))
    assert resolved == EnvConfig(id="ALE/Breakout-v5", frame_skip=skip, sticky=sticky, size=48)
    assert resolve(resolved) == resolved
    overridden = replace(resolved, sticky=0.1)
    assert resolve(overridden) == overridden
    ale = make_games(EnvConfig(id=name), num=1, seed=0).games[0].ale
    assert ale.getFloat("repeat_action_probability") == sticky


def test_old_names_of_two_words_and_names_that_only_look_old():
    assert resolve(EnvConfig(id="SpaceInvadersDeterministic-v4")).id == "ALE/SpaceInvaders-v5"
    for config in (EnvConfig(), EnvConfig(id="CartPole-v0"), toy()):
        assert resolve(config) == config
    taken = replace(toy(), id="PongDeterministic-v4")
    assert resolve(taken) == taken


@pytest.mark.parametrize("version", ["v0", "v4"])
def test_a_plain_old_name_is_refused(version):
    with pytest.raises(UserError, match=rf"BreakoutDeterministic-{version} or ALE/Breakout-v5"):
        make_games(EnvConfig(id=f"Breakout-{version}"), num=1, seed=0)


# --- Plain errors ---


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (EnvConfig(id="ALE/Braekout-v5"), r"env\.id ALE/Braekout-v5 is unknown: did you mean ALE/Breakout-v5"),
        (EnvConfig(id="BreakotDeterministic-v4"), r"is unknown: did you mean ALE/Breakout-v5"),
        (EnvConfig(id="breakout"), r"is unknown: did you mean ALE/Breakout-v5"),
        (EnvConfig(id="Zzzzqqqq-v9"), r"is unknown: see env\.import_module"),
        (EnvConfig(import_module="no_such_module"), r"no_such_module cannot be imported .*PYTHONPATH"),
        (EnvConfig(id="CartPole-v1"), r"CartPole-v1 is not a picture .* Box float32 \[4\]"),
        (toy("Vector"), "not a picture"),
        (toy("Float"), r"not a picture .* Box float32 \[64, 64, 3\]"),
        (toy("FourChannels"), "not a picture"),
        (toy("Dict"), "not a picture .* Dict"),
        (toy("Steering"), "actions of Toy/Steering-v0 are not discrete but Box"),
        (toy("NoRom"), r"ROM of Toy/NoRom-v0, no_such_rom, is not one"),
        (toy(life_loss=True), r"does not tell its lives .*env\.life_loss"),
        (toy(crop=(0, 0, 32, 32)), r"env\.crop \(0, 0, 32, 32\) leaves nothing of the 64x64 screen"),
        (EnvConfig(crop=(200, 10, 0, 0)), "leaves nothing of the 210x160 screen"),
        (EnvConfig(crop=(-1, 0, 0, 0)), r"env\.crop must be 4 times 0 to 10000"),
        (EnvConfig(size=0), r"env\.size must be 1 to 1024, not 0"),
        (EnvConfig(frame_skip=0), r"env\.frame_skip"),
        (EnvConfig(sticky=1.5), r"env\.sticky must be 0 to 1"),
        (EnvConfig(noop_max=-1), r"env\.noop_max"),
        (EnvConfig(contrast=0.0), r"env\.contrast"),
        (EnvConfig(time_limit=0), r"env\.time_limit"),
        (EnvConfig(perturb="fog"), r"env\.perturb must be none, background, brightness or noop, not 'fog'"),
        (toy(perturb="noop"), r"Toy/Count-v0 has no action NOOP .*: choose another env\.perturb"),
    ],
)
def test_a_wrong_request_gets_one_plain_line(config, words):
    with pytest.raises(UserError, match=words) as error:
        check_game(config)
    assert "\n" not in str(error.value)


def test_a_missing_rom_is_told(monkeypatch, tmp_path):
    monkeypatch.setenv("ALE_ROMS_DIR", str(tmp_path))
    with pytest.raises(UserError, match=r"ROM of ALE/Breakout-v5 cannot be used .*ALE_ROMS_DIR"):
        check_game(EnvConfig())


def test_good_requests_pass(capfd):
    for config in (EnvConfig(), EnvConfig(id="BreakoutDeterministic-v4"), toy(), toy("Lives", life_loss=True)):
        check_game(config)
    assert capfd.readouterr() == ("", "")  # no banner of the emulator
