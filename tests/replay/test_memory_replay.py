"""The in-process replay: its memory, its file, its turns."""

from __future__ import annotations

import itertools
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import replay
from replay import EnvSpec, MemoryReplay, ReplayConfig, ReplayCorrupt, UserError
from replay.config import min_windows
from replay.memory_file import FILE, restore, save
from replay.schema import bytes_per_step
from tests.replay.testkit import SPEC, frame_numbers, game, play

CONFIG = ReplayConfig(capacity=400, length=8, stride=4, batch=5, prefill=40, replay_ratio=50)


def load(directory: Path, config: ReplayConfig, spec: EnvSpec) -> MemoryReplay:
    """A saved replay in this process."""
    memory = replay.in_memory(config, spec, seed=0)
    restore(memory, directory)
    return memory


def filled(lengths: list[int], seed: int = 3) -> MemoryReplay:
    memory = replay.in_memory(CONFIG, SPEC, seed=seed)
    play(memory.writer(), lengths)
    return memory


def records(memory: MemoryReplay) -> dict[int, bytes]:
    return {id(record): record for record in itertools.chain(*memory.windows.values())}


def same_draws(one: MemoryReplay, other: MemoryReplay) -> None:
    for _ in range(5):
        for a, b in zip(one.draw(6).sequences, other.draw(6).sequences, strict=True):
            np.testing.assert_array_equal(a, b)


def test_overlap_stores_records_once() -> None:
    memory = filled([101, 60])
    assert len(records(memory)) == 161
    assert sum(len(window) for window in memory.windows.values()) > 300


def test_memory_is_bounded_when_full() -> None:
    memory = replay.in_memory(replace(CONFIG, capacity=4000), EnvSpec((64, 64, 1), 7), seed=0)
    writer = memory.writer()
    noise = np.random.default_rng(0)
    step, _ = next(game(0, 10))
    for t in range(9000):
        wanted = step._replace(obs=noise.integers(0, 255, (64, 64, 1), np.uint8), is_first=np.bool_(t % 90 == 0))
        writer.append(wanted, is_last=t % 90 == 89, policy_version=0)
    held = sum(sys.getsizeof(record) for record in records(memory).values())
    held += (
        sum(sys.getsizeof(window) for window in memory.windows.values()) - 8 * 8 * 1000 + 8 * 8 * len(memory.windows)
    )
    assert held <= 1.04 * 4000 * bytes_per_step(memory.spec)


