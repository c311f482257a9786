"""Perturbed games: each perturbation changes what it says, and nothing else."""

from dataclasses import replace

import numpy as np
import pytest

from actors.config import EnvConfig, check_crop
from actors.env import make_games
from actors.game import open_game
from actors.screen import BACKGROUND, BRIGHTNESS, contrast_table, foreground, level_table, shrink
from replay.errors import UserError
from tests.actors.test_env import CLEAR, FIRE, NOOP, PLAIN, play, random_actions, same, toy

SLIPPERY = replace(PLAIN, perturb="noop")


def gray_background(screen):
    """As asked for, written another way: only a pixel that is black in all its channels is background."""
    black = screen == 0 if screen.ndim == 2 else (screen == 0).all(axis=-1)
    return np.where(black.reshape(*black.shape, *[1] * (screen.ndim - 2)), np.uint8(48), screen)


def darker(screen):
    return np.rint(screen * 0.7).astype(np.uint8)


# --- What is seen ---


@pytest.mark.parametrize("config", [CLEAR, replace(CLEAR, grayscale=False), replace(CLEAR, contrast=1.0)])
@pytest.mark.parametrize(("perturb", "repaint"), [("background", gray_background), ("brightness", darker)])
def test_the_raw_screen_is_repainted_before_everything_else_and_the_game_is_the_same(config, perturb, repaint):
    plain, perturbed = make_games(config, 1, seed=0), make_games(replace(config, perturb=perturb), 1, seed=0)
    (step, *_), (seen, *_), table = plain.reset(), perturbed.reset(), contrast_table(config.contrast)
    ale, scored = plain.games[0].ale, 0.0
    for action in random_actions(300, seed=1):
        screen = ale.getScreenGrayscale() if config.grayscale else ale.getScreenRGB()
        assert np.array_equal(step.obs[0], shrink(screen, config, table))
        assert np.array_equal(seen.obs[0], shrink(repaint(screen), config, table))
        assert (seen.obs != step.obs).any()
        assert same(seen[1:], step[1:])
        (step, *_), (seen, *_) = plain.step(action), perturbed.step(action)
        scored += step.reward[0]
    assert scored > 0


def test_only_black_becomes_background_and_stays_apart_from_everything_in_the_game():
    table = level_table(replace(PLAIN, perturb="background"))
    assert table[0] == BACKGROUND and np.array_equal(table[1:], np.arange(1, 256))
    games, levels = make_games(PLAIN, 1, seed=0), set()
    games.reset()
    for action in random_actions(300, seed=1):
        games.step(action)
        levels |= set(np.unique(games.games[0].ale.getScreenGrayscale()).tolist())
    assert {0, 110, 142} < levels  # black, ball and paddle, walls
    assert min(abs(level - BACKGROUND) for level in levels) > 30


def test_brightness_scales_every_level_before_the_contrast_clips():
    table = level_table(replace(PLAIN, perturb="brightness", contrast=255 / 110))
    assert (table[0], table[110], table[142], table[255]) == (0, 178, 230, 255)
    assert np.array_equal(level_table(replace(PLAIN, perturb="brightness")), contrast_table(BRIGHTNESS))


@pytest.mark.parametrize("perturb", ["none", "noop"])
@pytest.mark.parametrize("contrast", [1.0, 1.8])
def test_otherwise_there_is_only_the_contrast(perturb, contrast):
    assert np.array_equal(level_table(EnvConfig(perturb=perturb, contrast=contrast)), contrast_table(contrast))


# --- Binary pictures ---

BINARY = replace(CLEAR, contrast=1.0, binary=True, size=40, shrink="max")


def test_binary_is_white_where_the_level_is_not_the_most_frequent_one():
    screen = np.array([[7, 7, 9], [7, 0, 255]], np.uint8)
    assert foreground(screen).tolist() == [[0, 0, 255], [0, 255, 255]]


@pytest.mark.parametrize("perturb", ["background", "brightness"])
def test_binary_pictures_do_not_know_background_and_light(perturb):
    actions = random_actions(400, seed=1)
    plain, perturbed = play(BINARY, actions)[0], play(replace(BINARY, perturb=perturb), actions)[0]
    assert same(plain, perturbed) and plain.reward.sum() > 0
    assert set(np.unique(plain.obs)) == {0, 255}


