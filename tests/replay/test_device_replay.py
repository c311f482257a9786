"""The replay on torch tensors: the same batches as the one in host memory, whatever the ring has forgotten."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import replay
from replay import EnvSpec, MemoryReplay, ReplayConfig, ReplayCorrupt, Sample, Sequences, Step, UserError
from replay.config import min_windows
from replay.memory_file import FILE, restore, save
from replay.schema import memory_needed
from tests.replay.testkit import ROOT, SPEC, frame_numbers, game, play, prev_of, spec_of, to_numpy

CONFIG = ReplayConfig(capacity=400, length=8, stride=4, batch=5, prefill=40, replay_ratio=50)
T = CONFIG.length
GAP = 100_000  # between the frame numbers of two streams


def in_memory(config: ReplayConfig = CONFIG) -> MemoryReplay:
    return replay.in_memory(config, SPEC, seed=3)


def on_device(config: ReplayConfig = CONFIG, device: str = "cpu") -> MemoryReplay:
    return replay.on_device(config, SPEC, seed=3, device=device)


def games(stream: int, lengths: Iterator[int]) -> Iterator[tuple[Step, bool]]:
    """One game after another; no two frames of all streams have the same number."""
    number = stream * GAP
    for length in lengths:
        yield from game(number, length)
        number += length


def ticks(streams: int, seed: int = 0) -> Iterator[list[tuple[Step, bool]]]:
    """One record of every stream at a time, for ever; one game in six is too short for a window."""
    rng = np.random.default_rng(seed)
    lengths = iter(lambda: int(rng.integers(3, 40)), None)
    return (list(steps) for steps in zip(*(games(e, lengths) for e in range(streams)), strict=True))


def play_ticks(memories: list[MemoryReplay], count: int, streams: int = 5, each_tick: Callable = lambda: None) -> None:
    """The same play into several replays."""
    writers = [[memory.writer() for _ in range(streams)] for memory in memories]
    for tick, steps in zip(range(count), ticks(streams), strict=False):
        for of_one in writers:
            for writer, (step, is_last) in zip(of_one, steps, strict=True):
                writer.append(step, is_last=is_last, policy_version=tick)
        each_tick()


def assert_same(one: Sample, other: Sample) -> None:
    for a, b in zip(to_numpy(one).sequences, to_numpy(other).sequences, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(one.policy_version, other.policy_version)


def assert_same_draws(one: MemoryReplay, other: MemoryReplay) -> None:
    assert one.stats() == other.stats()
    for _ in range(5):
        assert_same(one.draw(6), other.draw(6))


def assert_whole(sample: Sample) -> None:
    """No window that lost a record to another: that one would be of another game, or out of turn."""
    data = to_numpy(sample).sequences
    numbers = frame_numbers(data.obs)  # [B, T]
    assert (np.diff(numbers, axis=1) == 1).all()
    is_reset = data.reward == 0
    np.testing.assert_array_equal(data.reward, np.where(is_reset, 0, numbers))
    assert not is_reset[:, 1:].any(), "a game of fewer records than the window has slipped in"


def assert_same_batches(device: str) -> None:
    """Play and sample in turns, on both; the ring goes around several times."""
    memory, other = in_memory(), on_device(device=device)
    one, two = memory.sampler(), other.sampler()
    drawn: list[tuple[Sample, Sample]] = []

    def draw() -> None:
        if memory.can_sample(CONFIG.batch):
            assert other.can_sample(CONFIG.batch)
            drawn.append((one.sample(0), two.sample(0)))

    with no_waiting(device):
        play_ticks([memory, other], 1500, each_tick=draw)
    assert len(drawn) > 1400
    for pair in drawn:
        assert_same(*pair)
        assert pair[1].sequences.obs.device.type == device
    assert_same_draws(memory, other)


@contextmanager
def no_waiting(device: str) -> Iterator[None]:
    """Whatever makes the host wait for a CUDA device is an error in here."""
    if device != "cuda":
        yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_same_batches_as_in_memory() -> None:
    assert_same_batches("cpu")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_same_batches_on_a_gpu_that_is_never_waited_for() -> None:
    assert_same_batches("cuda")


def test_records_wait_for_a_gather_across_the_end_of_the_ring() -> None:
    memory, other = in_memory(), on_device()
    for count in (100, 299, 1, 513, 700):  # uploads of many sizes, on both sides of the end
        play_ticks([memory, other], count)
        assert_same_draws(memory, other)


def test_a_batch_is_not_touched_by_later_play() -> None:
    other = on_device()
    play_ticks([other], 100)
    sample = other.draw(50)
    before = to_numpy(Sample(Sequences(*(field.clone() for field in sample.sequences)), sample.policy_version))
    play_ticks([other], 1000)
    assert_same(sample, before)


def test_windows_that_the_ring_has_overwritten_are_never_sampled() -> None:
    other = on_device()
    writer, short = other.writer(), other.writer()
    play(writer, [300])
    full = len(other.windows)
    start, seen = GAP, set()
    for _ in range(1000):  # of 3 records each: in no window, but in the ring
        play(short, [3], start)
        start += 3
        if other.windows:
            sample = other.draw(5)
            assert_whole(sample)
            seen.add(len(other.windows))
    assert 1 in seen and full in seen and not other.windows
    assert not other.can_sample(1)
    with pytest.raises(replay.ReplayTimeout, match="more play is due"):
        other.sampler().sample(0)
    play(writer, [300], start=1000)  # and all is well again
    assert len(other.windows) > min_windows(CONFIG)
    assert_whole(other.draw(200))


def test_windows_of_streams_out_of_step_are_whole() -> None:
    rng = np.random.default_rng(1)
    other = on_device()
    writers, plays = [other.writer() for _ in range(4)], [games(e, iter([100_000])) for e in range(4)]
    for _ in range(3000):  # now one stream plays, now another
        e = int(rng.integers(4))
        for _ in range(int(rng.integers(1, 25))):
            step, is_last = next(plays[e])
            writers[e].append(step, is_last=is_last, policy_version=0)
        if other.windows:
            assert_whole(other.draw(3))


def test_a_late_window_with_early_records_is_overwritten_in_time() -> None:
    other = on_device()
    late, short = other.writer(), other.writer()
    *records, last = game(10 * GAP, T)
    for step, is_last in records:
        late.append(step, is_last=is_last, policy_version=0)
    play(other.writer(), [300])  # its windows are inserted first, though their records are newer
    late.append(last[0], is_last=last[1], policy_version=0)
    start = GAP
    while other.windows:
        assert_whole(other.draw(100))
        play(short, [3], start)
        start += 3


def test_a_game_too_far_behind_the_others_is_refused() -> None:
    other = on_device()
    slow, records = other.writer(), game(0, 50)
    step, is_last = next(records)
    slow.append(step, is_last=is_last, policy_version=0)
    play(other.writer(), [3000], start=GAP)
    with pytest.raises(UserError, match="too small for so many games"):
        for step, is_last in records:
            slow.append(step, is_last=is_last, policy_version=0)


@pytest.mark.parametrize("ticks_played", [50, 1500], ids=["filling", "wrapped"])
@pytest.mark.parametrize("source", [in_memory, on_device])
@pytest.mark.parametrize("target", [in_memory, on_device])
def test_saved_replay_goes_on_in_either_backend(
    tmp_path: Path, source: Callable[[], MemoryReplay], target: Callable[[], MemoryReplay], ticks_played: int
) -> None:
    old, new = source(), target()
    play_ticks([old], ticks_played)
    old.draw(7)
    save(old, tmp_path)
    restore(new, tmp_path)
    assert_same_draws(old, new)
    play_ticks([old, new], 1000)
    assert_same_draws(old, new)
    assert_whole(new.draw(500))


def test_saved_file_is_the_same(tmp_path: Path) -> None:
    memory, other = in_memory(), on_device()
    play_ticks([memory, other], 700)
    save(memory, tmp_path / "memory")
    save(other, tmp_path / "device")
    assert (tmp_path / "memory" / FILE).read_bytes() == (tmp_path / "device" / FILE).read_bytes()


def test_stored_states_are_the_same_in_either_backend_and_in_the_file(tmp_path: Path) -> None:
    config = replace(CONFIG, stored_state=True)
    spec = spec_of(config)
    memory = replay.in_memory(config, spec, seed=3)
    other, again = (replay.on_device(config, spec, seed=3, device="cpu") for _ in range(2))
    for each in (memory, other):
        play(each.writer(), [101, 60, 9, 300], states=True)
    assert_same_draws(memory, other)
    save(memory, tmp_path)
    restore(again, tmp_path)
    assert_same_draws(memory, again)
    data = to_numpy(again.draw(50)).sequences
    np.testing.assert_array_equal(data.prev_h, prev_of(frame_numbers(data.obs)).prev_h)
    with pytest.raises(UserError, match=r"another length or game \(or state\)"):
        restore(in_memory(), tmp_path)


def test_file_larger_than_the_ring_keeps_the_newest(tmp_path: Path) -> None:
    config = replace(CONFIG, capacity=8000)
    large = in_memory(config)
    play_ticks([large], 2000)
    save(large, tmp_path)
    small, other = in_memory(), on_device()
    restore(small, tmp_path)
    restore(other, tmp_path)
    assert_same_draws(small, other)
    play_ticks([small, other], 300)
    assert_same_draws(small, other)


def test_after_a_damaged_file_the_replay_is_as_good_as_new(tmp_path: Path) -> None:
    memory, other = in_memory(), on_device()
    play_ticks([other], 100)
    save(other, tmp_path)
    data = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(data[:-1])
    other = on_device()
    with pytest.raises(ReplayCorrupt, match="damaged"):
        restore(other, tmp_path)
    play_ticks([memory, other], 300)
    assert_same_draws(memory, other)


def test_too_little_memory_is_one_line() -> None:
    frames = EnvSpec((64, 64, 1), 4)
    config = replace(CONFIG, capacity=10**10)
    assert memory_needed(config, frames) > 2**44
    with pytest.raises(UserError, match=r"lower --replay\.capacity") as refusal:
        replay.on_device(config, frames, seed=0, device="cpu")
    assert "\n" not in str(refusal.value)


def test_close_frees_the_ring() -> None:
    other = on_device()
    play_ticks([other], 100)
    other.close()
    other.close()
    assert not other.records._ring and not other.can_sample(1)


def test_the_package_loads_without_torch() -> None:
    code = "import sys, replay, replay.memory_file; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
