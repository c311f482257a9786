"""A MemoryReplay on disk: one file, replaced in one go.

    line of JSON: counts, generator state     windows int32 [W, T]     fresh int32 [W]     records, one after another

A window is saved as the numbers of its T records, so that a record is written once however many windows share it.
Games that are running are not saved: after a load writers start afresh, with new games.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from replay.config import ReplayConfig, UserError, max_windows
from replay.experience import EnvSpec
from replay.interface import ReplayCorrupt
from replay.memory_backend import MemoryReplay, Window
from replay.schema import record_dtype, table_name

FILE = "replay.bin"


def save(replay: MemoryReplay, directory: Path) -> None:
    """Writes the whole replay into `directory`; a file of before stays until the new one is complete."""
    numbers: dict[int, int] = {}  # id of a record -> its place in the file
    records: list[bytes] = []
    windows = np.zeros((len(replay.windows), replay.config.length), np.int32)
    for row, window in enumerate(replay.windows):
        for column, record in enumerate(window):
            if id(record) not in numbers:
                numbers[id(record)] = len(records)
                records.append(record)
            windows[row, column] = numbers[id(record)]
    head = {
        "table": table_name(replay.config, replay.spec),
        "records": len(records),
        "oldest": replay.oldest,
        "inserted": replay.inserted,
        "sampled": replay.sampled,
        "rng": replay.rng.bit_generator.state,
    }
    directory.mkdir(parents=True, exist_ok=True)
    partial = directory / f"{FILE}.partial"
    with partial.open("wb") as file:
        file.write(json.dumps(head).encode() + b"\n")
        np.save(file, windows, allow_pickle=False)
        np.save(file, np.asarray(replay.fresh, np.int32), allow_pickle=False)
        file.writelines(records)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, directory / FILE)


def load(directory: Path, config: ReplayConfig, spec: EnvSpec) -> MemoryReplay:
    """The replay as saved, so that sampling goes on as if nothing had happened."""
    path = directory / FILE
    if not path.is_file():
        raise UserError(f"there is no saved replay at {path}")
    try:
        with path.open("rb") as file:
            head = json.loads(file.readline())
            if head["table"] != table_name(config, spec):
                raise UserError(f"{path} holds windows of another length or game than asked for")
            windows, fresh = _read_windows(file, head, record_dtype(spec).itemsize)
    except (KeyError, IndexError, EOFError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ReplayCorrupt(f"{path} is damaged: {error}") from error
    replay = MemoryReplay(config, spec, seed=0)
    replay.inserted, replay.sampled = head["inserted"], head["sampled"]
    replay.rng.bit_generator.state = head["rng"]
    replay.windows, replay.fresh, replay.oldest = windows, fresh, head["oldest"]
    _fit(replay)
    return replay


def _read_windows(file: BinaryIO, head: dict[str, Any], itemsize: int) -> tuple[list[Window], list[int]]:
    try:
        numbers, fresh = np.load(file, allow_pickle=False), np.load(file, allow_pickle=False)
    except ValueError as error:  # what numpy says of a short file
        raise EOFError(str(error)) from error
    records = [file.read(itemsize) for _ in range(head["records"])]
    if any(len(record) != itemsize for record in records) or file.read(1):
        raise EOFError(f"it should hold exactly {head['records']} records")
    return [tuple(records[number] for number in row) for row in numbers], [int(count) for count in fresh]


def _fit(replay: MemoryReplay) -> None:
    """Makes the ring fit a capacity that differs from the one it was saved with: the newest windows stay."""
    room = max_windows(replay.config)
    if len(replay.windows) == room or (len(replay.windows) < room and replay.oldest == 0):
        return
    split = replay.oldest
    replay.windows = (replay.windows[split:] + replay.windows[:split])[-room:]
    replay.fresh = (replay.fresh[split:] + replay.fresh[:split])[-room:]
    replay.oldest = 0
