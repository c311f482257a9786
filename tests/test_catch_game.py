"""Catch is what the tests of learning take it for: fully seeded, and with known best and random scores."""

from __future__ import annotations

from collections.abc import Callable

import gymnasium
import numpy as np
from gymnasium.utils.env_checker import check_env

from tests.catch_game import COLUMNS, LEFT, RIGHT, ROWS, STAY, WIDTH, Catch

BALLS = Catch().balls
Policy = Callable[[Catch], int]


def perfect(game: Catch) -> int:
    """Walks below the ball's landing place; during the first fall it does not know the wind and stays."""
    if game.row == 0:
        return STAY
    return towards(game.paddle, game.landing())


def follower(game: Catch) -> int:
    """Stays below the ball: all that can be done without memory."""
    return towards(game.paddle, game.column)


def towards(paddle: int, column: int) -> int:
    """The shorter way round."""
    right = (column - paddle) % COLUMNS
    return STAY if right == 0 else RIGHT if right <= COLUMNS // 2 else LEFT


def scores(policy: Policy, games: int, game: Catch | None = None) -> list[float]:
    game = game or Catch()
    found = []
    for n in range(games):
        game.reset(seed=n)
        score, over = 0.0, False
        while not over:
            _, reward, over, _, _ = game.step(policy(game))
            score += reward
        found.append(score)
    return found


def random_policy(seed: int) -> Policy:
    rng = np.random.default_rng(seed)
    return lambda game: int(rng.integers(3))


def test_both_are_gymnasium_games() -> None:
    for name in ("Toy/Catch-v0", "Toy/CatchOne-v0"):
        check_env(gymnasium.make(name).unwrapped, skip_render_check=True)


def test_a_perfect_player_who_sees_only_the_past_catches_every_ball() -> None:
    assert scores(perfect, 200) == [BALLS] * 200
    assert scores(perfect, 500, Catch(balls=1)) == [1.0] * 500


def test_a_random_player_catches_one_ball_in_five() -> None:
    # The ball's column is independent of the paddle's and nearly uniform: a standard error of 10 * 0.4 / sqrt(4000).
    assert abs(np.mean(scores(random_policy(0), 400)) - BALLS / COLUMNS) < 0.2


def test_without_memory_most_balls_are_missed() -> None:
    """The ball's last drift carries it away from a paddle that follows it."""
    assert np.mean(scores(follower, 200)) < 0.6 * BALLS


def test_a_step_too_much_misses_every_ball() -> None:
    """So that who mistakes when an action acts can be seen from the score."""

    def late(game: Catch) -> int:
        return RIGHT if game.row == ROWS - 2 else perfect(game)

    assert np.mean(scores(late, 100)) < 0.25 * BALLS


def test_one_seed_gives_one_game() -> None:
    def pictures(seed: int) -> list[np.ndarray]:
        game = Catch()
        seen = [game.reset(seed=seed)[0]]
        return seen + [game.step(action)[0] for action in [LEFT, RIGHT, RIGHT] * 23]

    first, again, other = pictures(1), pictures(1), pictures(2)
    assert len(first) == BALLS * ROWS
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_the_picture_shows_ball_and_paddle_and_not_the_wind() -> None:
    game = Catch()
    game.reset(seed=0)
    shown = set()
    for game.wind in (-1, 0, 1):
        game._drop()
        game.column = 2
        shown.add(game._picture().tobytes())
    assert len(shown) == 1
    picture = game._picture()[:, :, 0]
    assert picture[-1].nonzero()[0].tolist() == list(range(WIDTH * game.paddle, WIDTH * (game.paddle + 1)))
    assert picture[0].nonzero()[0].tolist() == list(range(WIDTH * game.column, WIDTH * (game.column + 1)))


def test_ball_and_paddle_leave_at_one_side_and_come_in_at_the_other() -> None:
    game = Catch()
    game.reset(seed=0)
    game.wind, game.column, game.paddle = 1, COLUMNS - 1, 0
    game.step(LEFT)
    assert (game.column, game.paddle) == (0, COLUMNS - 1)
