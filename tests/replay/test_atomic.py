"""Files that are there whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from replay import checkpoints
from replay.atomic import make_folder, sweep, write_atomically, write_text


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[str]]]:
    """What is made durable, in order: its name, and the names that lie beside it at that moment."""
    seen: list[tuple[str, list[str]]] = []
    fsync = os.fsync

    def watched(number: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{number}"))
        folder = path if path.is_dir() else path.parent
        seen.append((path.name, sorted(found.name for found in folder.iterdir())))
        fsync(number)

    monkeypatch.setattr(os, "fsync", watched)
    return seen


def test_the_file_is_durable_before_it_has_its_name_and_then_the_name_is(
    tmp_path: Path, synced: list[tuple[str, list[str]]]
) -> None:
    write_text(tmp_path / "file", "text")
    temporary = f".file.{os.getpid()}"
    assert synced == [(temporary, [temporary]), (tmp_path.name, ["file"])]
    assert (tmp_path / "file").read_text() == "text"


def test_new_folders_are_durable_from_the_top(tmp_path: Path, synced: list[tuple[str, list[str]]]) -> None:
    make_folder(tmp_path / "a" / "b")
    assert [name for name, _ in synced] == [tmp_path.name, "a"]
    make_folder(tmp_path / "a" / "b")
    assert len(synced) == 2
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        make_folder(tmp_path / "file")


@pytest.mark.parametrize("error", [OSError("no room"), RuntimeError("device"), KeyboardInterrupt()])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, error: BaseException) -> None:
    write_text(tmp_path / "file", "old")

    def fail(file) -> None:
        file.write(b"half")
        raise error

    with pytest.raises(type(error)):
        write_atomically(tmp_path / "file", fail)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "old"


def test_what_a_killed_writer_left_is_swept_and_nothing_else(tmp_path: Path) -> None:
    for name in (".update-000000020.pt.4711", ".state.json.1"):
        (tmp_path / name).write_text("half")
    kept = [".hidden", ".nfs0001", "file", "file.1"]
    for name in kept:
        (tmp_path / name).write_text("whole")
    sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == kept
    sweep(tmp_path / "not there")


def test_a_servers_checkpoint_that_was_not_completed_is_gone_before_the_next_start(tmp_path: Path) -> None:
    for name in ("newest/1", "newest/2", "previous/0", "previous.partial/1"):
        (tmp_path / "t" / name).mkdir(parents=True)
        (tmp_path / "t" / name / "chunks").write_bytes(b"some")
    for name in ("newest/1", "previous/0"):
        (tmp_path / "t" / name / "DONE").touch()
    write_text(tmp_path / "t" / "settings.json", '{"a": 1}')
    checkpoints.prepare(tmp_path / "t", {"a": 1})
    assert sorted(path.name for path in (tmp_path / "t").iterdir()) == ["newest", "previous", "settings.json"]
    assert [path.name for path in (tmp_path / "t" / "newest").iterdir()] == ["1"]
