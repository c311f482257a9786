"""Files that are there whole or not at all, whatever kills the process or the machine: all that we save is written so.

A temporary `.NAME.PID` beside the target is made durable and then renamed. One that a killed process left behind is
removed by whoever saves there next: see `sweep`.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

TEMPORARY = re.compile(r"\..+\.\d+")
NO_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EBADF)  # a file system that cannot make a directory durable by itself


def write_atomically(path: Path, write: Callable[[BinaryIO], Any]) -> None:
    """Calls write(file), then puts the file in place, durably. On failure nothing is left behind, and `path` stays.

    Raises OSError, and whatever `write` raises.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def write_text(path: Path, text: str) -> None:
    """The same for a short text. Raises OSError."""
    write_atomically(path, lambda file: file.write(text.encode()))


def make_folder(folder: Path) -> None:
    """Makes a folder, and those above it, that are still there after a power failure. Raises OSError."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_directory(folder.parent)


def sync_directory(folder: Path) -> None:
    """Makes names that were given, changed or taken away in a directory durable. Raises OSError."""
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    except OSError as error:
        if error.errno not in NO_SYNC:
            raise
    finally:
        os.close(number)


def sweep(folder: Path) -> None:
    """Removes what killed writers left in a folder, as far as that can be. Only for whoever alone writes there."""
    for path in folder.glob(".*"):
        if TEMPORARY.fullmatch(path.name) and path.is_file():
            with suppress(OSError):
                path.unlink(missing_ok=True)
