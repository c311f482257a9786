"""The rollout loop: what it yields, when it acts at random, and that a reset erases the policy's memory."""

from __future__ import annotations

from dataclasses import replace
from itertools import count, islice, pairwise

import numpy as np
import pytest
import torch

from actors import episodes
from actors.config import EnvConfig
from actors.env import Games, make_games
from actors.exploration import Explorer
from actors.interface import Arrived
from actors.rollout import Tick, play
from dreamer.agent import Agent
from dreamer.types import NO_CLASS, State
from tests.dreamer.tiny import BEHAVIOR, MODEL

ENV = EnvConfig(id="BreakoutDeterministic-v4", time_limit=30, noop_max=5)


@pytest.fixture
def games() -> Games:
    return make_games(ENV, num=3, seed=0)


def make_agent() -> Agent:
    torch.manual_seed(0)
    return Agent(MODEL, BEHAVIOR, channels=1, num_actions=4)


def roll(games: Games, agent: Agent, number: int, *, version: int = 0, states: bool = False) -> list[Tick]:
    rng = np.random.default_rng(1)
    return list(islice(play(games, agent, refresh=lambda: version, states=states, rng=rng), number))


def test_every_tick_has_one_record_of_every_game(games: Games) -> None:
    ticks = roll(games, make_agent(), 70)
    for tick in ticks:
        assert tick.step.obs.shape == (3, 64, 64, 1) and tick.is_last.shape == (3,)
        assert tick.played == 3 - tick.step.is_first.sum()  # a reset is not a policy step
    assert ticks[0].step.is_first.all()
    for before, after in pairwise(ticks):
        np.testing.assert_array_equal(after.step.is_first, before.is_last)


def test_an_episode_report_adds_up_raw_rewards_and_steps(games: Games, monkeypatch: pytest.MonkeyPatch) -> None:
    receive, rng = games.receive, np.random.default_rng(0)

    def pay() -> Arrived:
        """Thirty steps of Breakout bring hardly a point; these bring -1 to 7 each."""
        arrived = receive()
        reward = rng.integers(-1, 8, 3).astype(np.float32) * ~arrived.step.is_first
        return arrived._replace(step=arrived.step._replace(reward=reward))

    monkeypatch.setattr(games, "receive", pay)
    ticks = roll(games, make_agent(), 100)
    for game in range(3):
        score, length, expected = 0.0, 0, []
        for tick in ticks:
            first = tick.step.is_first[game]
            score, length = (0.0, 0) if first else (score + tick.step.reward[game], length + 1)
            if tick.is_last[game]:
                expected.append((score, length))
        found = [(e.score, e.length) for tick in ticks for e in tick.episodes if e.game == game]
        assert found == expected and len({score for score, _ in found}) >= 3
        assert all(length <= 30 for _, length in found)


