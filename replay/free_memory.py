"""How much memory this process can still get: of the machine, and of the control groups (containers) around it.

/proc/self/cgroup      0::/a/b              of version 2;  4:memory:/a/b  of version 1
/proc/self/mountinfo   where these trees are mounted, and which part of them (a container sees its own only)
/sys/fs/cgroup/a/b, /sys/fs/cgroup/a, /sys/fs/cgroup: each may have a limit, and the smallest rest counts
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

HERE = PurePosixPath()
NO_LIMIT = 1 << 62  # more than any machine has; version 1 writes something like it, too


class Files(NamedTuple):
    """What the files of a group are called."""

    limits: tuple[str, ...]
    used: str
    cache: str  # field of memory.stat: of what is used, file contents that are given back when memory is wanted


VERSION_2 = Files(("memory.max", "memory.high"), "memory.current", "inactive_file")
VERSION_1 = Files(("memory.limit_in_bytes",), "memory.usage_in_bytes", "total_inactive_file")


def available_memory(root: Path = Path("/")) -> int:
    """Bytes that this machine, or the containers around us, can still give. root: where proc and sys are."""
    fields = dict(line.split(":", 1) for line in (root / "proc/meminfo").read_text(encoding="ascii").splitlines())
    free = int(fields["MemAvailable"].split()[0]) * 1024
    return min([free, *(rest(folder, files) for folder, files in groups(root))])


def rest(folder: Path, files: Files) -> int:
    """What one group leaves us, in bytes; NO_LIMIT where it has no limit or does not say."""
    limit = min(number(folder / name) for name in files.limits)
    if limit >= NO_LIMIT:
        return NO_LIMIT
    used = number(folder / files.used, default=0)
    return max(0, limit - max(0, used - cache(folder / "memory.stat", files.cache)))


def groups(root: Path) -> Iterator[tuple[Path, Files]]:
    """The folders of all groups that we are in, the innermost first, as far as they can be seen."""
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, group = line.split(":", 2)
        for tree, shown, place in _mounts(root):
            if tree not in controllers.split(","):
                continue
            inner = PurePosixPath(group)
            inside = inner.relative_to(shown) if inner.is_relative_to(shown) and ".." not in inner.parts else HERE
            for path in dict.fromkeys([inside, *inside.parents, HERE]):
                yield root / place.relative_to("/") / path, VERSION_1 if tree else VERSION_2


def _mounts(root: Path) -> Iterator[tuple[str, PurePosixPath, PurePosixPath]]:
    """(tree: "" of version 2 or "memory" of version 1, the part of it that is shown, where)."""
    for line in _lines(root / "proc/self/mountinfo"):
        head, _, tail = line.partition(" - ")
        kind, fields = tail.split(" "), head.split(" ")
        if kind[0] == "cgroup2":
            yield "", PurePosixPath(fields[3]), PurePosixPath(fields[4])
        elif kind[0] == "cgroup" and "memory" in kind[-1].split(","):
            yield "memory", PurePosixPath(fields[3]), PurePosixPath(fields[4])


def number(path: Path, *, default: int = NO_LIMIT) -> int:
    """What stands in a file; `default` for "max", rubbish, and where there is no such file."""
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return default


def cache(path: Path, name: str) -> int:
    """A field of memory.stat; 0 where it is not."""
    found = (line.split() for line in _lines(path))
    return next((int(words[1]) for words in found if len(words) == 2 and words[0] == name and words[1].isdigit()), 0)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
