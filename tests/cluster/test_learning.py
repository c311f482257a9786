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
