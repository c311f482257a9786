from dataclasses import replace

import cv2
import gymnasium
import numpy as np
import pytest
from gymnasium.wrappers import AtariPreprocessing

from actors.config import EnvConfig
from actors.env import action_names, make_games
from actors.screen import contrast_table, shrink
from replay.errors import UserError
from replay.experience import EnvSpec

PLAIN = EnvConfig(sticky=0.0, noop_max=0)  # Breakout without chance
CLEAR = replace(PLAIN, crop=(34, 16, 0, 0), contrast=255 / 110, max_pool=False)
FIRE, NOOP = 1, 0


def toy(name="Count", **settings):
    plain = {"frame_skip": 1, "sticky": 0.0, "noop_max": 0}
    return EnvConfig(id=f"Toy/{name}-v0", import_module="tests.actors.toy_games", **(plain | settings))


def play(config, actions, num=1, seed=0):
    """actions: int [n] or [n, E] -> the n+1 records of E games, every field [n+1, E, ...], and is_last."""
    games = make_games(config, num, seed)
    actions = np.broadcast_to(np.asarray(actions).reshape(len(actions), -1), (len(actions), num))
    arrived = [games.reset(), *(games.step(a) for a in actions)]
    games.close()
    steps = [np.stack(field) for field in zip(*(a.step for a in arrived), strict=True)]
    return type(arrived[0].step)(*steps), np.stack([a.is_last for a in arrived])


def random_actions(n, num=1, seed=0):
    return np.random.default_rng(seed).integers(0, 4, (n, num))


# --- The official preprocessing ---


@pytest.mark.parametrize(
    "config",
    [
        replace(PLAIN, noop_max=1),
        replace(PLAIN, grayscale=False),
        replace(PLAIN, size=84, frame_skip=3),
        replace(PLAIN, frame_skip=1),
        replace(PLAIN, id="ALE/SpaceInvaders-v5", full_action_set=True),  # sprites that flicker
    ],
    ids=["noop", "rgb", "84", "skip1", "invaders"],
)
def test_observations_rewards_and_ends_are_those_of_gymnasiums_wrapper(config):
    wrapped = AtariPreprocessing(
        gymnasium.make(config.id, frameskip=1, repeat_action_probability=0.0, full_action_space=config.full_action_set),
        noop_max=config.noop_max,
        frame_skip=config.frame_skip,
        screen_size=config.size,
        grayscale_obs=config.grayscale,
        grayscale_newaxis=True,
    )
    games = make_games(config, num=1, seed=0)
    ours, (expected, _) = games.reset(), wrapped.reset(seed=1)
    resets = 0
    for action in np.random.default_rng(0).integers(0, games.spec.num_actions, 500):
        assert np.array_equal(ours.step.obs[0], expected)
        if ours.is_last[0]:
            ours, (expected, _) = games.step(np.array([action])), wrapped.reset()
            resets += 1
            continue
        ours = games.step(np.array([action]))
        expected, reward, terminated, _, _ = wrapped.step(action)
        assert (ours.step.reward[0], ours.is_last[0], ours.step.is_terminal[0]) == (reward, terminated, terminated)
        if terminated:  # the wrapper shows an older frame here
            expected = ours.step.obs[0]
    assert resets > 0 or config.frame_skip == 1 or "Invaders" in config.id


def test_max_pool_shows_both_frames_and_without_it_only_the_last():
    actions = [FIRE] + [NOOP] * 20
    both, last = (play(replace(PLAIN, max_pool=pool), actions)[0].obs.astype(int) for pool in (True, False))
    assert (both >= last).all() and (both > last).any()


