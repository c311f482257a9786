"""A MemoryReplay on disk: one file, replaced in one go; the same file wherever the records live.

    line of JSON: counts, generator state     windows int32 [W, T]     fresh int32 [W]     records, one after another
    check sum of all that uint32 (files of before have none)

A window is saved as the numbers of its T records, so that a record is written once however many windows share it.
Windows are in the order of their age, and records in that of the windows.
Games that are running are not saved: after a load writers start afresh, with new games.
"""

from __future__ import annotations

import json
import os
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib.format import read_array

from replay.atomic import make_folder, write_atomically
from replay.config import max_windows
from replay.errors import ReplayCorrupt, UserError
from replay.memory_backend import MemoryReplay, Record, Window
from replay.schema import record_dtype, table_name

FILE = "replay.bin"
LONGEST = 200  # characters of an error of somebody else's
SUM = 4  # bytes of a check sum
CHUNK = 4096  # records written at a time: 16 MiB of 64x64 frames; ours


class Summed:
    """A file with the check sum of all that was written to it, or read from it, so far."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._sum = file, 0

    def write(self, data: bytes) -> int:
        self._sum = zlib.crc32(data, self._sum)
        return self._file.write(data)

    def read(self, size: int) -> bytes:
        return self._take(self._file.read(size))

    def readline(self) -> bytes:
        return self._take(self._file.readline())

    def rest(self) -> int:
        """Bytes that are still to be read."""
        return os.fstat(self._file.fileno()).st_size - self._file.tell()

    def check_sum(self) -> bytes:
        """uint32, little-endian."""
        return self._sum.to_bytes(SUM, "little")

    def _take(self, data: bytes) -> bytes:
        self._sum = zlib.crc32(data, self._sum)
        return data


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
        "check_sum": SUM,  # its bytes at the end of the file
    }

    def write(disk: BinaryIO) -> None:
        file = Summed(disk)
        file.write(json.dumps(head).encode() + b"\n")
        np.save(file, windows, allow_pickle=False)
        np.save(file, np.array([*replay.fresh.values()], np.int32), allow_pickle=False)
        for start in range(0, len(records), CHUNK):
            file.write(replay.records.dump(records[start : start + CHUNK]))
        disk.write(file.check_sum())

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
        with path.open("rb") as disk:
            file = Summed(disk)
            head = json.loads(file.readline())
            if head["table"] != table_name(replay.config, replay.spec):
                raise UserError(f"{path} holds windows of another length or game (or state) than asked for")
            windows, fresh = _read_windows(file, head, replay)
            counts = int(head["inserted"]), int(head["sampled"])
            replay.rng.bit_generator.state = head["rng"]
    except (UserError, OSError, MemoryError):
        raise
    except Exception as error:  # whatever a byte that is not as it was written may lead to
        raise ReplayCorrupt(f"{path} is damaged: {' '.join(str(error).split())[:LONGEST]}") from error
    replay.inserted, replay.sampled = counts
    kept = [pair for pair in zip(windows, fresh, strict=True) if replay.records.holds(pair[0])]
    kept = kept[-max_windows(replay.config) :]
    for number, (window, count) in enumerate(kept, start=replay.inserted - len(kept)):
        replay.windows[number], replay.fresh[number] = window, count


def _read_windows(file: Summed, head: dict[str, Any], replay: MemoryReplay) -> tuple[list[Window], list[int]]:
    numbers: np.ndarray[Any, Any] = read_array(file, allow_pickle=False)  # type: ignore[no-untyped-call]
    fresh: np.ndarray[Any, Any] = read_array(file, allow_pickle=False)  # type: ignore[no-untyped-call]
    itemsize = record_dtype(replay.spec).itemsize
    sums = head.get("check_sum", 0)
    if file.rest() != head["records"] * itemsize + sums:
        raise ValueError(f"it should hold exactly {head['records']} records")
    records = [replay.put(file.read(itemsize)) for _ in range(head["records"])]
    found = file.check_sum()
    if sums and file.read(SUM) != found:
        raise ValueError("its check sum is wrong")
    split = head.get("oldest", 0)  # in files from when windows were kept as a ring: where it began
    numbers, fresh = np.roll(numbers, -split, axis=0), np.roll(fresh, -split)
    return [tuple(records[number] for number in row) for row in numbers.tolist()], fresh.tolist()
