"""The comparison of behaviours on one world model: what it measures is what it says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from cluster.assemble import load
from cluster.cli import main as command_line
from cluster.look.evaluate import MAX_PARALLEL
from tests import family
from tests.cluster.tiny import train_options


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("family") / "run"
    assert command_line(train_options(path, "--runtime", "inline", "--updates", "2")) == 0
    return path


def test_what_is_kept_are_the_rewards_after_the_state_that_was_asked(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Games that pay t at step t: after t come t+1 ... t+10, up to a lost life; the state that ends it is not asked."""
    agent, config, _ = load(run)
    made = family.make_games

    def paying(*how):
        games = made(*how)
        step, steps = games.step, iter(range(10_000))  # the reset takes the first

        def pays(actions):
            t, arrived = next(steps), step(actions)
            ends = np.full(MAX_PARALLEL, t in (22, 40))  # the second on arriving 10 steps after the second question
            reward = np.full(MAX_PARALLEL, float(t), np.float32)
            return arrived._replace(step=arrived.step._replace(reward=reward, is_terminal=ends))

        games.step = pays
        return games

    monkeypatch.setattr(family, "make_games", paying)
    monkeypatch.setattr(family, "dreamt", lambda agent, state: torch.full((MAX_PARALLEL,), 5.0))
    monkeypatch.setattr(family, "LAST", 41)  # asked at 20 and at 30; at 40 a life has ended
    found = family.promise(agent, config.env, gamma=0.5, seed=0)
    first = 21 + 0.5 * 22
    second = sum(0.5 ** (n - 1) * (30 + n) for n in range(1, 11))
    assert found.promised == 5.0 and found.kept == pytest.approx((first + second) / 2)


def test_unknown_rows_are_refused(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["family", str(tmp_path), str(run), "--only", "magic"])
    with pytest.raises(SystemExit):
        family.main()


@pytest.mark.slow
def test_a_table_of_what_learns_and_what_does_not(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["the run's own actor", "PPO in dreams", "the same, search of 8 (MuZero)"]
    rest = ["--minutes", "0.05", "--games", "1", "--only", *names]
    monkeypatch.setattr("sys.argv", ["family", str(tmp_path), str(run), *rest])
    family.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" | ")[0].strip("| ") for line in lines[2:]] == names
    own, ppo, search = (line.split(" | ") for line in lines[2:])
    assert own[1] == "-" and int(ppo[1].replace(",", "")) > 0
    assert (own[3], ppo[3], search[3]) == ("0", "0", "8")
