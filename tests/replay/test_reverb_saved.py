"""What a replay server has saved, read into a replay of this process: whole, in order, and without a trace."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import replay
from replay import MemoryReplay, ReplayConfig, ReplayCorrupt, UserError
from replay.schema import table_name
from tests.replay.testkit import RUN, SPEC, Host, frame_numbers, play, spec_of

pytestmark = pytest.mark.reverb
CONFIG = ReplayConfig(capacity=4_000, length=8, stride=4, batch=5, prefill=80, replay_ratio=0.05)
STATES = replace(CONFIG, stored_state=True)
LENGTHS = [30, 8, 8, 50, 23]


def saved(host: Host, folder: Path, config: ReplayConfig, *, games: int = len(LENGTHS), samples: int = 0) -> int:
    """Games that a server has taken in and saved -> its windows."""
    connection = replay.connect(host.serve(config, folder), config, spec_of(config), run_id=RUN, patience=30)
    writer = connection.writer()
    play(writer, LENGTHS[:games], states=config.stored_state)
    if samples:
        sampler = connection.sampler()
        for _ in range(samples):
            sampler.sample(timeout=20)
        sampler.close()
    windows = connection.stats().windows
    writer.close()
    host.checkpoint()
    host.close_server()
    return windows


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in folder.rglob("*")}


def numbers_of(memory: MemoryReplay) -> np.ndarray:
    """The frames of all windows, oldest first: int64 [W, T]."""
    return frame_numbers(memory.records.gather(list(memory.windows.values())).sequences.obs)


@pytest.mark.parametrize("config", [CONFIG, STATES], ids=["plain", "states"])
def test_every_window_comes_once_in_its_order(shared_host: Host, tmp_path: Path, config: ReplayConfig) -> None:
    """The same windows as those of a replay in this process into which the same games were played."""
    windows = saved(shared_host, tmp_path / "server", config)
    before = listing(tmp_path)
    spec = spec_of(config)
    copied, played = (replay.in_memory(config, spec, seed=0) for _ in range(2))
    replay.copy_saved(copied, tmp_path / "server")
    play(played.writer(), LENGTHS, states=config.stored_state)
    assert len(copied.windows) == windows > 10
    one, two = (memory.records.gather(list(memory.windows.values())) for memory in (copied, played))
    for name, mine, theirs in zip(one.sequences._fields, one.sequences, two.sequences, strict=True):
        np.testing.assert_array_equal(mine, theirs, err_msg=name)
    np.testing.assert_array_equal(one.policy_version, two.policy_version)
    kept = {id(record) for window in copied.windows.values() for record in window}
    assert len(kept) == len(np.unique(numbers_of(copied)))  # windows that overlap share their records
    assert listing(tmp_path) == before


def test_windows_that_were_trained_on_come_too(shared_host: Host, tmp_path: Path) -> None:
    """A server that has handed out all that its ratio allows would hand out no more."""
    config = replace(CONFIG, replay_ratio=4)
    windows = saved(shared_host, tmp_path, config, games=4, samples=3)
    copied = replay.in_memory(config, SPEC, seed=0)
    replay.copy_saved(copied, tmp_path)
    assert len(copied.windows) == windows
    assert copied.draw(7).sequences.obs.shape[:2] == (7, 8)


@pytest.mark.slow
def test_with_less_capacity_the_newest_windows_stay(shared_host: Host, tmp_path: Path) -> None:
    saved(shared_host, tmp_path, CONFIG)
    whole, small = (replay.in_memory(replace(CONFIG, capacity=size), SPEC, seed=0) for size in (4_000, 80))
    for memory in (whole, small):
        replay.copy_saved(memory, tmp_path)
    np.testing.assert_array_equal(numbers_of(small), numbers_of(whole)[-20:])


def test_the_server_goes_on_with_its_checkpoint(shared_host: Host, tmp_path: Path) -> None:
    """As after any other restart: with its windows, and held back by its ratio."""
    windows = saved(shared_host, tmp_path, CONFIG)
    replay.copy_saved(replay.in_memory(CONFIG, SPEC, seed=0), tmp_path)
    address = shared_host.serve(CONFIG, tmp_path)
    assert replay.connect(address, CONFIG, SPEC, run_id=RUN, patience=30).stats().windows == windows
    shared_host.close_server()


def test_what_cannot_be_read_is_one_line(
    new_host: Callable[[], Host], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = replay.in_memory(CONFIG, SPEC, seed=0)
    with pytest.raises(UserError, match="no windows of this length"):
        replay.copy_saved(memory, tmp_path)
    saved(new_host(), tmp_path, CONFIG)
    with pytest.raises(UserError, match="no windows of this length"):
        replay.copy_saved(replay.in_memory(replace(CONFIG, length=16, stride=8), SPEC, seed=0), tmp_path)
    newest = max((tmp_path / table_name(CONFIG, SPEC) / "newest").glob("*/DONE")).parent
    for name in ("items.tfrecord", "tables.tfrecord"):
        whole = (newest / name).read_bytes()
        os.truncate(newest / name, len(whole) // 2)
        with pytest.raises(ReplayCorrupt, match="is damaged") as error:
            replay.copy_saved(memory, tmp_path)
        assert "\n" not in str(error.value)
        (newest / name).write_bytes(whole)
