"""Which places a new run may take, and what of an existing one can be read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cluster.presets import cpu
from cluster.run import directory as run_dir
from replay.errors import UserError


@pytest.mark.parametrize("left", [[], ["lock"], ["lock", ".run_id.71"], ["run_id", "lock", "videos", ".config.json.7"]])
def test_a_directory_whose_making_was_killed_can_be_made(tmp_path: Path, left: list[str]) -> None:
    for name in left:
        (tmp_path / name).mkdir() if name == "videos" else (tmp_path / name).write_text("")
    run = run_dir.create(tmp_path, cpu())
    assert run_dir.open_run(tmp_path) == (run, cpu())
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("names", [["videos"], ["videos", "lock"], ["run_id", "mine"], [".mine.71"], ["checkpoints"]])
def test_what_somebody_else_may_have_made_is_left_alone(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        (tmp_path / name).write_text("precious")
    with pytest.raises(UserError, match="not empty"):
        run_dir.create(tmp_path, cpu())
    assert {path.name for path in tmp_path.iterdir()} == set(names)


def test_a_name_that_the_file_system_refuses_is_a_wrong_request(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for path in (tmp_path / ("n" * 300), tmp_path / ("n" * 300) / "run", tmp_path / "loop", tmp_path / "loop" / "run"):
        with pytest.raises(UserError, match="cannot write"):
            run_dir.create(path, cpu())
        with pytest.raises(UserError):
            run_dir.open_run(path)


def test_the_damaged_file_is_named(tmp_path: Path) -> None:
    run_dir.create(tmp_path, cpu())
    for text in (b"\xff", b""):
        (tmp_path / "run_id").write_bytes(text)
        with pytest.raises(UserError, match="run_id is damaged"):
            run_dir.open_run(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"config\.json is damaged"):
        run_dir.open_run(tmp_path)


def test_a_configuration_saved_by_an_editor_of_windows_is_read(tmp_path: Path) -> None:
    run = run_dir.create(tmp_path, cpu())
    text = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(text.replace("\n", "\r\n"), encoding="utf-8-sig")
    assert json.loads(text) and run_dir.open_run(tmp_path) == (run, cpu())
