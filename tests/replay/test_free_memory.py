"""The memory that is left, on made-up systems: the smallest rest on the way from our group to the root counts."""

from __future__ import annotations

from pathlib import Path

import pytest

from replay.free_memory import available_memory

GIB = 2**30
MACHINE = 16 * GIB
V2 = "31 23 0:28 / /sys/fs/cgroup rw,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
HYBRID = V1 + "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n"
DOCKER_V1 = "35 31 0:32 /docker/abc /sys/fs/cgroup/memory ro,nosuid master:11 - cgroup cgroup rw,memory\n"
UNLIMITED_V1 = 9223372036854771712


def system(root: Path, *, mounts: str, group: str, files: dict[str, object]) -> Path:
    """A root with 16 GiB available and these files under sys/fs/cgroup."""
    proc = root / "proc" / "self"
    proc.mkdir(parents=True)
    (root / "proc" / "meminfo").write_text(f"MemTotal: 33554432 kB\nMemAvailable:   {MACHINE // 1024} kB\n")
    (proc / "cgroup").write_text(group)
    (proc / "mountinfo").write_text("20 1 8:1 / / rw - ext4 /dev/sda1 rw\n" + mounts)
    for name, value in files.items():
        path = root / "sys" / "fs" / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{value}\n")
    return root


@pytest.mark.parametrize(
    ("mounts", "group", "files", "left"),
    [
        pytest.param("", "", {}, 16.0, id="no groups"),
        pytest.param(V2, "0::/\n", {"memory.max": 3 * GIB, "memory.current": GIB}, 2.0, id="a container of version 2"),
        pytest.param(
            V2,
            "0::/user.slice/run.scope\n",
            {"user.slice/run.scope/memory.max": 2 * GIB, "user.slice/run.scope/memory.current": GIB // 2},
            1.5,
            id="systemd-run -p MemoryMax=2G: the limit is not at the root",
        ),
        pytest.param(
            V2,
            "0::/a/b/c\n",
            {
                "a/b/c/memory.max": "max",
                "a/b/c/memory.current": 0,
                "a/b/memory.max": 5 * GIB,
                "a/b/memory.current": 4 * GIB,
                "a/memory.max": 3 * GIB,
                "a/memory.current": 0,
            },
            1.0,
            id="the smallest rest, not the smallest limit",
        ),
        pytest.param(V2, "0::/a\n", {"a/memory.max": "max", "a/memory.current": GIB}, 16.0, id="max"),
        pytest.param(
            V2,
            "0::/a\n",
            {"a/memory.max": "max", "a/memory.high": 2 * GIB, "a/memory.current": GIB},
            1.0,
            id="a group that is slowed down from a size on",
        ),
        pytest.param(
            V2,
            "0::/a\n",
            {
                "a/memory.max": 4 * GIB,
                "a/memory.current": 4 * GIB,
                "a/memory.stat": f"anon {GIB}\nfile {3 * GIB}\ninactive_file {3 * GIB}",
            },
            3.0,
            id="contents of files are given back",
        ),
        pytest.param(V2, "0::/../../elsewhere\n", {"memory.max": GIB, "memory.current": 0}, 1.0, id="above our root"),
        pytest.param(
            V1,
            "9:name=systemd:/\n4:memory:/jobs/42\n0::/\n",
            {"memory/jobs/42/memory.limit_in_bytes": 3 * GIB, "memory/jobs/42/memory.usage_in_bytes": GIB},
            2.0,
            id="version 1",
        ),
        pytest.param(
            HYBRID,
            "4:cpu,memory:/jobs/42\n0::/x\n",
            {
                "memory/jobs/42/memory.limit_in_bytes": UNLIMITED_V1,
                "memory/jobs/42/memory.usage_in_bytes": GIB,
                "memory/jobs/memory.limit_in_bytes": 2 * GIB,
                "memory/jobs/memory.usage_in_bytes": GIB,
                "unified/x/memory.max": 8 * GIB,
            },
            1.0,
            id="both versions, and a limit above",
        ),
        pytest.param(
            DOCKER_V1,
            "4:memory:/docker/abc\n",
            {"memory/memory.limit_in_bytes": 2 * GIB, "memory/memory.usage_in_bytes": GIB // 2},
            1.5,
            id="docker with version 1: its part of the tree is mounted",
        ),
        pytest.param(
            DOCKER_V1,
            "4:memory:/docker/abc/inner\n",
            {"memory/inner/memory.limit_in_bytes": GIB, "memory/inner/memory.usage_in_bytes": 0},
            1.0,
            id="a group inside of that",
        ),
        pytest.param(V2, "0::/a\n", {"a/memory.max": GIB, "a/memory.current": 2 * GIB}, 0.0, id="more than allowed"),
    ],
)
def test_what_is_left(tmp_path: Path, mounts: str, group: str, files: dict[str, object], left: float) -> None:
    assert available_memory(system(tmp_path, mounts=mounts, group=group, files=files)) == left * GIB


def test_of_this_machine() -> None:
    assert 0 < available_memory() < 1 << 50