def test_an_episode_report_names_the_policy_that_finished_the_game_and_the_seconds_since_its_start(
    games: Games, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions, clock = count(5), count()
    monkeypatch.setattr(episodes.time, "monotonic", lambda: next(clock))  # at each look a second is over
    rng = np.random.default_rng(1)
    ticks = list(islice(play(games, make_agent(), refresh=lambda: next(versions), rng=rng), 100))
    reports = [(tick, report) for tick in ticks for report in tick.episodes]
    assert len(reports) >= 9
    for tick, report in reports:
        assert report.policy_version == tick.policy_version
        assert report.length < report.seconds < 2 * report.length  # a look per tick, and one per game that ended


def test_play_is_random_until_there_are_weights(games: Games, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = make_agent()
    monkeypatch.setattr(agent, "policy_step", lambda *a, **k: pytest.fail("the policy was asked"))
    ticks = roll(games, agent, 40, version=-1)
    actions = np.concatenate([tick.step.prev_action for tick in ticks[1:]])
    assert set(actions) == {0, 1, 2, 3}
    assert all(tick.policy_version == -1 for tick in ticks)


def test_new_weights_are_used_at_the_next_step_and_their_version_is_recorded(games: Games) -> None:
    versions = iter([-1, -1, 7, 7, 9, 11])
    ticks = list(islice(play(games, make_agent(), refresh=lambda: next(versions), rng=np.random.default_rng(0)), 6))
    # A tick carries the version of the policy that chose the actions which led to it; the next ones are chosen already.
    assert [tick.policy_version for tick in ticks] == [-1, -1, -1, 7, 7, 9]


def test_the_games_step_while_the_consumer_works(games: Games, monkeypatch: pytest.MonkeyPatch) -> None:
    """Actions are sent before the tick is handed out, and fetched when the next one is asked for."""
    order: list[str] = []
    send, receive = games.send, games.receive
    monkeypatch.setattr(games, "send", lambda actions: (order.append("send"), send(actions))[1])
    monkeypatch.setattr(games, "receive", lambda: (order.append("receive"), receive())[1])
    for _ in islice(play(games, make_agent(), refresh=lambda: -1, rng=np.random.default_rng(0)), 3):
        order.append("consumer")
    assert order == ["send", "receive"] + ["send", "consumer", "receive"] * 2 + ["send", "consumer"]  # first: reset


def test_games_left_in_the_middle_of_a_step_start_anew(games: Games) -> None:
    agent = make_agent()
    for _ in range(2):
        ticks = roll(games, agent, 3)
        assert ticks[0].step.is_first.all() and not ticks[1].step.is_first.any()
    games.close()


def test_the_policy_sees_the_record_of_a_reset_as_a_first_one(games: Games, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = make_agent()
    observe_step = agent.world.rssm.observe_step
    seen: list[np.ndarray] = []

    def spy(prev: State, action: torch.Tensor, is_first: torch.Tensor, embed: torch.Tensor):
        seen.append(is_first.numpy())
        return observe_step(prev, action, is_first, embed)

    monkeypatch.setattr(agent.world.rssm, "observe_step", spy)
    ticks = roll(games, agent, 70)
    np.testing.assert_array_equal(np.array(seen), [tick.step.is_first for tick in ticks[: len(seen)]])
    assert np.array(seen)[1:].any()


def test_a_tick_says_in_which_state_the_policy_met_it(games: Games, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = make_agent()
    policy_step, met = agent.policy_step, []

    def spy(state: State, *inputs: torch.Tensor, sample: bool):
        met.append(state)
        return policy_step(state, *inputs, sample=sample)

    monkeypatch.setattr(agent, "policy_step", spy)
    ticks = roll(games, agent, 50, states=True)
    for tick, state in zip(ticks, met, strict=True):
        assert tick.prev.prev_h.dtype == np.float16 and tick.prev.prev_z.dtype == np.uint8
        h, z = state.pack()
        np.testing.assert_array_equal(tick.prev.prev_h, h.numpy())
        np.testing.assert_array_equal(tick.prev.prev_z, z.numpy())
    assert not ticks[0].prev.prev_h.any() and (ticks[0].prev.prev_z == NO_CLASS).all()
    assert ticks[2].prev.prev_h.any() and (ticks[2].prev.prev_z < MODEL.classes).all()


def test_random_play_is_in_the_zero_state(games: Games) -> None:
    versions = iter([-1, -1, 3, 3, 3])
    agent, rng = make_agent(), np.random.default_rng(0)
    ticks = list(islice(play(games, agent, refresh=lambda: next(versions), states=True, rng=rng), 5))
    assert [bool(tick.prev.prev_h.any()) for tick in ticks] == [False, False, False, True, True]
    assert [bool((tick.prev.prev_z == NO_CLASS).all()) for tick in ticks] == [True, True, True, False, False]


def test_asking_for_states_changes_nothing_else(games: Games) -> None:
    def run(states: bool) -> list[Tick]:
        agent = make_agent()
        return roll(make_games(ENV, num=3, seed=0), agent, 40, states=states)

    for without, with_states in zip(run(False), run(True), strict=True):
        for a, b in zip(without.step, with_states.step, strict=True):
            np.testing.assert_array_equal(a, b)
        assert [field.shape for field in without.prev] == [(3, 0), (3, 0)]
        assert [field.shape for field in with_states.prev] == [(3, MODEL.deter), (3, MODEL.stoch)]


def test_the_same_seeds_play_the_same_games() -> None:
    def run() -> list[Tick]:
        agent = make_agent()
        return roll(make_games(ENV, num=2, seed=3), agent, 60)

    for a, b in zip(run(), run(), strict=True):
        for x, y in zip(a.step, b.step, strict=True):
            np.testing.assert_array_equal(x, y)


def test_taking_the_most_probable_action_draws_nothing_of_the_action(games: Games) -> None:
    agent = make_agent()
    with torch.no_grad():
        agent.behavior.actor.out.bias.copy_(torch.tensor([0.0, 50.0, 0.0, 0.0]))
    ticks = list(islice(play(games, agent, refresh=lambda: 0, sample=False, rng=np.random.default_rng(0)), 20))
    assert all((t.step.prev_action[~t.step.is_first] == 1).all() for t in ticks)


def test_a_game_acts_at_random_as_often_as_its_epsilon_says(games: Games) -> None:
    agent = make_agent()
    with torch.no_grad():
        agent.behavior.actor.out.bias.copy_(torch.tensor([0.0, 0.0, 50.0, 0.0]))  # the policy always says 2
    rng = np.random.default_rng(0)
    explorer = Explorer(np.array([0.0, 1.0, 0.4]), num_actions=4, rng=rng)
    ticks = list(islice(play(games, agent, refresh=lambda: 0, explorer=explorer, rng=rng), 600))
    steps = [tick.step for tick in ticks]
    played = [np.array([s.prev_action[game] for s in steps if not s.is_first[game]]) for game in range(3)]
    assert (played[0] == 2).all()
    np.testing.assert_allclose(np.bincount(played[1], minlength=4) / len(played[1]), 0.25, atol=0.06)
    np.testing.assert_allclose(np.bincount(played[2], minlength=4) / len(played[2]), [0.1, 0.1, 0.7, 0.1], atol=0.06)


def test_without_exploration_nothing_is_drawn_from_the_generator(games: Games) -> None:
    rng = np.random.default_rng(0)
    list(islice(play(games, make_agent(), refresh=lambda: 0, rng=rng), 20))
    assert rng.bit_generator.state == np.random.default_rng(0).bit_generator.state


def test_a_report_tells_how_often_each_life_was_rewarded() -> None:
    """Breakout under the rules of a real game: five lives, told by the emulator and not by ends."""
    games = make_games(replace(ENV, time_limit=1000, life_loss=False), num=2, seed=0)
    ale, won, lost, seen = games.games[0].ale, [0], 0, []
    before = ale.lives()
    rng = np.random.default_rng(1)
    for tick in play(games, make_agent(), refresh=lambda: -1, rng=rng):
        won[-1] += int(tick.step.reward[0] > 0)
        if not tick.step.is_first[0] and ale.lives() < before:
            lost += 1
            won.append(0)
        before = ale.lives()
        if tick.is_last[0]:
            seen.append((tuple(won[:-1]), lost))
            (report,) = [e for e in tick.episodes if e.game == 0]
            assert (report.lives, report.lost) == seen[-1] and len(report.lives) == 5
            won, lost = [0], 0
        if len(seen) == 3:
            break
    assert sum(sum(lives) for lives, _ in seen) > 0


def test_the_life_that_a_limit_ends_is_not_lost() -> None:
    games = make_games(replace(ENV, time_limit=12), num=1, seed=0)  # too short for losing one
    reports = [e for tick in roll(games, make_agent(), 40) for e in tick.episodes]
    assert len(reports) >= 3 and all(len(e.lives) == 1 and e.lost == 0 for e in reports)
