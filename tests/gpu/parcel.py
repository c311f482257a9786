"""What comes back from the machine: a few files, none of them large."""

from __future__ import annotations

import tarfile
from pathlib import Path

PIECE = 15_000_000  # bytes
PIECES = 3  # of the run: with gpu.json and four logs these are eight files
# What is left out first where all of it is too much; the last is left out never.
CHOICES = (
    ("run/config.json", "run/*.jsonl", "run/log.txt", "agent", "dream.gif"),
    ("run/config.json", "run/*.jsonl", "run/log.txt", "agent"),
    ("run/config.json", "run/*.jsonl", "run/log.txt"),
)


def pack(work: Path, target: Path) -> list[str]:
    """Makes target.00, target.01 ... of the run in `work` -> what is in them; [] where there is no run."""
    archive = work / "run.tar.gz"
    for patterns in CHOICES:
        found = sorted(path for pattern in patterns for path in work.glob(pattern))
        with tarfile.open(archive, "w:gz") as tar:
            for path in found:
                tar.add(path, arcname=path.relative_to(work).as_posix())
        if archive.stat().st_size <= PIECE * PIECES:
            break
    if not found:
        return []
    with archive.open("rb") as whole:
        for number in range(PIECES):
            if piece := whole.read(PIECE):
                target.with_name(f"{target.name}.{number:02d}").write_bytes(piece)
    return [path.relative_to(work).as_posix() for path in found]


def cap(log: Path) -> None:
    """Keeps the end of a log that is too long."""
    size = log.stat().st_size
    if size > PIECE:
        with log.open("rb") as file:
            file.seek(size - PIECE)
            end = file.read()
        log.write_bytes(end)