def test_interleaved_streams_do_not_mix() -> None:
    memory = replay.in_memory(CONFIG, SPEC, seed=0)
    writers = [memory.writer() for _ in range(3)]
    for steps in zip(*(game(1000 * e, 50) for e in range(3)), strict=True):
        for writer, (step, is_last) in zip(writers, steps, strict=True):
            writer.append(step, is_last=is_last, policy_version=0)
    numbers = frame_numbers(memory.draw(200).sequences.obs)
    assert (np.diff(numbers, axis=1) == 1).all()
    assert {int(n) // 1000 for n in numbers[:, 0]} == {0, 1, 2}


def test_same_seed_same_batches() -> None:
    same_draws(filled([101, 60]), filled([101, 60]))


def test_turns_keep_the_ratio_exact() -> None:
    memory = replay.in_memory(CONFIG, SPEC, seed=0)
    writer = memory.writer()
    start = 0
    for _ in range(40):
        assert memory.can_insert()
        while memory.can_insert():
            play(writer, [30], start)
            start += 30
        while memory.can_sample(CONFIG.batch):
            memory.draw(CONFIG.batch)
        due = (memory.inserted - min_windows(CONFIG)) * 25
        assert due - CONFIG.batch < memory.sampled <= due


@pytest.mark.parametrize("lengths", [[60], [101, 60, 9, 300, 77]], ids=["filling", "full"])
def test_saved_replay_goes_on_as_if_nothing_had_happened(tmp_path: Path, lengths: list[int]) -> None:
    memory = filled(lengths)
    memory.draw(7)
    save(memory, tmp_path)
    again = load(tmp_path, CONFIG, SPEC)
    assert again.stats() == memory.stats()
    assert len(records(again)) == len(records(memory))
    same_draws(memory, again)
    for each in (memory, again):
        play(each.writer(), [90], start=5000)
    assert again.stats() == memory.stats()
    same_draws(memory, again)


def test_running_game_is_cut_and_the_rest_stays(tmp_path: Path) -> None:
    memory = filled([60])
    writer = memory.writer()
    for step, _ in list(game(0, 10))[:5]:
        writer.append(step, is_last=False, policy_version=0)
    save(memory, tmp_path)
    assert load(tmp_path, CONFIG, SPEC).windows == memory.windows


def test_other_capacity_keeps_the_newest(tmp_path: Path) -> None:
    memory = filled([101, 60, 300])
    save(memory, tmp_path)
    small = load(tmp_path, replace(CONFIG, capacity=100), SPEC)
    play(memory.writer(), [60], start=5000)
    play(small.writer(), [60], start=5000)
    assert len(small.windows) == 25 and small.oldest == memory.inserted - 25
    assert small.windows == {number: memory.windows[number] for number in small.windows}


def test_file_from_when_the_windows_were_a_ring(tmp_path: Path) -> None:
    memory = filled([101, 60, 300])
    split = 30
    ring = [*memory.windows.values()]
    ring, fresh = ring[-split:] + ring[:-split], [*memory.fresh.values()]
    old = replay.in_memory(CONFIG, SPEC, seed=0)
    old.windows, old.fresh = dict(enumerate(ring)), dict(enumerate(fresh[-split:] + fresh[:-split]))
    save(old, tmp_path)
    head, rest = (tmp_path / FILE).read_bytes().split(b"\n", 1)
    values = json.loads(head) | {"oldest": split, "inserted": memory.inserted}
    check_sum = values.pop("check_sum")  # they had none, either
    (tmp_path / FILE).write_bytes(json.dumps(values).encode() + b"\n" + rest[:-check_sum])
    again = load(tmp_path, CONFIG, SPEC)
    assert again.windows == memory.windows and again.fresh == memory.fresh


@pytest.mark.parametrize("keep", [0.0, 0.01, 0.1, 0.5, 0.999])
def test_damaged_file_is_refused(tmp_path: Path, keep: float) -> None:
    save(filled([101]), tmp_path)
    path = tmp_path / FILE
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    with pytest.raises(ReplayCorrupt, match="damaged"):
        load(tmp_path, CONFIG, SPEC)


@pytest.mark.parametrize("place", [0.001, 0.02, 0.3, 0.6, 0.9, 0.999999])
def test_a_byte_that_is_not_as_it_was_written_is_noticed(tmp_path: Path, place: float) -> None:
    """A reward that has become another one would be trained on."""
    save(filled([101]), tmp_path)
    data = bytearray((tmp_path / FILE).read_bytes())
    data[int(place * len(data))] ^= 1
    (tmp_path / FILE).write_bytes(data)
    memory = replay.in_memory(CONFIG, SPEC, seed=0)
    with pytest.raises(ReplayCorrupt, match="damaged"):
        restore(memory, tmp_path)
    assert not memory.windows and memory.inserted == 0


@pytest.mark.parametrize("head", [b"null", b"[1]", b"5", b'{"table": null}', b"{}", b"\xff"])
def test_whatever_stands_in_the_place_of_the_first_line_is_damage(tmp_path: Path, head: bytes) -> None:
    """Any other error would end every try to go on with the run."""
    save(filled([101]), tmp_path)
    rest = (tmp_path / FILE).read_bytes().split(b"\n", 1)[1]
    (tmp_path / FILE).write_bytes(head + b"\n" + rest)
    with pytest.raises((ReplayCorrupt, UserError)):
        load(tmp_path, CONFIG, SPEC)


def test_file_of_another_game_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no saved replay"):
        load(tmp_path, CONFIG, SPEC)
    save(filled([101]), tmp_path)
    with pytest.raises(UserError, match="another length or game"):
        load(tmp_path, replace(CONFIG, length=10), SPEC)


def test_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(filled([101]), tmp_path)
    before = (tmp_path / FILE).read_bytes()

    def fail(_: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        save(filled([60]), tmp_path)
    assert (tmp_path / FILE).read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [FILE]  # no leftover on a disk that is full already