def test_spec_of_gray_colour_minimal_and_full():
    for config, shape, actions in [
        (PLAIN, (64, 64, 1), 4),
        (replace(PLAIN, grayscale=False), (64, 64, 3), 4),
        (replace(PLAIN, full_action_set=True, size=80), (80, 80, 1), 18),
        (toy(), (64, 64, 1), 3),
    ]:
        games = make_games(config, num=2, seed=0)
        step, is_last, *_ = games.reset()
        assert games.spec == EnvSpec(shape, actions)
        assert (step.obs.shape, step.obs.dtype) == ((2, *shape), np.uint8)
        assert [a.dtype for a in step[1:]] == [np.int32, np.float32, bool, bool]
        assert is_last.shape == (2,)


def test_action_names():
    assert action_names(PLAIN) == ["NOOP", "FIRE", "RIGHT", "LEFT"]
    assert len(action_names(replace(PLAIN, full_action_set=True))) == 18
    assert action_names(toy()) == ["0", "1", "2"]
    assert action_names(toy("Noop")) == ["FIRE", "NOOP", "UP"]


# --- Chance ---


def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("config", [EnvConfig(), toy(sticky=0.5)], ids=["ale", "toy"])
def test_the_same_seed_is_bit_identical_and_games_differ(config):
    actions = random_actions(300, 1, seed=1) % 3
    one, _ = play(config, actions, num=2, seed=3)
    again, _ = play(config, actions, num=2, seed=3)
    alone, _ = play(config, actions, num=1, seed=3)
    other, _ = play(config, actions, num=2, seed=4)
    assert same(one, again)
    assert same([field[:, :1] for field in one], alone)  # a game does not depend on those beside it
    assert not np.array_equal(one.obs, other.obs)
    assert not np.array_equal(one.obs[:, 0], one.obs[:, 1])


def test_a_part_of_the_games_plays_like_that_part_of_all():
    actions = random_actions(100, 3, seed=1)
    whole, part = make_games(EnvConfig(), 3, seed=5), make_games(EnvConfig(), 2, seed=5, first=1)
    arrived, of_part = whole.reset(), part.reset()
    for action in actions:
        assert same([field[1:] for field in arrived.step], of_part.step)
        arrived, of_part = whole.step(action), part.step(action[1:])


def test_a_step_is_sent_and_then_received():
    one, other = make_games(EnvConfig(), 2, seed=0), make_games(EnvConfig(), 2, seed=0)
    one.reset(), other.reset()
    with pytest.raises(AssertionError, match="without send"):
        one.receive()
    for action in random_actions(20, 2):
        one.send(action)
        assert same(one.receive().step, other.step(action).step)


def test_sticky_actions_differ_between_seeds_and_none_leave_no_chance():
    actions = random_actions(120)
    for sticky, alike in [(0.25, False), (0.0, True)]:
        config = replace(PLAIN, sticky=sticky)
        assert same(play(config, actions, seed=1)[0], play(config, actions, seed=2)[0]) is alike


def test_sticky_actions_of_other_games_have_the_right_frequency():
    actions = np.arange(3000) % 3
    step, _ = play(toy("Long", sticky=0.25, max_pool=False), actions)
    shown = step.obs[1:, 0, 0, 0, 0] // 50
    assert np.array_equal(step.prev_action[1:, 0], actions)  # what was chosen, not what the joystick did
    assert 0.22 < np.mean(shown != actions) < 0.28


def test_a_reset_lets_go_of_the_sticky_joystick():
    step, _ = play(toy(sticky=1.0), [1] + [2] * 12)
    assert (step.obs[1:11, 0, 0, 0, 0] == 50).all()  # the first action is held all game long
    assert (step.obs[12:, 0, 0, 0, 0] == 100).all()  # but not into the next


def test_noops_vary_between_seeds_within_their_limits():
    counts = set()
    for seed in range(12):
        games = make_games(replace(PLAIN, noop_max=30), num=1, seed=seed)
        games.reset()
        counts.add(games.games[0].ale.getEpisodeFrameNumber())
    assert len(counts) > 4 and min(counts) >= 1 and max(counts) <= 30
    games = make_games(PLAIN, num=1, seed=0)
    games.reset()
    assert games.games[0].ale.getEpisodeFrameNumber() == 0