def test_binary_pictures_show_whatever_is_not_black_in_breakout():
    games = make_games(BINARY, 1, seed=0)
    (step, *_), ale = games.reset(), games.games[0].ale
    for action in random_actions(400, seed=1):
        blocks = ale.getScreenGrayscale()[34:194].reshape(40, 4, 40, 4)
        assert np.array_equal(step.obs[0, :, :, 0], np.where(blocks.max((1, 3)) > 0, 255, 0))
        step, *_ = games.step(action)


def test_binary_colours_are_refused():
    with pytest.raises(UserError, match=r"env\.binary needs env\.grayscale"):
        make_games(replace(BINARY, grayscale=False), 1, seed=0)


# --- No-ops ---


def waited(config):
    """Frames before the first picture, for some seeds."""
    games = [make_games(config, 1, seed) for seed in range(20)]
    return [g.reset() and g.games[0].ale.getEpisodeFrameNumber() for g in games]


@pytest.mark.slow
@pytest.mark.parametrize("noop_max", [30, 0])
def test_noop_waits_longer_than_training_ever_does(noop_max):
    frames = waited(replace(SLIPPERY, noop_max=noop_max))
    assert noop_max < min(frames) and max(frames) <= noop_max + 90 and max(frames) - min(frames) > 45
    assert frames == waited(replace(SLIPPERY, noop_max=noop_max))


def test_of_a_wait_breakout_keeps_only_its_length_modulo_4():
    """Why the perturbation noop is more than a longer wait."""

    def pictures(wait):
        game, screens = open_game(PLAIN, seed=0), np.zeros((60, 210, 160), np.uint8)
        game.start()
        for action in [NOOP] * wait + [FIRE] * 4:
            game.frame(action)
        for screen in screens:
            game.frame(NOOP)
            game.look(screen)
        return screens.tobytes()

    seen = [pictures(wait) for wait in (*range(1, 9), *range(101, 105))]
    assert len(set(seen)) == 4
    assert seen[:4] == seen[4:8] == seen[8:]


def test_noop_slips_in_one_step_of_ten_and_the_record_does_not_say_so():
    config = toy("Noop", perturb="noop", max_pool=False)  # FIRE 0, NOOP 1, UP 2; the picture shows what was done
    actions = np.arange(3000) % 2 * 2
    step, _ = play(config, actions)
    played, done = ~step.is_first[1:, 0], step.obs[1:, 0, 0, 0, 0] // 50
    slipped = (done == 1)[played]
    assert 0.07 < slipped.mean() < 0.13
    assert np.array_equal(done[played][~slipped], actions[played][~slipped])
    assert np.array_equal(step.prev_action[1:, 0][played], actions[played])


def test_noop_is_a_function_of_the_seed_for_every_game_alone():
    actions = random_actions(300, seed=1)
    one, again, other = (play(SLIPPERY, actions, num=2, seed=seed)[0] for seed in (3, 3, 4))
    alone, plain = play(SLIPPERY, actions, seed=3)[0], play(PLAIN, actions, num=2, seed=3)[0]
    assert same(one, again)
    assert same([field[:, :1] for field in one], alone)
    assert not np.array_equal(one.obs, other.obs) and not np.array_equal(one.obs[:, 0], one.obs[:, 1])
    assert np.array_equal(one.obs[0], plain.obs[0]) and not np.array_equal(one.obs, plain.obs)


@pytest.mark.parametrize("channels", [1, 3])
def test_shrinking_by_the_maximum_keeps_a_single_bright_pixel(channels: int) -> None:
    config = EnvConfig(size=40, crop=(34, 16, 0, 0), shrink="max")
    screen = np.random.default_rng(0).integers(0, 256, (210, 160, channels), np.uint8)
    found = shrink(screen.squeeze(), config, level_table(config))
    blocks = screen[34:194].reshape(40, 4, 40, 4, channels)
    np.testing.assert_array_equal(found, blocks.max((1, 3)))


def test_shrinking_by_the_maximum_needs_whole_blocks() -> None:
    with pytest.raises(UserError, match=r"env.size 64 must divide the 160x160 pixels"):
        check_crop((210, 160), EnvConfig(size=64, crop=(34, 16, 0, 0), shrink="max"))
