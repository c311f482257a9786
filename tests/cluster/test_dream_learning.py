"""A dream is enough: a fresh behaviour learns Catch in the world model of a run, without a step of the game."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster import assemble
from tests.cluster.catching import CATCH, SHARE, play, train_until_learned
from tests.cluster.tiny import finish, start

MINUTES = 8
UPDATES = 1500


@pytest.mark.slow
@pytest.mark.timeout(MINUTES * 120 + 240)
def test_a_fresh_behaviour_learns_catch_in_a_dream(tmp_path: Path) -> None:
    awake, dreamt = tmp_path / "awake", tmp_path / "dreamt"
    learned = train_until_learned(CATCH, awake, 0, "--runtime", "inline", seconds=MINUTES * 60)
    assert learned.score >= SHARE * CATCH.best, learned
    options = ["dream", str(awake), "--run-dir", str(dreamt), "--seed", "1"]
    assert finish(start(*options, "--updates", "1"))[0] == 0
    fresh = float(sum(play(CATCH, dreamt).scores)) / CATCH.evaluated
    code, _, err = finish(start(*options, "--resume", "--updates", str(UPDATES)), seconds=MINUTES * 60)
    assert code == 0, err
    score = float(sum(play(CATCH, dreamt).scores)) / CATCH.evaluated
    print(learned, f"fresh {fresh}, after {UPDATES} updates in the dream {score}", err)
    assert fresh < 0.5 * CATCH.best and score >= SHARE * CATCH.best, (fresh, score)
    assert assemble.load(dreamt).checkpoint.policy_step == learned.policy_step
