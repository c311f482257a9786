"""The books of policy steps, and files on a full disk."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.messages import ActorMessage
from cluster.run import books, files
from cluster.run.books import Books
from cluster.run.files import Curves, Lines
from cluster.run.log_file import recording
from tests.cluster.disks import fill, mounted
from tests.cluster.tiny import ROOT, rows


def message(incarnation: int, played: int, acknowledged: int = 0, dropped: int = 0, *, actor: int = 0) -> ActorMessage:
    return ActorMessage(actor, incarnation, played, [], 0, 1.0, 0.0, acknowledged, dropped)


def test_lost_late_and_doubled_messages_change_no_sum(tmp_path: Path) -> None:
    account = Books(tmp_path / "actors.json")
    assert account.take(message(0, 10)) == 10
    assert account.take(message(0, 35, 20)) == 25  # the one with 20 was lost
    assert account.take(message(0, 20, 8)) == 0  # and comes late
    assert account.take(message(0, 35, 20)) == 0
    assert account.take(message(1, 5)) == 5  # the successor began
    assert account.take(message(0, 40, 30, 4)) == 5  # its predecessor, behind a cut link, was still playing: really so
    assert (account.acknowledged(), account.open_steps()) == (30, 11)


def test_the_books_of_earlier_drivers_stay(tmp_path: Path) -> None:
    path = tmp_path / "actors.json"
    first = Books(path)
    first.take(message(0, 10, 8, 1))
    first.save()
    second = Books(path)
    assert second.take(message(0, 3, actor=1)) == 3
    second.save()
    second.save()
    assert books.read(path) == [
        {"driver": 0, "actor": 0, "incarnation": 0, "played": 10, "acknowledged": 8, "dropped": 1},
        {"driver": 1, "actor": 1, "incarnation": 0, "played": 3, "acknowledged": 0, "dropped": 0},
    ]
    for rubbish in ("rubbish", "{}", "[3]", '[{"actor": 1}]', "null"):
        path.write_text(rubbish)
        assert Books(path).take(message(0, 1)) == 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path, "256k") as disk:
        yield disk


@pytest.mark.slow
def test_a_full_disk_costs_lines_and_points_but_neither_whole_lines_nor_the_process(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(files, "FLUSH_SECONDS", -1.0)  # at once
    monkeypatch.setattr(files, "RETRY_SECONDS", 0.0)
    lines, curves = Lines(small_disk / "lines.jsonl"), Curves(small_disk / "tensorboard")

    def write(steps: range) -> None:
        for step in steps:
            lines.write({"step": step})
            curves.add_scalar("train/loss", float(step), step)

    write(range(50))
    fill(small_disk / "fill")
    write(range(50, 2000))
    assert caplog.text.count("cannot write to lines.jsonl (No space left on device)") == 1
    assert "cannot write curves" in caplog.text
    (small_disk / "fill").unlink()
    write(range(2000, 2050))
    lines.close()
    curves.close()
    written = [row["step"] for row in rows(small_disk / "lines.jsonl")]
    assert written[:50] == list(range(50)) and written[-50:] == list(range(2000, 2050))
    shown = points_of(small_disk / "tensorboard")
    assert shown[:50] == list(range(50)) and shown[-50:] == list(range(2000, 2050))


def test_what_cannot_be_written_is_said_once_and_again_when_it_can(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The books, whose folder is not there; at every interval once."""
    account = Books(tmp_path / "gone" / "actors.json")
    for _ in range(5):
        account.save()
    (tmp_path / "gone").mkdir()
    account.save()
    (tmp_path / "gone" / "actors.json").unlink()
    (tmp_path / "gone").rmdir()
    account.save()
    assert [record.getMessage() for record in caplog.records] == [
        "cannot write to actors.json (No such file or directory); training goes on",
        "actors.json can be written again",
        "cannot write to actors.json (No such file or directory); training goes on",
    ]


def test_a_log_on_a_full_disk_costs_its_lines_and_says_so(small_disk: Path, caplog: pytest.LogCaptureFixture) -> None:
    with recording(["--seed", "1"]) as log_file:
        log_file.open(small_disk / "log.txt")
        fill(small_disk / "fill")
        for number in range(500):
            logging.getLogger("run").info("line %d", number)
        (small_disk / "fill").unlink()
        logging.getLogger("run").info("the last")
    assert caplog.text.count("cannot write to log.txt (No space left on device)") == 1
    lines = (small_disk / "log.txt").read_text().splitlines()
    assert all(" run: " in line or "log.txt" in line for line in lines), "whole lines"
    assert "INFO run: began: train --seed 1, process" in lines[0]
    assert "the last" in lines[-2] and "log.txt can be written again" in lines[-1]


def test_numbers_that_are_not_finite_are_null_and_named_when_that_begins(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lines = Lines(tmp_path / "metrics.jsonl")
    for kl in (1.0, float("nan"), float("nan"), 2.0, float("inf")):
        lines.write({"update": 3, "kl": kl})
    lines.close()
    assert [row["kl"] for row in rows(tmp_path / "metrics.jsonl")] == [1.0, None, None, 2.0, None]
    assert "NaN" not in (tmp_path / "metrics.jsonl").read_text()
    assert caplog.text.count("not finite, so null in metrics.jsonl: kl") == 2


def points_of(folder: Path) -> list[int]:
    """Steps of the points that TensorBoard shows; it runs in a process of its own, as it may load TensorFlow."""
    code = (
        "from tensorboard.backend.event_processing.event_accumulator import EventAccumulator as E\n"
        f"e = E({str(folder)!r}, size_guidance={{'scalars': 0}}); e.Reload()\n"
        "print(*[point.step for point in e.Scalars('train/loss')])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return [int(step) for step in done.stdout.split()]
