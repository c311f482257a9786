"""A page's dream goes on from what it was given, and the game beside it is the real one from the same moment."""

from __future__ import annotations

from base64 import b64decode
from contextlib import closing
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from actors.config import EnvConfig
from cluster.assemble import make_agent
from cluster.play import starts
from cluster.play.session import HOTTEST, Act, Begin, Session, balls, understand
from cluster.play.starts import APART, SETTLED, STARTS, about, check_policy, find_starts, first_frames
from cluster.presets import cpu
from dreamer.agent import Agent
from dreamer.types import State
from replay.errors import UserError
from replay.experience import EnvSpec
from tests.cluster.play.conftest import Shipped
from tests.dreamer.tiny import BEHAVIOR, GAUSSIAN, MODEL

LEFT, RIGHT = 3, 2  # Breakout's actions


def pixels(frame: dict) -> np.ndarray:
    return np.frombuffer(b64decode(frame["picture"]), np.uint8).reshape(40, 40, 1)


# --- What may be asked ---


def test_a_page_may_ask_for_a_start_and_for_a_step() -> None:
    assert understand('{"start": 3}', starts=4, actions=2) == Begin(3)
    assert understand('{"action": 1, "temperature": 0.5}', starts=4, actions=2) == Act(1, 0.5)
    assert understand('{"action": 0, "temperature": 2}', starts=4, actions=2) == Act(0, 2.0)


