"""The whole system learns: from nothing to 90 % of the best possible score, through the command line and every part."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster.catching import CATCH, SHARE, Learned, train_until_learned

SLOW = pytest.mark.slow
MINUTES = 8


def check(learned: Learned) -> None:
    print(learned)
    assert learned.score >= SHARE * CATCH.best, learned


@pytest.mark.timeout(MINUTES * 60 + 120)
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=SLOW), pytest.param(2, marks=SLOW)])
def test_one_process_learns_catch(tmp_path: Path, seed: int) -> None:
    check(train_until_learned(CATCH, tmp_path / "run", seed, "--runtime", "inline", seconds=MINUTES * 60))


# Other ways to get a policy, in sizes for one core. Not cma_es: no linear controller of this world model's [z, h] is
# known that plays Catch (docs/learning.md).
SYSTEMS = {
    "cem": "--behavior.name cem --behavior.cem-candidates 48 --behavior.cem-rounds 2 --behavior.cem-elites 6 "
    "--replay.replay-ratio 32",
    "mcts": "--behavior.name mcts --behavior.search-learning 8 --behavior.search-acting 0 "
    "--behavior.return-lambda 0.5 --behavior.entropy-scale 1e-3",
}


@SLOW
@pytest.mark.timeout(MINUTES * 60 + 120)
@pytest.mark.parametrize("system", SYSTEMS)
def test_planner_and_search_learn_catch(tmp_path: Path, system: str) -> None:
    """One seed: others have not been measured."""
    options = ("--runtime", "inline", *SYSTEMS[system].split())
    check(train_until_learned(CATCH, tmp_path / "run", 0, *options, seconds=MINUTES * 60))


@SLOW
@pytest.mark.timeout(MINUTES * 60 + 120)
def test_gaussian_latents_learn_catch(tmp_path: Path) -> None:
    gaussian = ("--runtime", "inline", "--model.latent", "gaussian")
    check(train_until_learned(CATCH, tmp_path / "run", 0, *gaussian, seconds=MINUTES * 60))


@SLOW
@pytest.mark.ray
@pytest.mark.reverb
@pytest.mark.timeout(MINUTES * 60 + 180)
def test_ray_and_reverb_learn_catch(tmp_path: Path) -> None:
    check(train_until_learned(CATCH, tmp_path / "run", 0, seconds=MINUTES * 60))
