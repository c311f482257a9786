"""Evaluation: which games count, and that nothing but the seed decides them."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
import torch

from actors.config import EnvConfig
from actors.env import make_games
from actors.episodes import EpisodeReport
from actors.rollout import Tick, play
from cluster.look.evaluate import Evaluation, count_games, evaluate, play_random, quotas, seeded, summary
from cluster.look.hazard import Hazard
from dreamer.agent import Agent
from dreamer.config import BehaviorConfig, ModelConfig

CPU = torch.device("cpu")
GAME = EnvConfig(id="BreakoutDeterministic-v4", time_limit=1000)  # random play loses five lives in about 200 steps
SHORT = replace(GAME, time_limit=20)


@pytest.fixture(scope="module")
def agent() -> Agent:
    model = ModelConfig(cnn_depth=4, deter=32, hidden=32, stoch=4, classes=4, head_layers=1, head_units=32)
    with seeded(0, CPU):
        return Agent(model, BehaviorConfig(layers=1, units=32, horizon=3), channels=1, num_actions=4)


def fake_ticks(ends: list[list[int]]):
    """Tick after tick; ends[t] lists the slots whose game ends there, with score t."""
    for t, slots in enumerate(ends):
        yield Tick(None, np.zeros(3, bool), 3, 0, [EpisodeReport(e, float(t), t, 0, 0.0) for e in slots])


@pytest.mark.parametrize(("episodes", "slots", "expected"), [(5, 2, [3, 2]), (4, 4, [1, 1, 1, 1]), (10, 3, [4, 3, 3])])
def test_games_are_shared_out_evenly(episodes, slots, expected):
    assert quotas(episodes, slots) == expected


def test_short_games_are_not_preferred():
    """Slot 1 is always ready first, but its later games do not crowd out the long ones of the others."""
    heard = []
    ends = [[1], [1], [1, 0], [1], [1, 2], [0], [0, 1, 2], [0]]
    games = count_games(fake_ticks(ends), [2, 1, 1], heard.append)
    assert [(g.game, g.score) for g in games] == [(0, 2.0), (0, 5.0), (1, 0.0), (2, 4.0)]
    assert heard == [1, 2, 3, 4]


def test_counts_and_time_limit(agent):
    heard = []
    result = evaluate(agent, SHORT, episodes=5, seed=1, max_parallel=2, progress=heard.append)
    assert result.lengths == [20] * 5
    assert len(result.scores) == 5
    assert heard == [1, 2, 3, 4, 5]
    assert result.seconds > 0


def test_fewer_games_than_slots(agent):
    assert len(evaluate(agent, SHORT, episodes=1, seed=1, max_parallel=16).scores) == 1


@pytest.mark.parametrize("sample", [True, False])
def test_same_seed_same_games(agent, sample):
    env = replace(GAME, time_limit=120)
    first, again, other = (evaluate(agent, env, episodes=3, seed=s, sample=sample, max_parallel=2) for s in (7, 7, 8))
    assert (first.scores, first.lengths) == (again.scores, again.lengths)
    assert (first.scores, first.lengths) != (other.scores, other.lengths) or not sample


def test_callers_chance_is_untouched(agent):
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    evaluate(agent, SHORT, episodes=1, seed=1)
    play_random(SHORT, episodes=1, seed=1)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_callers_chance_on_a_gpu_is_untouched():
    gpu = torch.device("cuda", 0)
    before = torch.cuda.get_rng_state(gpu)
    first, again = (seeded_draws(gpu) for _ in range(2))
    assert torch.equal(first, again)
    assert torch.equal(torch.cuda.get_rng_state(gpu), before)


def seeded_draws(device: torch.device) -> torch.Tensor:
    with seeded(5, device):
        return torch.rand(4, device=device)


def test_score_is_the_sum_over_all_lives(agent):
    """With life_loss on, a game is cut into lives by is_terminal; evaluation counts the whole game all the same."""
    config = replace(GAME, life_loss=True)
    result = evaluate(agent, config, episodes=1, seed=3)
    lives = [0.0]
    with seeded(3, CPU), closing(make_games(config, 1, 3)) as games:
        for tick in play(games, agent, refresh=lambda: 0, rng=np.random.default_rng(3)):
            lives[-1] += float(tick.step.reward[0])
            if tick.is_last[0]:
                break
            if tick.step.is_terminal[0]:
                lives.append(0.0)
    assert len(lives) == 5
    assert result.scores == [sum(lives)]
    assert result.hazards[0].lives == 5  # told without its being an end
    assert evaluate(agent, GAME, episodes=1, seed=3)[:2] == result[:2]


def test_random_baseline_is_played_in_the_same_way():
    first, again = (play_random(SHORT, episodes=3, seed=4) for _ in range(2))
    assert first.lengths == [20] * 3
    assert first[:2] == again[:2]


def test_random_baseline_plays_full_games():
    full = play_random(GAME, episodes=2, seed=4)
    assert all(100 < length < 1000 for length in full.lengths)  # five lives are lost, not one


def test_summary_is_what_scripts_rely_on():
    played = Evaluation([1.0, 3.0], [100, 201], 5.0, [Hazard(0, 10, 0.25)])
    random = Evaluation([0.0, 2.0, 1.0], [90, 90, 90], 4.0)
    env = EnvConfig(frame_skip=4, sticky=0.1, perturb="noop")
    checkpoint = {"update": 12, "policy_step": 3400, "path": "anything else that the caller knows"}
    told = summary(played, random, checkpoint=checkpoint, env=env, behavior=BehaviorConfig())
    assert json.loads(json.dumps(told)) == {
        "scores": [1.0, 3.0],
        "mean": 2.0,
        "std": 1.0,
        "min": 1.0,
        "max": 3.0,
        "lengths": [100, 201],
        "frames": 1204,
        "perturb": "noop",
        "sticky": 0.1,
        "behavior": "actor_critic",
        "checkpoint": {"update": 12, "policy_step": 3400},
        "random": {"mean": 1.0, "std": pytest.approx(0.8165, abs=1e-4), "episodes": 3},
        "hazard": [{"rewards": 0, "lives": 10, "lost": 0.25}],
    }


def test_one_game_has_a_spread_of_zero():
    one = Evaluation([5.0], [10], 1.0)
    told = summary(one, one, checkpoint={"update": 0, "policy_step": 0}, env=EnvConfig(), behavior=BehaviorConfig())
    assert told["std"] == 0.0
