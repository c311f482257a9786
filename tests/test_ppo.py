"""The comparison without a world model counts what it says that it counts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("stable_baselines3", reason="pip install stable-baselines3")

from actors.env import make_games
from tests.ppo import PICTURES, Steps, main


def test_an_episode_is_a_life_and_a_score_is_a_whole_game() -> None:
    whole: list[tuple[float, int]] = []
    steps = Steps(make_games(PICTURES["cpu"], 2, seed=0), lambda score, length: whole.append((score, length)))
    steps.reset()
    lives, rewards, rng = 0, 0.0, np.random.default_rng(0)
    for _ in range(2000):
        obs, reward, done, told = steps.step(rng.integers(0, 4, 2))
        lives += int(done.sum())
        rewards += float(reward.sum())
        assert obs.shape == (2, 40, 40, 1) and set(reward) <= {0.0, 1.0}
        assert all(not one["TimeLimit.truncated"] for one in told)
    assert len(whole) > 4 and abs(lives - 5 * len(whole)) < 10
    assert sum(score for score, _ in whole) > 0 and abs(sum(length for _, length in whole) - 4000) < 1000
    assert rewards <= sum(score for score, _ in whole) + 50
    steps.close()


@pytest.mark.slow
def test_it_trains_and_plays(tmp_path: Path) -> None:
    # Half a minute: six seconds beside another test were 129 steps of each game, and no game was over.
    assert main([str(tmp_path), "--minutes", "0.5", "--pictures", "cpu", "--episodes", "3", "--workers", "0"]) == 0
    result = json.loads((tmp_path / "result.json").read_text())
    assert len(result["scores"]) == 3 and result["policy_steps"] > 500
    games = [json.loads(line) for line in (tmp_path / "episodes.jsonl").read_text().splitlines()]
    assert games and {"seconds", "policy_step", "score", "length"} <= set(games[0])
