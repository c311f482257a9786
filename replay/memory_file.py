"""A MemoryReplay on disk: one file, replaced in one go; the same file wherever the records live.

    line of JSON: counts, generator state     windows int32 [W, T]     fresh int32 [W]     records, one after another

A window is saved as the numbers of its T records, so that a record is written once however many windows share it.
Windows are in the order of their age, and records in that of the windows.
Games that are running are not saved: after a load writers start afresh, with new games.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from replay.atomic import make_folder, write_atomically
from replay.config import max_windows
from replay.errors import ReplayCorrupt, UserError
from replay.memory_backend import MemoryReplay, Record, Window
from replay.schema import record_dtype, table_name

FILE = "replay.bin"
CHUNK = 4096  # records written at a time: 16 MiB of 64x64 frames; ours


def save(replay: MemoryReplay, directory: Path) -> None:
    """Writes the whole replay into `directory`; a file of before stays until the new one is complete.

    Raises OSError; there may be an empty `directory` then.
    """
    numbers: dict[int, int] = {}  # id of a record -> its place in the file
    records: list[Record] = []
    windows = np.zeros((len(replay.windows), replay.config.length), np.int32)
    for row, window in enumerate(replay.windows.values()):
        for column, record in enumerate(window):
            if id(record) not in numbers:
                numbers[id(record)] = len(records)
                records.append(record)
            windows[row, column] = numbers[id(record)]
    head = {
        "table": table_name(replay.config, replay.spec),
        "records": len(records),
        "inserted": replay.inserted,
        "sampled": replay.sampled,
        "rng": replay.rng.bit_generator.state,
    }

    def write(file: BinaryIO) -> None:
        file.write(json.dumps(head).encode() + b"\n")
        np.save(file, windows, allow_pickle=False)
        np.save(file, np.array([*replay.fresh.values()], np.int32), allow_pickle=False)
        for start in range(0, len(records), CHUNK):
            file.write(replay.records.dump(records[start : start + CHUNK]))

    make_folder(directory)
    write_atomically(directory / FILE, write)


def restore(replay: MemoryReplay, directory: Path) -> None:
    """Makes an empty replay what was saved, so that sampling goes on as if nothing had happened.

    UserError or ReplayCorrupt if that cannot be; the replay is then as good as before. With less capacity than the
    saved one had, it keeps the newest windows.
    """
    path = directory / FILE
    if not path.is_file():
        raise UserError(f"there is no saved replay at {path}")
    try:
        with path.open("rb") as file:
            head = json.loads(file.readline())
            if head["table"] != table_name(replay.config, replay.spec):
                raise UserError(f"{path} holds windows of another length or game (or state) than asked for")
            windows, fresh = _read_windows(file, head, replay)
    except (KeyError, IndexError, EOFError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ReplayCorrupt(f"{path} is damaged: {error}") from error
    replay.inserted, replay.sampled = head["inserted"], head["sampled"]
    replay.rng.bit_generator.state = head["rng"]
    kept = [pair for pair in zip(windows, fresh, strict=True) if replay.records.holds(pair[0])]
    kept = kept[-max_windows(replay.config) :]
    for number, (window, count) in enumerate(kept, start=replay.inserted - len(kept)):
        replay.windows[number], replay.fresh[number] = window, count


def _read_windows(file: BinaryIO, head: dict[str, Any], replay: MemoryReplay) -> tuple[list[Window], list[int]]:
    try:
        numbers, fresh = np.load(file, allow_pickle=False), np.load(file, allow_pickle=False)
    except ValueError as error:  # what numpy says of a short file
        raise EOFError(str(error)) from error
    itemsize = record_dtype(replay.spec).itemsize
    if os.fstat(file.fileno()).st_size - file.tell() != head["records"] * itemsize:
        raise EOFError(f"it should hold exactly {head['records']} records")
    records = [replay.put(file.read(itemsize)) for _ in range(head["records"])]
    split = head.get("oldest", 0)  # in files from when windows were kept as a ring: where it began
    numbers, fresh = np.roll(numbers, -split, axis=0), np.roll(fresh, -split)
    return [tuple(records[number] for number in row) for row in numbers.tolist()], fresh.tolist()