@pytest.mark.parametrize(
    "text",
    [
        '{"start": 4}',
        '{"start": -1}',
        '{"start": "0"}',
        '{"start": 1.0}',
        '{"start": 0, "path": "x"}',
        '{"action": 2, "temperature": 1}',
        '{"action": 0, "temperature": -0.1}',
        f'{{"action": 0, "temperature": {HOTTEST + 0.1}}}',
        '{"action": 0, "temperature": NaN}',
        '{"action": 0}',
        "[]",
        "null",
        "",
        "{",
        "[" * 150,
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        understand(text, starts=4, actions=2)


# --- Where dreams begin ---


def test_starts_are_moments_of_real_games(shipped: Shipped) -> None:
    assert len(shipped.starts) == STARTS
    assert len({start.picture.tobytes() for start in shipped.starts}) == STARTS
    for start in shipped.starts:
        assert start.picture.dtype == np.uint8 and start.picture.shape == (40, 40, 1)
        assert start.kept is not None and start.kept.steps[0] >= SETTLED and not start.kept.ended[0]
    steps = [start.kept.steps[0] for start in shipped.starts if start.kept]
    assert all(later - sooner >= APART for sooner, later in pairwise(steps) if later > sooner)  # else a new game


def test_short_games_are_begun_early_and_those_that_are_over_at_once_are_refused(
    shipped: Shipped, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(starts, "PATIENCE", 100)
    found = find_starts(shipped.agent, replace(shipped.env, time_limit=5), seed=0)
    assert found and all(start.kept and 1 <= start.kept.steps[0] < 5 for start in found)
    with pytest.raises(UserError, match="before a dream can begin"):
        find_starts(shipped.agent, replace(shipped.env, time_limit=1), seed=0)


def test_an_agent_that_has_learned_nothing_can_be_played_in(shipped: Shipped, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starts, "STARTS", 1)
    config = cpu()
    agent = make_agent(config, EnvSpec((config.env.size, config.env.size, 1), 4)).eval()
    found = find_starts(agent, config.env, seed=0)
    with closing(Session(agent, config.env, found, seed=0)) as session:
        frame = session.answer(Act(0, 1.0))
    assert len(pixels(frame)) == 40 and sum(frame["policy"]) == pytest.approx(1, abs=1e-3)


def test_latents_without_classes_are_refused() -> None:
    with pytest.raises(UserError, match=r"this run's latents are gaussian: take a RUN with model\.latent categorical"):
        check_policy(Agent(GAUSSIAN, BEHAVIOR, channels=1, num_actions=4))


def test_a_behaviour_without_actor_and_critic_is_refused(shipped: Shipped) -> None:
    class Planner:
        behavior = object()

    check_policy(shipped.agent)
    check_policy(Agent(MODEL, replace(BEHAVIOR, name="mcts"), channels=1, num_actions=4))  # it has both
    planner: Agent = Planner()  # type: ignore[assignment]
    with pytest.raises(UserError, match="has none"):
        check_policy(planner)


def test_a_page_without_python_gets_the_same_first_frames(shipped: Shipped) -> None:
    first = first_frames(shipped.agent, shipped.starts)
    with closing(shipped.session()) as session:
        for number, (start, mine) in enumerate(zip(shipped.starts, first, strict=True)):
            frame = session.answer(Begin(number))
            assert mine["frame"] == {name: value for name, value in frame.items() if name != "real"}
            for name, told in (("h", mine["h"]), ("z", mine["z"])):
                wanted = getattr(start.state, name)
                found = np.frombuffer(b64decode(told), "<f4").reshape(wanted.shape)
                assert torch.equal(torch.from_numpy(found.copy()), wanted)


def test_what_the_page_must_know_is_the_games(shipped: Shipped) -> None:
    told = about(shipped.agent, shipped.env, shipped.starts, update=5, live=False)
    assert told["actions"] == ["NOOP", "FIRE", "RIGHT", "LEFT"] and told["serve"] == 1
    assert told["rate"] == 15 and told["shape"] == [40, 40, 1] and told["game"] == "Breakout"
    free = about(shipped.agent, replace(shipped.env, auto_fire=False), shipped.starts, update=5, live=False)
    assert free["serve"] == -1


# --- The dream ---


def test_a_dream_follows_the_actions(shipped: Shipped) -> None:
    """The paddle, the white block at the bottom, is where the arrow has sent it."""
    columns = {}
    with closing(shipped.session()) as session:
        for name, action in (("left", LEFT), ("right", RIGHT)):
            session.answer(Begin(4))
            for _ in range(8):
                frame = session.answer(Act(action, 0.5))
            paddle = pixels(frame)[38, 2:38, 0] > 128
            columns[name] = float(np.flatnonzero(paddle).mean())
    assert columns["left"] < 10 < 25 < columns["right"], columns


def test_dreams_of_one_seed_are_alike_and_of_another_are_not(shipped: Shipped) -> None:
    def dreamt(seed: int) -> list:
        with closing(shipped.session(seed)) as session:
            session.answer(Begin(5))
            return [session.answer(Act(0, 1.0))["picture"] for _ in range(10)]

    assert dreamt(1) == dreamt(1) != dreamt(2)


def test_steps_are_counted_from_the_last_real_picture(shipped: Shipped) -> None:
    with closing(shipped.session()) as session:
        assert [session.answer(Act(0, 1.0))["steps"] for _ in range(3)] == [1, 2, 3]
        assert session.answer(Begin(1))["steps"] == 0
        assert session.answer(Act(0, 1.0))["steps"] == 1


# --- Reality beside it ---


def test_the_game_beside_it_is_the_real_one(shipped: Shipped) -> None:
    """What the emulator shows after a start is what it showed when the agent's own game went on from there."""
    actions = [LEFT, LEFT, 0, RIGHT, 0, 0, RIGHT, RIGHT, LEFT, 0] * 4
    with closing(shipped.session(1)) as one, closing(shipped.session(2)) as other:
        for session in (one, other):
            session.answer(Begin(7))
        shown = [one.answer(Act(action, 1.0))["real"] for action in actions]
        one.answer(Begin(3))
        again = [other.answer(Act(action, 0.0))["real"] for action in actions]
        one.answer(Begin(7))
        back = [one.answer(Act(action, 1.0))["real"] for action in actions]
    for key in ("picture", "score", "life_lost", "over", "real_ball"):
        assert [real[key] for real in shown] == [real[key] for real in again] == [real[key] for real in back]
    assert len({real["picture"] for real in shown}) > 10


def test_a_game_that_is_over_stays_so(shipped: Shipped) -> None:
    with closing(shipped.session()) as session:
        session.answer(Begin(11))
        frames = [session.answer(Act(0, 1.0)) for _ in range(400)]  # five lives are lost without a hand
    ended = next(n for n, frame in enumerate(frames) if frame["real"]["over"])
    assert sum(frame["real"]["life_lost"] for frame in frames[: ended + 1]) >= 1
    assert all("real" not in frame for frame in frames[ended + 1 :])


def test_without_an_emulator_there_is_the_dream_alone(shipped: Shipped) -> None:
    lonely = shipped._replace(starts=[start._replace(kept=None) for start in shipped.starts])
    with closing(lonely.session()) as session:
        assert "real" not in session.answer(Begin(2)) and "real" not in session.answer(Act(0, 1.0))


def test_balls_are_found_and_measured() -> None:
    env = EnvConfig(id="ALE/Breakout-v5", size=40, crop=(34, 16, 0, 0))
    real, dreamt = np.zeros((2, 40, 40, 1), np.uint8)
    assert balls(real, dreamt, env) == {"real_ball": None, "dream_ball": None, "distance": None}
    real[25, 10] = 255
    assert balls(real, dreamt, env) == {"real_ball": [25, 10], "dream_ball": None, "distance": None}
    dreamt[28, 14] = 200
    assert balls(real, dreamt, env) == {"real_ball": [25, 10], "dream_ball": [28, 14], "distance": 5.0}
    dreamt[28, 14] = 100  # less than half as bright as a ball
    assert balls(real, dreamt, env)["dream_ball"] is None
    assert balls(real, dreamt, replace(env, id="ALE/Pong-v5")) == {}


def test_a_state_is_not_changed_by_who_dreams_from_it(shipped: Shipped) -> None:
    before = State(*(part.clone() for part in shipped.starts[0].state))
    with closing(shipped.session()) as session:
        session.answer(Begin(0))
        session.answer(Act(1, 1.0))
    assert all(torch.equal(a, b) for a, b in zip(before, shipped.starts[0].state, strict=True))