def test_noops_of_other_games_need_an_action_of_that_name():
    started = [play(toy("Noop", noop_max=30), [0], seed=seed)[0].obs[0, 0, 0] for seed in range(8)]
    assert all(picture[0, 0] == 50 for picture in started)  # NOOP is action 1 there
    frames = [int(picture[-1, 0]) for picture in started]
    assert len(set(frames)) > 2 and min(frames) >= 1 and max(frames) <= 30
    assert play(toy("Count", noop_max=30), [0])[0].obs[0, 0, 0, -1, 0] == 0


# --- Records ---


def test_action_reward_and_picture_arrive_together():
    actions = np.array([2, 0, 1, 1, 0, 2])
    step, is_last = play(toy(), actions)
    assert step.obs[0, 0, 0, 0, 0] == 250  # the picture of a reset knows no action
    assert np.array_equal(step.obs[1:, 0, 0, 0, 0] // 50, actions)
    assert np.array_equal(step.prev_action[:, 0], [0, *actions])
    assert np.array_equal(step.reward[:, 0], [0, *(actions + 1)])
    assert np.array_equal(step.obs[:, 0, 0, -1, 0], np.arange(7))
    assert np.array_equal(step.is_first[:, 0], [True] + [False] * 6)
    assert not is_last.any() and not step.is_terminal.any()


def test_frame_skip_repeats_the_action_sums_rewards_and_stops_at_the_end():
    step, is_last = play(toy(frame_skip=4, max_pool=False), [2, 1, 2])  # the game has 10 frames
    assert np.array_equal(step.reward[:, 0], [0, 12, 8, 6])
    assert np.array_equal(step.obs[:, 0, 0, -1, 0], [0, 4, 8, 10])
    assert is_last[:, 0].tolist() == step.is_terminal[:, 0].tolist() == [False, False, False, True]


def test_a_game_that_ended_is_reset_by_the_next_step_whose_action_is_ignored():
    step, is_last = play(toy(), [1] * 10 + [2] * 3)
    assert np.flatnonzero(is_last[:, 0]).tolist() == np.flatnonzero(step.is_terminal[:, 0]).tolist() == [10]
    assert np.flatnonzero(step.is_first[:, 0]).tolist() == [0, 11]
    assert (step.prev_action[11, 0], step.reward[11, 0], step.obs[11, 0, 0, 0, 0]) == (0, 0.0, 250)
    assert (step.prev_action[12, 0], step.reward[12, 0], step.obs[12, 0, 0, 0, 0]) == (2, 3.0, 100)


def test_reset_starts_every_game_anew_and_records_stay_as_they_were():
    games = make_games(toy(), num=2, seed=0)
    first = games.reset()
    kept = first.step.obs.copy()
    for _ in range(3):
        arrived = games.step(np.array([1, 2]))
    arrived.is_last[:] = True  # whoever receives a record may write to it
    assert not games.step(np.array([1, 2])).step.is_first.any()
    assert games.reset().step.is_first.all()
    assert np.array_equal(first.step.obs, kept)


@pytest.mark.parametrize("config", [toy(time_limit=6), toy("Limited"), replace(PLAIN, time_limit=6)])
def test_a_time_limit_ends_the_game_but_is_no_terminal(config):
    step, is_last = play(config, [NOOP] * 13)
    assert np.flatnonzero(is_last[:, 0]).tolist() == [6, 13]
    assert np.flatnonzero(step.is_first[:, 0]).tolist() == [0, 7]
    assert not step.is_terminal.any()


def test_a_true_end_at_the_time_limit_is_a_terminal():
    step, is_last = play(toy(time_limit=10), [0] * 10)
    assert is_last[10, 0] and step.is_terminal[10, 0]


def test_a_lost_life_is_terminal_without_a_reset():
    step, is_last = play(toy("Lives", life_loss=True), [0] * 9)
    assert np.flatnonzero(step.is_terminal[:, 0]).tolist() == [4, 8, 9]
    assert np.flatnonzero(is_last[:, 0]).tolist() == [9]
    assert np.flatnonzero(step.is_first[:, 0]).tolist() == [0]
    assert np.flatnonzero(play(toy("Lives"), [0] * 9)[0].is_terminal[:, 0]).tolist() == [9]


@pytest.mark.parametrize(("game", "config", "expected"), [
    ("Lives", {"life_loss": True}, [4, 8, 9]),
    ("Lives", {"life_loss": False}, [4, 8, 9]),  # known whether or not it is an end
    ("Lives", {"time_limit": 6}, [4]),  # the life that a limit ends is not lost
    ("Count", {}, [10]),  # a game without lives is one life
    ("Limited", {}, []),
])  # fmt: skip
def test_a_lost_life_is_told_whatever_the_rules_say(game, config, expected):
    games = make_games(toy(game, **config), num=1, seed=0)
    arrived = [games.reset()]
    while not arrived[-1].is_last[0]:
        arrived.append(games.step(np.zeros(1, np.int64)))
    assert [t for t, one in enumerate(arrived) if one.life_lost[0]] == expected


@pytest.mark.parametrize("life_loss", [True, False])
def test_breakout_is_one_game_of_five_lives(life_loss):
    config = replace(PLAIN, life_loss=life_loss, crop=(34, 16, 0, 0))
    games = make_games(config, num=1, seed=0)
    ale = games.games[0].ale
    rng = np.random.default_rng(1)  # a lucky one: points with two of its lives
    arrived, score, lost, scored_after = games.reset(), 0.0, [], set()
    lives, frames = ale.lives(), ale.getEpisodeFrameNumber()
    assert lives == 5
    while not arrived.is_last[0]:
        arrived = games.step(rng.integers(0, 4, 1))
        score += arrived.step.reward[0]
        loss = ale.lives() < lives
        assert arrived.step.is_terminal[0] == ((loss and life_loss) or arrived.is_last[0])
        assert not arrived.step.is_first[0]
        assert ale.getEpisodeFrameNumber() > frames  # never reset in between
        lives, frames = ale.lives(), ale.getEpisodeFrameNumber()
        lost += [lives] if loss else []
        if arrived.step.reward[0]:
            scored_after.add(lives)
    assert lost == [4, 3, 2, 1, 0]
    assert len(scored_after) > 1  # points were made with more than one life ...
    ram = ale.getRAM()
    assert score == 100 * (ram[76] & 15) + 10 * (ram[77] >> 4) + (ram[77] & 15)  # ... and the game's own count agrees


# --- What is left to see ---


def test_contrast_does_not_overflow():
    table = contrast_table(1.8)
    assert table.dtype == np.uint8 and (np.diff(table.astype(int)) >= 0).all()
    assert (table[0], table[100], table[142], table[255]) == (0, 180, 255, 255)
    assert np.array_equal(contrast_table(1.0), np.arange(256))
    bright = np.full((64, 64), 200, np.uint8)
    assert (shrink(bright, replace(PLAIN, contrast=1.8), table) == 255).all()


@pytest.mark.parametrize(("config", "least"), [(replace(PLAIN, max_pool=True), 25), (CLEAR, 60)])
def test_the_ball_is_visible(config, least):
    games = make_games(config, num=1, seed=0)
    games.reset()
    games.step(np.array([FIRE]))
    ale, seen = games.games[0].ale, 0
    top, bottom = config.crop[:2]
    for _ in range(60):
        obs = games.step(np.array([NOOP])).step.obs[0, :, :, 0]
        screen = ale.getScreenGrayscale()
        rows, columns = np.nonzero(screen[93:189, 8:152])  # between bricks and paddle, inside the walls: only the ball
        if len(rows) < 8:  # out of play, or partly behind something
            continue
        scale = 64 / (210 - top - bottom)
        y, x = int((rows.mean() + 93 + 0.5 - top) * scale), int((columns.mean() + 8 + 0.5) * 64 / 160)
        patch = obs[y - 1 : y + 2, x - 1 : x + 2]
        assert patch.max() >= least
        seen += 1
    assert seen >= 15


def test_the_crop_cuts_the_score_away_and_only_that():
    games = make_games(PLAIN, num=1, seed=0)
    games.reset()
    rng = np.random.default_rng(0)
    ale, table, scored = games.games[0].ale, contrast_table(CLEAR.contrast), False
    before = ale.getScreenGrayscale()
    while not scored:
        arrived = games.step(rng.integers(0, 4, 1))
        scored = arrived.step.reward[0] > 0 and not arrived.is_last[0]
    after = ale.getScreenGrayscale()
    assert (before[:34] != after[:34]).any()  # the digits
    digits_elsewhere = after.copy()
    digits_elsewhere[:34] = before[:34]
    assert np.array_equal(shrink(after, CLEAR, table), shrink(digits_elsewhere, CLEAR, table))
    assert after[34:194, 8:152].any(axis=1)[23] and after[189:194, 8:152].any()  # bricks and paddle are inside


def test_crop_contrast_and_resize_are_done_in_this_order():
    screen = np.random.default_rng(0).integers(0, 256, (210, 160), np.uint8)
    config = replace(PLAIN, crop=(34, 16, 8, 8), contrast=2.0, size=48)
    part = np.clip(screen[34:194, 8:152].astype(int) * 2, 0, 255).astype(np.uint8)
    expected = cv2.resize(part, (48, 48), interpolation=cv2.INTER_AREA)[:, :, None]
    assert np.array_equal(shrink(screen, config, contrast_table(2.0)), expected)


# --- Other Gymnasium games ---


@pytest.mark.parametrize("name", ["Count", "Flat", "OneChannel", "Wide", "FromFive"])
@pytest.mark.parametrize("grayscale", [True, False])
def test_pictures_of_every_shape(name, grayscale):
    step, _ = play(toy(name, grayscale=grayscale), [2, 1])
    assert step.obs.shape == (3, 1, 64, 64, 1 if grayscale else 3)
    assert (step.obs[:, 0, :, :32] == np.array([250, 100, 50]).reshape(3, 1, 1, 1)).all()
    assert (step.obs[:, 0, :, 32:] == np.arange(3).reshape(3, 1, 1, 1)).all()


def test_crop_and_contrast_of_other_games():
    step, _ = play(toy("Wide", crop=(0, 64, 96, 0), contrast=40.0, size=32), [0] * 9)
    assert (step.obs[:, 0] == np.minimum(np.arange(10) * 40, 255).reshape(10, 1, 1, 1)).all()


def test_a_small_picture_is_enlarged():
    assert play(toy(size=128), [0])[0].obs.shape == (2, 1, 128, 128, 1)


# --- FIRE ---


def test_auto_fire_serves_the_ball_and_the_record_says_so() -> None:
    """The player does nothing: the ball is served all the same, lives are lost, and the game comes to its end."""
    config = EnvConfig(sticky=0.0, auto_fire=True, life_loss=True, noop_max=0)
    games = make_games(config, num=1, seed=0)
    fire, served, must = action_names(config).index("FIRE"), [], True
    arrived = games.reset()
    for _ in range(1000):
        arrived = games.step(np.zeros(1, np.int64))
        served.append(int(arrived.step.prev_action[0]))
        assert served[-1] == (fire if must else 0)
        must = bool(arrived.step.is_terminal[0])
        if arrived.is_last[0]:
            break
    assert arrived.is_last[0] and served.count(fire) == 5


def test_auto_fire_needs_an_action_named_fire() -> None:
    with pytest.raises(UserError, match="no action FIRE"):
        make_games(EnvConfig(id="ALE/Freeway-v5", auto_fire=True), 1, 0)
