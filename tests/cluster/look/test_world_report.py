"""What `evaluate --world-model` says, on made-up pictures and on real games."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from actors.rollout import Tick
from cluster.assemble import env_spec, make_agent
from cluster.look.windows import AHEAD, CONTEXT, cut_windows, play_windows
from cluster.look.world_report import (
    ball_region,
    brightest_spot,
    by_speed,
    error,
    flying_speed,
    hits,
    judge,
    kinds_table,
    world_report,
)
from cluster.presets import cpu, paper
from dreamer.types import Batch, State
from replay.errors import UserError
from replay.experience import Step

LENGTH = CONTEXT + AHEAD


def ticks(length: int, starts: dict[int, list[int]]):
    """Two games of one gray level per step; `starts` says at which ticks each begins anew."""
    for t in range(length):
        is_first = np.array([t in starts[game] for game in (0, 1)])
        obs = np.full((2, 8, 8, 1), t % 256, np.uint8)
        zeros = np.zeros(2)
        step = Step(obs, zeros.astype(np.int32), zeros.astype(np.float32), is_first, zeros.astype(bool))
        yield Tick(step, zeros.astype(bool), 2, 0, [])


def test_windows_are_of_one_game_and_begin_as_if_from_nothing() -> None:
    found = list(cut_windows(ticks(3 * LENGTH, {0: [0], 1: [0, 10]})))
    begins = [int(window.obs[0, 0, 0, 0]) for window in found]
    assert begins == [0, 10, LENGTH, LENGTH + 10, 2 * LENGTH]
    for window in found:
        assert len(window.obs) == LENGTH
        assert window.is_first.tolist() == [True] + [False] * (LENGTH - 1)


def test_games_that_are_too_short_are_not_played_for_ever() -> None:
    every = list(range(0, 10_000, LENGTH - 1))
    with pytest.raises(UserError, match="over within 30 steps"):
        list(cut_windows(ticks(10_000, {0: every, 1: every})))


def test_the_ball_is_looked_for_between_bricks_paddle_and_walls() -> None:
    assert ball_region(paper().env) == (slice(29, 57), slice(4, 60))
    assert ball_region(cpu().env) == (slice(15, 38), slice(2, 38))
    assert ball_region(replace(cpu().env, id="ALE/Pong-v5")) is None


def test_the_brightest_spot_is_the_middle_of_the_ball_or_nothing() -> None:
    light = torch.zeros(3, 1, 10, 12)
    light[0, 0, 4:6, 7] = 1.0
    light[1, 0, 2, 3] = 0.2
    spot = brightest_spot(light, least=torch.tensor(0.1))
    torch.testing.assert_close(spot[0, 0], torch.tensor([4.5, 7.0]))
    torch.testing.assert_close(spot[1, 0], torch.tensor([2.0, 3.0]))
    assert spot[2, 0].isnan().all()
    assert brightest_spot(light, least=torch.tensor(0.3))[1, 0].isnan().all()


def test_a_hit_is_a_ball_within_two_pixels_of_one_that_is_there() -> None:
    nothing = [torch.nan, torch.nan]
    truth = torch.tensor([[[5.0, 5.0]], [[5.0, 5.0]], [nothing], [[5.0, 5.0]]])
    dream = torch.tensor([[[5.0, 6.5]], [[5.0, 8.0]], [[5.0, 5.0]], [nothing]])
    assert hits(truth, dream, steps=range(4)) == pytest.approx(1 / 3)
    assert error(truth, dream, steps=range(4)) == pytest.approx((1.5 + 3.0) / 2)
    assert error(truth, dream, steps=[3]) is None


def test_a_model_that_shows_exactly_what_is_there_sees_every_ball(monkeypatch: pytest.MonkeyPatch) -> None:
    """Real games; the decoder is replaced by the truth, then by black."""
    config = cpu()
    agent = make_agent(config, env_spec(config))
    batch = play_windows(agent, config.env, windows=6, seed=0)
    assert batch.obs.shape == (LENGTH, 6, 40, 40, 1)
    image = batch.obs.movedim(-1, -3).float() / 255 - 0.5

    def show(picture: torch.Tensor) -> dict[str, float]:
        def decode(_: State) -> torch.Tensor:
            return picture

        monkeypatch.setattr(agent.world, "decode", decode)
        return judge(agent, config.env, batch)

    perfect, blind = show(image), show(torch.full_like(image, -0.5))
    assert perfect["ball_recall"] == perfect["ball_recall_15_ahead"] == perfect["moved_recall"] == 1.0
    assert perfect["ball_error_15_ahead"] == perfect["moved_mse"] == 0.0
    assert perfect["windows_slow"] == 6 and perfect["ball_recall_15_ahead_slow"] == 1.0  # an untrained agent's balls
    assert blind["ball_recall_1_ahead_slow"] == 0.0
    assert blind["ball_recall"] == 0.0 and "ball_error_15_ahead" not in blind
    assert 0.2 < blind["moved_recall"] < 0.8 and blind["moved_mse"] > 0.1


def test_windows_are_dreamt_once_more_at_the_temperature_of_the_behaviours_dreams(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config, heats = cpu(), list[float]()
    agent = make_agent(config, env_spec(config))
    open_loop = agent.world.open_loop

    def dream(batch: Batch, context: int, temperature: float) -> State:
        heats.append(temperature)
        return open_loop(batch, context, temperature)

    monkeypatch.setattr(agent.world, "open_loop", dream)
    found = world_report(agent, config.env, windows=2, seed=0)
    assert heats == [1.0, 1.0, 0.5] and found["temperature"] == 0.5 and found["windows_temperature"] == 2
    assert "ball_recall_15_ahead_temperature" in found
    assert [line.split()[:3] for line in kinds_table(found)][-1] == ["temperature", "0.5", "2"]


def test_half_of_a_short_batch_is_context() -> None:
    config = cpu()
    agent = make_agent(config, env_spec(config))
    batch = play_windows(agent, config.env, windows=4, seed=0)
    found = judge(agent, config.env, Batch(*(field[:16] for field in batch)))
    assert "ball_recall_5_ahead" in found and "ball_recall_15_ahead" not in found


def flights(*per_step: float) -> torch.Tensor:
    """Balls [LENGTH, B, 2] that fly straight down so many pixels a step."""
    steps = torch.arange(LENGTH, dtype=torch.float32)[:, None, None]
    return torch.cat([steps * torch.tensor([speed, 0.0]) for speed in per_step], 1)


def test_a_ball_flies_as_fast_on_the_screen_whatever_the_picture_is() -> None:
    env = cpu().env  # 40x40 of 160x160 screen pixels, 4 frames a step: a pixel a step is one of the screen a frame
    truth = flights(1.4, 2.5)
    truth[: CONTEXT + 2, 1] = truth[CONTEXT + 5 :, 1] = torch.nan  # not seen where the dream begins
    truth[CONTEXT, 0] += 9.0  # a single jump is no speed
    found = flying_speed(truth, env, context=CONTEXT)
    assert found[0] == pytest.approx(1.4, abs=1e-4) and found[1] == pytest.approx(2.5, abs=1e-4)
    truth[:, 1] = torch.nan
    assert flying_speed(truth, env, context=CONTEXT)[1].isnan()
    wide = flights(1.0).flip(-1)
    env = replace(env, size=80, crop=(34, 16, 0, 80), frame_skip=2)  # one screen pixel wide, two high
    assert flying_speed(wide, env, context=CONTEXT)[0] == pytest.approx(0.5)


def test_fast_balls_are_judged_by_themselves() -> None:
    truth = flights(1.4, 1.4, 2.5)
    dream = truth.clone()
    dream[CONTEXT + 4 :, 2] += 3.0  # the dream loses the fast one after 4 steps
    dream[CONTEXT + 14, 0] = torch.nan
    speed = torch.tensor([1.4, torch.nan, 2.5])
    found = by_speed(truth, dream, speed=speed, context=CONTEXT)
    assert found["windows_slow"] == found["windows_fast"] == 1 and "windows_middle" not in found
    assert [found[f"ball_recall_{n}_ahead_fast"] for n in (1, 5, 15)] == [1.0, 0.0, 0.0]
    assert [found[f"ball_recall_{n}_ahead_slow"] for n in (1, 5, 15)] == [1.0, 1.0, 0.0]
    assert [line.split() for line in kinds_table(found)[1:]] == [
        ["slow", "1", "1.00", "1.00", "0.00"],
        ["fast", "1", "1.00", "0.00", "0.00"],
    ]
    assert kinds_table({"ball_recall": 1.0}) == []
