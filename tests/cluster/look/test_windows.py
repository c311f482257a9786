"""The windows by which a world model is judged are what they say that they are."""

from __future__ import annotations

from contextlib import closing

import numpy as np

from actors.env import make_games
from cluster.assemble import env_spec, make_agent
from cluster.look.windows import AHEAD, CONTEXT, HOLD, Wandering, play_windows
from cluster.look.world_report import world_report
from cluster.presets import cpu

LENGTH = CONTEXT + AHEAD


def test_chance_acts_after_the_context_and_holds_what_it_does() -> None:
    with closing(Wandering(make_games(cpu().env, 8, seed=0), np.random.default_rng(0))) as games:
        games.reset()
        fire = games.games.games[0].names.index("FIRE")
        steps = [games.step(np.zeros(8, np.int64)).step for _ in range(4 * LENGTH)]
    acted = np.stack([step.prev_action for step in steps]).reshape(4, LENGTH, 8)
    first = np.stack([step.is_first for step in steps]).reshape(4, LENGTH, 8)
    assert first[:, 0].all()
    assert set(np.unique(acted[:, :CONTEXT])) <= {0, fire}  # the policy's, and balls that are served
    by_chance = acted[:, CONTEXT:]
    assert {*np.unique(by_chance)} == {0, 1, 2, 3}
    assert (by_chance[:, 1:] == by_chance[:, :-1]).mean() > 1 - 2 / (1 + HOLD)  # one drawn anew each step: a quarter


def test_the_record_has_the_actions_of_chance_and_balls_are_judged_under_them() -> None:
    config = cpu()
    agent = make_agent(config, env_spec(config))
    windows = play_windows(agent, config.env, windows=16, seed=0, through=Wandering)
    assert windows.obs.shape[:2] == (LENGTH, 16)
    assert windows.is_first[0].all() and not windows.is_first[1:].any()
    late = windows.prev_action[CONTEXT:]
    assert late.unique().tolist() == [0, 1, 2, 3] and (late[1:] == late[:-1]).float().mean() > 0.6
    found = world_report(agent, config.env, windows=8, seed=0)
    assert found["windows_random"] == 8
    assert {f"ball_recall_{ahead}_ahead_random" for ahead in (1, 5, 15)} <= set(found)
