"""The emulator's memory is set as it says, and nothing of the game before it counts."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from actors.config import EnvConfig
from actors.env import make_games
from cluster.assemble import load
from cluster.look import counterfactual
from cluster.look.counterfactual import (
    BALL_DX,
    BALL_DY,
    BALL_X,
    BALL_Y,
    WALL,
    Altered,
    counterfactual_report,
)
from cluster.look.windows import AHEAD, CONTEXT, play_windows
from cluster.presets import cpu
from replay.errors import UserError

SHIPPED = Path(__file__).parents[3] / "deploy" / "agents" / "breakout-cpu"
LENGTH = CONTEXT + AHEAD


def test_bricks_and_ball_are_changed_and_a_new_game_begins_there() -> None:
    with closing(Altered(make_games(cpu().env, 2, seed=0), np.random.default_rng(0))) as games:
        games.reset()
        before, seen = games.games.games[0].ale.getRAM().copy(), []
        for number in range(2 * LENGTH + 1):
            arrived = games.step(np.full(2, number % 4))
            first = bool(arrived.step.is_first[0])
            assert first == (number in (LENGTH, 2 * LENGTH))  # not at 0: the wall is still being built
            if first:
                ram = games.games.games[0].ale.getRAM()
                seen.append((bytes(ram[:36]), arrived.step.obs[0]))
        assert bytes(before[:36]) == bytes(WALL)
    (one, picture), (other, another) = seen
    assert one != other and (picture != another).any()
    assert all(stands & ~all_stand == 0 for stands, all_stand in zip(one, WALL, strict=True))
    assert 0.3 < sum(byte.bit_count() for byte in one) / sum(byte.bit_count() for byte in WALL) < 0.7


def test_the_ball_flies_as_it_was_told_and_the_bricks_stay() -> None:
    with closing(make_games(cpu().env, 1, seed=0)) as games:
        games.reset()
        for _ in range(60):
            games.step(np.zeros(1, np.int64))
        emulator, rng = games.games[0].ale, np.random.default_rng(3)
        assert counterfactual.alter(games.games[0], rng)
        told = emulator.getRAM().copy()
        games.step(np.zeros(1, np.int64))
        now = emulator.getRAM()
        down, right = (int(np.int8(now[address] - told[address])) for address in (BALL_Y, BALL_X))
        assert (down, -right) == tuple(4 * int(np.int8(told[address])) for address in (BALL_DY, BALL_DX))
        assert bytes(now[:36]) == bytes(told[:36]) != bytes(WALL)


def test_windows_are_whole_and_the_shipped_agent_is_judged() -> None:
    loaded = load(SHIPPED)
    with torch.no_grad():
        windows = play_windows(loaded.agent, loaded.config.env, windows=10, seed=0, through=Altered)
    assert windows.obs.shape[:2] == (LENGTH, 10)
    assert windows.is_first[0].all() and not windows.is_first[1:].any()
    found = counterfactual_report(loaded.agent, loaded.config.env, windows=10, seed=0)
    assert found == counterfactual_report(loaded.agent, loaded.config.env, windows=10, seed=0)
    assert 0 < found["ball_recall"] <= 1 and "ball_recall_15_ahead" in found


def test_another_game_is_refused() -> None:
    loaded = load(SHIPPED)
    other = replace(EnvConfig(), id="ALE/Pong-v5")
    with pytest.raises(UserError, match="memory of Breakout, and this is ALE/Pong-v5"):
        counterfactual_report(loaded.agent, other, windows=1, seed=0)
