"""What every replay backend promises, in one suite for all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from replay import PrevState, Replay, ReplayConfig, ReplayTimeout, Sample, Sequences
from replay.config import error_buffer, max_windows, min_windows, samples_per_insert
from replay.experience import NO_STATE
from tests.replay.testkit import Background, frame_numbers, game, play, prev_of, to_numpy

T = 8
MakeReplay = Callable[[ReplayConfig], Replay]


def plenty(windows: int, stride: int = 4) -> ReplayConfig:
    """Room to insert `windows` windows first (give or take four) and to sample them very often then."""
    steps = (windows - 4) * stride
    return ReplayConfig(
        capacity=4 * windows * stride, length=T, stride=stride, batch=10, prefill=steps, replay_ratio=1e4
    )


def draw(replay: Replay, batches: int) -> Sample:
    """Many batches as one."""
    sampler = replay.sampler()
    samples = [to_numpy(sampler.sample(timeout=20)) for _ in range(batches)]
    sampler.close()
    sequences = Sequences(*(np.concatenate(columns) for columns in zip(*(s.sequences for s in samples), strict=True)))
    return Sample(sequences, np.concatenate([s.policy_version for s in samples]))


def test_windows_are_pieces_of_games(make_replay: MakeReplay) -> None:
    lengths = [int(n) for n in np.random.default_rng(1).integers(3, 60, size=40)]
    kept = [n for n in lengths if n >= T]
    replay = make_replay(plenty(sum(n - 1 for n in kept) // 4))
    writer = replay.writer()
    starts = play(writer, lengths)

    assert writer.played == sum(n - 1 for n in lengths)
    assert writer.dropped == sum(n - 1 for n in lengths if n < T)
    assert writer.acknowledged == sum(n - 1 for n in kept)
    inserted = replay.stats().inserted
    assert abs(inserted - writer.acknowledged / 4) <= 2

    data, version = draw(replay, 40 * inserted // 10)
    numbers = frame_numbers(data.obs)  # [B, T]
    assert (np.diff(numbers, axis=1) == 1).all()
    begin = np.searchsorted(starts, numbers, side="right") - 1  # which game
    assert (begin == begin[:, :1]).all(), "a window crosses a game"
    is_begin = np.isin(numbers, starts)
    ends = np.array(starts) + np.array(lengths) - 1
    np.testing.assert_array_equal(data.reward, np.where(is_begin, 0, numbers).astype(np.float32))
    np.testing.assert_array_equal(data.prev_action, np.where(is_begin, 0, numbers % 7))
    np.testing.assert_array_equal(data.is_terminal, np.isin(numbers, ends))
    assert data.is_first[:, 0].all()
    np.testing.assert_array_equal(data.is_first[:, 1:], is_begin[:, 1:])
    np.testing.assert_array_equal(version, numbers[:, -1] // 10)

    expected = {start + t for start, n in zip(starts, lengths, strict=True) if n >= T for t in range(n)}
    assert set(numbers.ravel().tolist()) == expected, "every record of a long enough game, its terminal too, no other"


def test_windows_bring_the_states_stored_with_their_records_and_begin_as_they_did(make_replay: MakeReplay) -> None:
    replay = make_replay(replace(plenty(41), stored_state=True))
    starts = play(replay.writer(), [9, 30, 62, 68], states=True)
    data, _ = draw(replay, 60)
    numbers = frame_numbers(data.obs)  # [B, T]
    expected = prev_of(numbers)
    np.testing.assert_array_equal(data.prev_h, expected.prev_h)
    np.testing.assert_array_equal(data.prev_z, expected.prev_z)
    np.testing.assert_array_equal(data.is_first, np.isin(numbers, starts))  # the truth, also of a window's first record
    assert 0 < data.is_first[:, 0].mean() < 0.5


@pytest.mark.parametrize(
    ("stored", "prev", "message"),
    [
        (True, NO_STATE, r"prev_h must be float16 \[3\], got float16 \[0\]"),
        (True, prev_of(np.zeros(2, int)), "prev_h must be"),
        (True, prev_of(np.array(1))._replace(prev_h=np.zeros(3, np.float32)), r"prev_h must be float16 .* got float32"),
        (True, prev_of(np.array(1))._replace(prev_z=np.zeros(2, np.int64)), "prev_z must be uint8"),
        (False, prev_of(np.array(1)), r"prev_h must be float16 \[0\], got float16 \[3\]"),
    ],
)
def test_a_state_that_does_not_fit_is_refused(
    make_replay: MakeReplay, stored: bool, prev: PrevState, message: str
) -> None:
    writer = make_replay(replace(plenty(10), stored_state=stored)).writer()
    step, _ = next(game(0, 10))
    with pytest.raises(ValueError, match=message):
        writer.append(step, is_last=False, policy_version=0, prev=prev)


@pytest.mark.parametrize("stored", [False, True])
def test_types_and_shapes(make_replay: MakeReplay, stored: bool) -> None:
    replay = make_replay(replace(plenty(22), stored_state=stored))
    play(replay.writer(), [90], states=stored)
    data, version = draw(replay, 1)
    types = {name: (str(array.dtype), array.shape) for name, array in data._asdict().items()}
    assert types == {
        "obs": ("uint8", (10, T, 4, 4, 1)),
        "prev_action": ("int32", (10, T)),
        "reward": ("float32", (10, T)),
        "is_first": ("bool", (10, T)),
        "is_terminal": ("bool", (10, T)),
        "prev_h": ("float16", (10, T, 3 if stored else 0)),
        "prev_z": ("uint8", (10, T, 2 if stored else 0)),
    }
    assert (version.dtype, version.shape) == (np.dtype(np.int64), (10,))
    assert all(array.flags.writeable for array in data)


def test_stride_that_divides_nothing(make_replay: MakeReplay) -> None:
    replay = make_replay(plenty(30, stride=3))
    starts = play(replay.writer(), [31, 62])
    numbers = frame_numbers(draw(replay, 60).sequences.obs)
    assert (np.diff(numbers, axis=1) == 1).all()
    assert set(numbers.ravel().tolist()) == set(range(starts[0], starts[1] + 62))


def test_a_game_broken_off_does_not_leak_into_the_next(make_replay: MakeReplay) -> None:
    replay = make_replay(plenty(30))
    writer = replay.writer()
    for step, _ in list(game(1000, 30))[:21]:
        writer.append(step, is_last=False, policy_version=0)
    play(writer, [102])
    numbers = frame_numbers(draw(replay, 60).sequences.obs)
    assert (np.diff(numbers, axis=1) == 1).all()
    assert writer.played == 20 + 101 == writer.acknowledged + writer.dropped


def test_oldest_windows_go_first(make_replay: MakeReplay) -> None:
    config = ReplayConfig(capacity=400, length=T, stride=4, batch=10, prefill=400, replay_ratio=1e4)
    replay = make_replay(config)
    writer = replay.writer()
    play(writer, [T + 4 * 105])
    stats = replay.stats()
    assert stats.inserted > 103
    assert stats.windows == max_windows(config) == 100
    assert 395 <= stats.steps <= 410
    assert stats.bytes > 0
    numbers = frame_numbers(draw(replay, 200).sequences.obs)
    first = 4 * (stats.inserted - 100)
    assert abs(int(numbers.min()) - first) <= T
    assert set(numbers.ravel().tolist()) == set(range(numbers.min(), T + 4 * 105))


@pytest.mark.parametrize("ratio", [0.5, 8.0])
def test_ratio_is_held(make_replay: MakeReplay, ratio: float) -> None:
    config = ReplayConfig(capacity=10_000, length=T, stride=4, batch=5, prefill=80, replay_ratio=ratio)
    replay = make_replay(config)
    spi, slack = samples_per_insert(config), error_buffer(config)
    writer, sampler = replay.writer(), replay.sampler()
    actor = Background(play, writer, [50] * 60)
    batches = 0
    while actor.running():
        try:
            sampler.sample(timeout=0.5)
            batches += 1
        except ReplayTimeout as reason:
            assert "more play" in str(reason) or "windows it needs" in str(reason)
    actor.result()
    while True:  # what the limit still allows
        try:
            sampler.sample(timeout=1)
            batches += 1
        except ReplayTimeout:
            break
    stats = replay.stats()
    sampler.close()
    due = (stats.inserted - min_windows(config)) * spi
    assert abs(stats.sampled - due) <= slack + config.batch
    assert 0 <= stats.sampled - batches * config.batch <= 2 * config.batch, "prefetch is small"
    trained = stats.sampled * T
    assert trained / (writer.played - config.prefill) == pytest.approx(
        ratio, abs=(slack + 5) * T / writer.played + 0.02
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("obs", np.zeros((4, 4, 3), np.uint8)),
        ("obs", np.zeros((4, 4, 1), np.float32)),
        ("prev_action", 3),
        ("prev_action", np.int64(3)),
        ("reward", 1.0),
        ("reward", np.float64(1)),
        ("is_first", True),
        ("is_terminal", np.zeros(1, bool)),
    ],
)
def test_wrong_field_is_named(make_replay: MakeReplay, field: str, value: object) -> None:
    writer = make_replay(plenty(10)).writer()
    step, _ = next(game(0, 10))
    with pytest.raises(ValueError, match=rf"step\.{field} must be"):
        writer.append(step._replace(**{field: value}), is_last=False, policy_version=0)


def test_a_game_begins_with_a_reset(make_replay: MakeReplay) -> None:
    writer = make_replay(plenty(10)).writer()
    _, (step, _), *_ = game(0, 10)
    with pytest.raises(ValueError, match="is_first"):
        writer.append(step, is_last=False, policy_version=0)


def test_empty_replay_says_what_it_waits_for(make_replay: MakeReplay) -> None:
    replay = make_replay(plenty(10))
    sampler = replay.sampler()
    with pytest.raises(ReplayTimeout, match="holds 0 of the 6 windows"):
        sampler.sample(timeout=0.1)
    sampler.close()
    replay.close()
