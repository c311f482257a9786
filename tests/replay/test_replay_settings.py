"""Window cutting, derived numbers, memory needs and the choice of a backend."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from replay.config import ReplayConfig, check_config, error_buffer, samples_per_insert
from replay.errors import UserError
from replay.experience import EnvSpec, WindowCutter
from replay.schema import bytes_per_step, check_memory, memory_needed, record_dtype, table_name
from replay.stream import Stream
from tests.replay.testkit import ROOT

BREAKOUT = EnvSpec((64, 64, 1), 4)


@pytest.mark.parametrize(("length", "stride"), [(50, 25), (50, 10), (8, 4), (8, 3), (8, 1), (1, 1)])
@pytest.mark.parametrize("longest", [30, 120, 2000])
def test_one_window_per_stride_and_full_cover(length: int, stride: int, longest: int) -> None:
    rng = np.random.default_rng(length + stride + longest)
    cutter, windows, kept = WindowCutter(length, stride), 0, 0
    for size in rng.integers(2, longest, size=max(300, 200_000 // longest)):
        covered = 0
        for t in range(size):
            if cutter.append(is_first=t == 0, is_last=t == size - 1):
                assert t + 1 >= length, "a window crosses the beginning of its game"
                assert t - length < covered, "records between two windows"
                windows, covered = windows + 1, t + 1
        assert covered == (size if size >= length else 0)
        kept += size - 1 if size >= length else 0
    if 1 < stride <= length / 2:  # a window per record is more than short games have room for
        assert windows == pytest.approx(kept / stride, rel=0.01, abs=3)


@pytest.mark.parametrize(("length", "stride", "before"), [(50, 25, 50), (8, 2, 8), (50, 40, 70)])
def test_what_games_of_one_length_saved_up_or_owe_does_not_change_the_games_after_them(
    length: int, stride: int, before: int
) -> None:
    """A thousand games with room for one window each, or that need more than they earn; then long ones."""
    cutter = WindowCutter(length, stride)
    for _ in range(1000):
        for t in range(before):
            cutter.append(is_first=t == 0, is_last=t == before - 1)
    cut = np.array([cutter.append(is_first=t == 0, is_last=False) for t in range(40 * length)])
    steps = np.arange(40 * length) + 1
    assert cut[: 5 * length].sum() <= 4 + 8 * length / stride  # 5 lengths of its own, 3 saved up
    settled = cut[steps > 20 * length]  # by then nothing is left of either
    assert settled.sum() == pytest.approx(len(settled) / stride, abs=1)
    assert all(cutter.append(is_first=t == 0, is_last=t == length - 1) == (t == length - 1) for t in range(length))


def test_every_played_step_is_in_the_books() -> None:
    rng = np.random.default_rng(0)
    stream, fresh, played = Stream(8, 4), 0, 0
    for _ in range(500):
        size, cut = rng.integers(1, 40), rng.random() < 0.2
        for t in range(size):
            fresh += stream.take(is_first=t == 0, is_last=t == size - 1 and not cut) or 0
            played += t > 0
    stream.break_off()
    assert stream.played == played == fresh + stream.dropped


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"capacity": 100, "prefill": 200}, "never start"),
        ({"stride": 60}, "stride"),
        ({"batch": 0}, "batch"),
        ({"replay_ratio": 0.0}, "replay_ratio"),
    ],
)
def test_useless_settings_are_refused(change: dict[str, float], message: str) -> None:
    check_config(ReplayConfig())
    with pytest.raises(UserError, match=message):
        check_config(replace(ReplayConfig(), **change))


@pytest.mark.parametrize("ratio", [0.01, 1.0, 50.0, 5000.0])
@pytest.mark.parametrize("prefill", [0, 1000, 50_000])
def test_error_buffer_suits_the_limiter(ratio: float, prefill: int) -> None:
    config = replace(ReplayConfig(), replay_ratio=ratio, prefill=prefill)
    assert error_buffer(config) >= max(1.0, samples_per_insert(config), 2 * config.batch)


def test_memory_line_and_refusal() -> None:
    config = ReplayConfig(capacity=1_000_000)
    need = memory_needed(config, BREAKOUT)
    assert need >= 1_000_000 * (4096 + 4 + 4 + 1 + 1 + 8)
    line = check_memory(config, BREAKOUT, available=2 * need)
    assert line == f"replay: 1,000,000 steps x {bytes_per_step(BREAKOUT):,} bytes = 4.3 GiB at worst (8.5 GiB free)"
    with pytest.raises(UserError, match=r"lower --replay.capacity to (\d+) or less") as refusal:
        check_memory(config, BREAKOUT, available=need // 2)
    assert "\n" not in str(refusal.value)
    fits = int(str(refusal.value).split(" to ")[1].split()[0])
    check_memory(replace(config, capacity=fits), BREAKOUT, available=need // 2)
    with pytest.raises(UserError):
        check_memory(replace(config, capacity=fits + 2), BREAKOUT, available=need // 2)


def test_memory_of_this_machine_is_read() -> None:
    assert "free)" in check_memory(ReplayConfig(capacity=1000, prefill=100), BREAKOUT)


def test_table_name_follows_the_shape_of_windows() -> None:
    config = ReplayConfig()
    names = {
        table_name(config, BREAKOUT),
        table_name(replace(config, length=60), BREAKOUT),
        table_name(config, EnvSpec((64, 64, 3), 4)),
    }
    assert len(names) == 3
    assert table_name(replace(config, capacity=7, batch=3), BREAKOUT) in names
    assert table_name(config, BREAKOUT._replace(state=(256, 16))) not in names


def test_without_states_a_record_is_what_it_was_before_there_were_any() -> None:
    """So that replays saved then are still found."""
    assert table_name(ReplayConfig(), BREAKOUT) == "seq_55bd1df7691e"
    assert record_dtype(BREAKOUT).itemsize == 4096 + 4 + 4 + 1 + 1 + 8


def test_a_state_of_preset_cpu_is_528_bytes() -> None:
    assert record_dtype(BREAKOUT._replace(state=(256, 16))).itemsize - record_dtype(BREAKOUT).itemsize == 2 * 256 + 16


def test_without_reverb_there_is_one_clear_line() -> None:
    program = """
import sys
sys.modules["reverb"] = None
sys.modules["tensorflow"] = None
import replay
try:
    replay.connect("localhost:1", replay.ReplayConfig(), replay.EnvSpec((64, 64, 1), 4), run_id="x")
except replay.UserError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "Python 3.11" in done.stdout
    assert "--runtime inline" in done.stdout
    assert done.stdout.count("\n") == 1
