"""Videos and strips: what is drawn where, and files that can be read back."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import torch

from actors.config import EnvConfig
from cluster.look.evaluate import full_games, seeded
from cluster.look.images import AMBER, LINE, MARGIN, TILE_GAP
from cluster.look.strips import open_loop_strip, reconstruction_strip, strip_columns
from cluster.look.video import (
    COMPARE_SCALE,
    HOLD,
    PLAY_SCALE,
    as_batch,
    check_video_path,
    cut_clips,
    decode,
    record_dream,
    record_play,
    record_reconstruct,
    watch,
    write_video,
)
from dreamer.agent import Agent
from dreamer.config import BehaviorConfig, ModelConfig
from dreamer.types import Batch, State
from replay.errors import UserError

CPU = torch.device("cpu")
GAME = EnvConfig(id="BreakoutDeterministic-v4", time_limit=200)
CAPTION = 5 * LINE  # above the picture one line, below it three and some air
PLAY_SHAPE = (64 * PLAY_SCALE + CAPTION, 64 * PLAY_SCALE, 3)
COMPARE_SHAPE = (64 * COMPARE_SCALE + CAPTION, 3 * 64 * COMPARE_SCALE + 8, 3)


def make_agent(channels: int = 1) -> Agent:
    model = ModelConfig(cnn_depth=4, deter=32, hidden=32, stoch=4, classes=4, head_layers=1, head_units=32)
    with seeded(0, CPU):
        return Agent(model, BehaviorConfig(layers=1, units=32, horizon=3), channels=channels, num_actions=4)


@pytest.fixture(scope="module")
def agent() -> Agent:
    return make_agent()


def make_batch(steps: int, sequences: int, channels: int = 1) -> Batch:
    with seeded(1, CPU):
        shape = (steps, sequences)
        first = torch.zeros(shape, dtype=torch.bool)
        first[0] = True
        obs = torch.randint(0, 256, (*shape, 64, 64, channels), dtype=torch.uint8)
        return Batch(obs, torch.randint(0, 4, shape), torch.zeros(shape), first, torch.zeros_like(first))


def picture_of(frame: np.ndarray, panel: int, scale: int) -> np.ndarray:
    """The observation that was drawn in a panel: uint8 [64, 64]."""
    left = panel * (64 * scale + 4)
    return frame[LINE : LINE + 64 * scale : scale, left : left + 64 * scale : scale, 0]


# --- Videos ---


def test_play_shows_the_game_from_its_start(agent):
    frames = list(record_play(agent, GAME, seed=1, steps_limit=12))
    assert len(frames) == 13
    assert all(f.shape == PLAY_SHAPE and f.dtype == np.uint8 for f in frames)
    with seeded(1, CPU):
        ticks = list(islice(full_games(agent, GAME, slots=1, seed=1), 13))
    for frame, tick in zip(frames, ticks, strict=True):
        assert np.array_equal(picture_of(frame, 0, PLAY_SCALE), tick.step.obs[0, :, :, 0])


def test_play_stops_with_its_game(agent):
    frames = list(record_play(agent, replace(GAME, time_limit=10), seed=1, steps_limit=500))
    assert len(frames) == 11 + HOLD
    assert np.array_equal(frames[10], frames[-1])


def test_reconstruction_beside_the_game(agent):
    frames = list(record_reconstruct(agent, GAME, seed=1, start=5, steps=8))
    assert len(frames) == 8
    assert all(f.shape == COMPARE_SHAPE for f in frames)
    real, rebuilt, error = (picture_of(frames[3], n, COMPARE_SCALE).astype(int) for n in range(3))
    assert np.array_equal(error, abs(real - rebuilt))


def test_reconstruction_goes_on_in_the_next_game(agent):
    frames = list(record_reconstruct(agent, replace(GAME, time_limit=9), seed=1, start=5, steps=30))
    assert len(frames) == 30 + 3 * HOLD  # games of ten records end with records 9, 19 and 29 of 5..34


def test_dreams_follow_each_other(agent):
    frames = list(record_dream(agent, GAME, seed=1, context=2, horizon=6, start=10, clips=3))
    assert len(frames) == 3 * 8
    assert all(f.shape == COMPARE_SHAPE for f in frames)


def test_a_dream_ends_with_its_game_and_has_a_context(agent):
    """Games of eleven records: from record 4 on clips of 7, then of 8 and (too short to dream) 3, and so on."""
    with seeded(1, CPU):
        games = full_games(agent, replace(GAME, time_limit=10), slots=1, seed=1)
        clips = cut_clips(games, start=4, context=3, length=8, clips=3)
    assert [len(c) for c in clips] == [7, 8, 8]
    assert [bool(c[0].step.is_first[0]) for c in clips] == [False, True, True]


def test_no_dream_in_games_that_are_over_at_once(agent):
    with pytest.raises(UserError, match="smaller context"):
        record_dream(agent, replace(GAME, time_limit=2), seed=1, context=5, horizon=2, start=0, clips=1)


def test_videos_are_a_function_of_the_seed_and_leave_the_callers_chance_alone(agent):
    for record in (
        lambda: record_play(agent, GAME, seed=2, steps_limit=5),
        lambda: record_reconstruct(agent, GAME, seed=2, start=2, steps=5),
        lambda: record_dream(agent, GAME, seed=2, context=2, horizon=3, start=3, clips=1),
    ):
        before = torch.get_rng_state()
        first = list(record())
        assert torch.equal(torch.get_rng_state(), before)
        torch.rand(3)
        assert np.array_equal(first, list(record()))


def test_colour_observations():
    agent = make_agent(channels=3)
    frames = list(record_dream(agent, replace(GAME, grayscale=False), seed=1, horizon=3, start=0, clips=1))
    assert len(frames) == 8
    real = frames[0][LINE : LINE + 256, :256].astype(int)
    assert np.any(real[..., 0] != real[..., 2])


def test_watch_is_observe_step_by_step(agent):
    batch = make_batch(6, 2)
    with torch.no_grad(), seeded(3, CPU):
        whole = agent.world.observe(batch).state
    with seeded(3, CPU):
        watched = watch(agent, batch)
    torch.testing.assert_close(watched.h, whole.h)
    assert torch.equal(watched.z.argmax(-1), whole.z.argmax(-1))


def test_decode_keeps_order_over_chunks(agent):
    with seeded(4, CPU):
        state = State(torch.randn(130, 1, 32), torch.rand(130, 1, 4, 4))
    pictures = decode(agent, state)
    assert pictures.shape == (130, 1, 64, 64, 1) and pictures.dtype == np.uint8
    last = decode(agent, State(state.h[-1:], state.z[-1:]))
    assert np.abs(pictures[-1:].astype(int) - last).max() <= 1


def test_a_batch_cut_from_the_middle_of_a_game_begins_anew(agent):
    with seeded(1, CPU):
        ticks = list(islice(full_games(agent, GAME, slots=1, seed=1), 3, 7))
    batch = as_batch(ticks, CPU)
    assert batch.obs.shape == (4, 1, 64, 64, 1)
    assert batch.is_first[:, 0].tolist() == [True, False, False, False]
    assert not ticks[0].step.is_first[0]  # the record itself is left as it was


# --- Files ---


def numbered_frames(count: int, height: int = 64, width: int = 96) -> list[np.ndarray]:
    """Frames that all differ: equal neighbours would share one frame of a GIF."""
    return [np.full((height, width, 3), 10 * n, np.uint8) for n in range(count)]


@pytest.mark.parametrize("name", ["game.gif", "game.mp4", "GAME.MP4"])
def test_films_can_be_read_back(tmp_path: Path, name: str):
    frames = numbered_frames(9)
    write_video(iter(frames), tmp_path / name, fps=12.5)
    again = iio.imread(tmp_path / name, index=None)
    assert again.shape == (9, 64, 96, 3)
    assert np.abs(again.astype(int) - np.stack(frames)).max() < 12
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_odd_sides_grow_by_a_pixel_in_mp4(tmp_path: Path):
    write_video(numbered_frames(3, 63, 95), tmp_path / "odd.mp4", fps=10)
    assert iio.imread(tmp_path / "odd.mp4").shape == (3, 64, 96, 3)


def test_wrong_suffix_is_told(tmp_path: Path):
    with pytest.raises(UserError, match=r"ends in \.gif or \.mp4, not in \.avi"):
        write_video(numbered_frames(2), tmp_path / "game.avi", fps=10)


def test_missing_folder_is_told(tmp_path: Path):
    with pytest.raises(UserError, match="does not exist"):
        write_video(numbered_frames(2), tmp_path / "nowhere" / "game.gif", fps=10)
    with pytest.raises(UserError, match="is a folder"):
        (tmp_path / "folder.gif").mkdir()
        check_video_path(tmp_path / "folder.gif")


def test_folder_without_permission_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("os.access", lambda path, mode: False)  # root may write everywhere
    with pytest.raises(UserError, match="not writable"):
        write_video(numbered_frames(2), tmp_path / "game.gif", fps=10)


@pytest.mark.parametrize("name", ["game.gif", "game.mp4"])
def test_a_film_that_breaks_off_leaves_the_old_one(tmp_path: Path, name: str):
    def broken():
        yield from numbered_frames(3)
        raise RuntimeError("interrupted")

    (tmp_path / name).write_bytes(b"old")
    with pytest.raises(RuntimeError, match="interrupted"):
        write_video(broken(), tmp_path / name, fps=10)
    assert (tmp_path / name).read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


# --- Strips ---


def strip_shape(columns: int, sequences: int) -> tuple[int, int, int]:
    tile = 64 + TILE_GAP
    return LINE + sequences * (3 * tile + 3 * TILE_GAP), MARGIN + columns * tile, 3


@pytest.mark.parametrize(("steps", "expected"), [(8, 8), (16, 16), (17, 9), (50, 13)])
def test_strips_are_never_too_wide(steps, expected):
    columns = strip_columns(steps)
    assert len(columns) == expected and columns[0] == 0
    assert len(set(np.diff(columns))) == 1


def test_open_loop_strip(agent):
    batch, before = make_batch(12, 3), torch.get_rng_state()
    strip = open_loop_strip(agent, batch, context=5, rows=2)
    assert strip.dtype == np.uint8 and strip.shape == strip_shape(12, 2)
    assert np.array_equal(strip[LINE : LINE + 64, MARGIN : MARGIN + 64, 0], batch.obs[0, 0, :, :, 0].numpy())
    marked = [x for x in range(strip.shape[1]) if (strip[:, x] == AMBER).all()]
    assert marked == [MARGIN + 5 * 66 - 2, MARGIN + 5 * 66 - 1]
    assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(strip, open_loop_strip(agent, batch, context=5, rows=2))


def test_strips_of_a_small_batch_and_of_colour():
    strip = open_loop_strip(make_agent(channels=3), make_batch(6, 2, channels=3))
    assert strip.shape == strip_shape(6, 2)


def test_reconstruction_strip(agent):
    batch = make_batch(10, 5)
    strip = reconstruction_strip(agent, batch)
    assert strip.shape == strip_shape(10, 4)
    real = strip[LINE : LINE + 64, MARGIN : MARGIN + 64].astype(int)
    model, error = (strip[LINE + n * 66 : LINE + n * 66 + 64, MARGIN : MARGIN + 64].astype(int) for n in (1, 2))
    assert np.array_equal(error, abs(real - model))
