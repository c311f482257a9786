"""Lost lives are played again from shortly before, and no such life is anybody's score."""

from __future__ import annotations

from contextlib import closing

import numpy as np

from actors.config import EnvConfig
from actors.env import make_games
from actors.episodes import Episodes
from actors.parallel import ParallelGames
from actors.practice import EVERY, LEAST, MOST, Practice, practises
from cluster.presets import cpu

ENV = cpu().env


class Moments:
    """A game that says which step its life is in."""

    def __init__(self) -> None:
        self.step = 0

    def keep(self) -> bytes:
        return str(self.step).encode()


def test_a_moment_is_of_the_lost_life_and_not_too_near_to_its_end() -> None:
    practice, game, rng = Practice([False, True], 4), Moments(), np.random.default_rng(0)
    assert practice.draw(rng) is None
    for length in (100, 60):
        for game.step in range(1, length + 1):
            practice.watch(0, game, lost=game.step == length)  # type: ignore[arg-type]
    drawn = {int(practice.draw(rng) or 0) for _ in range(400)}
    allowed = {step for length in (100, 60) for step in range(length - MOST, length - LEAST + 1) if step % EVERY == 0}
    assert drawn <= allowed and len(drawn) > len(allowed) / 2


def test_a_life_that_was_too_short_is_forgotten() -> None:
    practice, game = Practice([False, True], 4), Moments()
    for game.step in range(1, LEAST + 1):
        practice.watch(0, game, lost=game.step == LEAST)  # type: ignore[arg-type]
    assert practice.draw(np.random.default_rng(0)) is None


def test_as_many_games_practise_as_were_asked_for_wherever_they_are_played() -> None:
    for share in (0.0, 0.25, 0.5, 0.75):
        chosen = [practises(game, share) for game in range(32)]
        assert sum(chosen) == 32 * share
    assert [practises(game, 0.5) for game in range(4)] == [False, True, False, True]


def test_a_game_that_practises_begins_in_flight_and_ends_with_its_life() -> None:
    rng = np.random.default_rng(0)
    with closing(make_games(ENV, 2, seed=0, practice=0.5)) as games:
        arrived, before = games.reset(), np.zeros(2, bool)
        books, reports, begun, served, lengths, length = Episodes(2), [], 0, 0, [], 0
        fire = games.games[0].names.index("FIRE")
        books.take(arrived, policy_version=0)
        for _ in range(2000):
            arrived = games.step(rng.integers(0, 4, 2))
            step, mine = arrived.step, bool(arrived.practice[1])
            assert not arrived.practice[0] and (step.is_first == before).all()
            if mine and step.is_first[1]:
                begun, length = begun + 1, 0
                assert step.reward[1] == 0 and not arrived.is_last[1]
                assert (step.obs[1] > 0).any()
            elif mine:
                length += 1
                served += length == 1 and step.prev_action[1] == fire
                assert arrived.is_last[1] == arrived.life_lost[1]
                assert not arrived.is_last[1] or step.is_terminal[1]
                if arrived.is_last[1]:
                    lengths.append(length)
            reports += books.take(arrived, policy_version=0)
            before = arrived.is_last
    assert begun > 20 and served < begun / 2  # one in four at random: the ball flies already, nobody serves it
    # Random play saves few of these lives: most end as they did. One frame is played at the start.
    assert sum(LEAST - 1 <= length <= MOST for length in lengths) > 0.6 * len(lengths)
    by_game = [report.game for report in reports]
    assert by_game.count(0) > 3 and by_game.count(1) <= 1  # its first game, from before anything was lost


def test_without_practice_nothing_changes() -> None:
    def records(practice: float) -> list[bytes]:
        with closing(make_games(ENV, 2, seed=3, practice=practice)) as games:
            games.reset()
            return [games.step(np.array([n % 4, n % 3])).step.obs[0].tobytes() for n in range(300)]

    assert records(0.0) == records(0.5)  # the game that does not practise plays as ever


def test_several_processes_practise_too() -> None:
    rng = np.random.default_rng(1)
    with closing(ParallelGames(ENV, 4, 0, 2, practice=0.5)) as games:
        games.reset()
        practised = sum(games.step(rng.integers(0, 4, 4)).practice for _ in range(400))
    assert (practised > 0).tolist() == [False, True, False, True]


def test_games_that_cannot_be_set_back_are_played_as_ever() -> None:
    toy = EnvConfig(id="Toy/Count-v0", import_module="tests.actors.toy_games", sticky=0)
    with closing(make_games(toy, 2, 0, practice=0.5)) as games:
        games.reset()
        arrived = [games.step(np.ones(2, np.int64)) for _ in range(100)]
    assert any(one.is_last.all() for one in arrived) and not any(one.practice.any() for one in arrived)


def test_who_has_nobody_to_learn_from_plays_as_ever() -> None:
    rng = np.random.default_rng(2)
    with closing(ParallelGames(ENV, 2, 0, 2, practice=0.5)) as games:  # each process has one game
        games.reset()
        assert not any(games.step(rng.integers(0, 4, 2)).practice.any() for _ in range(400))
