"""How is it going? What `status` says of runs in every state."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from cluster.cli import main
from cluster.commands.status import describe, lines_of, read_files, tail, trend
from cluster.commands.status_text import duration
from cluster.presets import cpu
from cluster.run import directory as run_dir
from cluster.run import state as run_state
from cluster.run.directory import Run
from tests.cluster.disks import fill, mounted

NOW = 1_800_000_000.0


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run of this process, with two rows and a warning."""
    found = run_dir.create(tmp_path / "run", cpu())
    rows = [row(NOW - 20, update=90, updates_per_second=4.0), row(NOW - 10, update=100, updates_per_second=6.0, kl=5.0)]
    lines = "".join(json.dumps(each) + "\n" for each in rows)
    (found.path / "metrics.jsonl").write_text(lines + '{"time": 18')  # a line that is being written
    (found.path / "episodes.jsonl").write_text(
        "".join(json.dumps({"score": s}) + "\n" for s in [1.0] * 40 + [9.0] * 40)
    )
    (found.path / "log.txt").write_text(
        "2026-11-25 10:00:00,000 WARNING roles: of the invocation before\n"
        "2026-11-25 11:00:00,000 INFO run: run directory runs/x\n"
        "2026-11-25 11:00:01,000 ERROR roles: no checkpoint now\n"
    )
    run_state.begin(found.path, runtime="ray", metrics="http://127.0.0.1:9108/metrics")
    return found


def row(when: float, **values: float) -> dict[str, float]:
    usual = {
        "policy_step": 1600,
        "frame": 6400,
        "policy_steps_per_second": 80.0,
        "learner_wait": 0.0,
        "actor_wait": 0.9,
    }
    return {"time": when, "replay_ratio": 3.9, "replay_steps": 1500, **usual, **values}


def text_of(run: Run, now: float = NOW) -> str:
    return "\n".join(lines_of(describe(read_files(run.path), now=now)))


def began(run: Run, **changes: object) -> None:
    """The state of this process's run, as of NOW."""
    state = run_state.read(run.path)
    assert state is not None
    text = json.dumps(state._replace(began=NOW - 3700)._replace(**changes)._asdict())
    (run.path / "state.json").write_text(text)


def test_a_failed_run_tells_why(run: Run) -> None:
    run_state.end(run.path, "", "RuntimeError: CUDA error: out of luck")
    report = describe(read_files(run.path), now=time.time())
    assert (report["state"], report["why"]) == ("failed", "RuntimeError: CUDA error: out of luck")
    assert "failed" in text_of(run) and "RuntimeError: CUDA error: out of luck; go on with" in text_of(run)


def test_rows_that_are_torn_foreign_or_not_finite_are_no_hindrance(run: Run) -> None:
    with (run.path / "metrics.jsonl").open("a") as file:
        # A torn line, one that is no object, and rows of a program that wrote NaN, or nothing of what is expected.
        file.write('00}\n17\n{"updates_per_second": NaN, "time": 1}\n{}\n')
        file.write(json.dumps(row(NOW - 1, update=101, updates_per_second=None, kl=None)) + "\n")
    with (run.path / "episodes.jsonl").open("a") as file:
        file.write('{"score": null}\n{"score": NaN}\n{}\n[]\n{"sco')
    report = describe(read_files(run.path), now=NOW)
    assert report["update"] == 101 and report["updates_per_second"] == 5.0
    assert report["score"]["games"] == 40 and report["world_model"]["kl"] == 5.0
    assert lines_of(report)


def test_what_was_said_before_the_log_was_open_belongs_to_its_invocation(run: Run) -> None:
    with (run.path / "log.txt").open("a") as file:
        file.write(
            "2026-11-25 12:00:00,000 INFO run: began: train --resume, process 1 on host\n"
            "2026-11-25 12:00:00,000 WARNING checkpoint: damaged\n"
            "2026-11-25 12:00:01,000 INFO run: run directory runs/x\n"
        )
    assert describe(read_files(run.path), now=NOW)["warnings"]["count"] == 1


def test_a_running_run(run: Run) -> None:
    began(run)
    text = text_of(run)
    assert 10 <= text.count("\n") + 1 <= 14
    for words in (
        "running for 1 h 1 min, last news 10 s ago",
        "policy step 1,600 (frame 6,400), update 100",
        "5.0 updates/s, 80 policy steps/s",
        "9.00, mean of the last 40 games (best 9); 1.00 in as many before: rising",
        "ratio 3.90 of 4, 1,500 policy steps",
        "actors wait for learner 90%",
        "none yet",
        "kl 5",
        "1 in log.txt, the last: 2026-11-25 11:00:01,000 ERROR roles: no checkpoint now",
        "http://127.0.0.1:9108/metrics",
    ):
        assert words in text, words


@pytest.mark.parametrize(
    ("changes", "later", "words"),
    [
        ({}, 600.0, "has been silent for 10 min 10 s"),
        ({"ended": NOW - 5, "why": "100 updates done"}, 0.0, "ended 5 s ago: 100 updates done"),
        ({"ended": NOW - 5}, 0.0, "failed 5 s ago"),
        ({"process_start": "f01fb613 1"}, 0.0, "killed, last news 10 s ago"),  # another process has this number now
        ({"process_start": 1.0}, 0.0, "running for"),  # of an older version: nobody can know
        ({"host": "elsewhere"}, 0.0, "running for"),
        ({"host": "elsewhere"}, 600.0, "does not run, as far as its files tell; last news 10 min 10 s ago"),
    ],
)
def test_every_other_state(run: Run, changes: dict, later: float, words: str) -> None:
    began(run, **changes)
    assert words in text_of(run, NOW + later)


def test_a_run_that_is_just_beginning(tmp_path: Path) -> None:
    found = run_dir.create(tmp_path / "run", cpu())
    run_state.begin(found.path, runtime="inline", metrics="off")
    text = text_of(found, time.time())
    assert "running for 0 s, no news yet" in text and "no game is over yet" in text


def test_a_trend_is_said_only_where_chance_does_not_explain_it() -> None:
    assert trend([]) is None
    few = trend([1.0] * 30)
    assert few is not None and few["before"] is None
    level = trend([1.0, 3.0] * 100)
    assert level is not None and level["games"] == 100 and abs(level["mean"] - level["before"]) < level["noise"]


def test_only_the_end_of_a_long_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.commands.status.TAIL", 50)
    (tmp_path / "long.jsonl").write_text("".join(json.dumps({"n": n}) + "\n" for n in range(1000)))
    found = tail(tmp_path / "long.jsonl")
    assert 2 < len(found) < 6 and found[-1] == {"n": 999}
    assert tail(tmp_path / "none.jsonl") == []


def test_the_command(run: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["status", str(run.path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["update"] == 100 and found["state"] == "running" and found["runtime"] == "ray"
    assert main(["status", str(tmp_path / "nowhere")]) == 2
    assert "holds no run" in capsys.readouterr().err
    state = run_state.read(run.path)
    assert state is not None and state.pid == os.getpid()


def test_durations_have_their_two_largest_units() -> None:
    assert [duration(s) for s in (0.4, 59, 61, 3600, 90061)] == ["0 s", "59 s", "1 min 1 s", "1 h 0 min", "1 d 1 h"]


@pytest.mark.parametrize(
    "line", [b"null", b"[1]", b'{"time": "x", "kl": {}}', b'{"score": "x"}', b"\xff\x00", b"[" * 99999]
)
def test_lines_that_are_none_of_ours_say_nothing(run: Run, line: bytes) -> None:
    expected = text_of(run)
    for name in ("metrics.jsonl", "episodes.jsonl"):
        (run.path / name).write_bytes((run.path / name).read_bytes() + b"\n" + line + b"\n")
    assert text_of(run) == expected


@pytest.mark.parametrize(
    "changes", [{"began": "x"}, {"pid": None}, {"ended": {}}, {"runtime": 5}, {"runtime": "abacus"}]
)
def test_a_state_that_is_none_of_ours_is_none(run: Run, changes: dict) -> None:
    began(run, **changes)
    assert run_state.read(run.path) is None and text_of(run)


def test_a_run_without_its_state_has_the_runtime_of_its_replay(run: Run) -> None:
    """Else the replay of a run of one process would be left behind without a word: who names no runtime gets Ray."""
    assert run_state.runtime_of(run.path) == "ray"
    (run.path / "state.json").unlink()
    assert run_state.runtime_of(run.path) is None
    (run.replay / "update-000000001").mkdir(parents=True)
    assert run_state.runtime_of(run.path) == "inline"
    (run.replay / "seq_1").mkdir()
    (run.replay / "seq_1" / "settings.json").write_text("{}")
    os.utime(run.replay / "seq_1" / "settings.json", (9e9, 9e9))
    assert run_state.runtime_of(run.path) == "ray"


def test_why_a_run_has_ended_is_known_on_a_full_disk_too(tmp_path: Path) -> None:
    with mounted(tmp_path, "64k"):
        run_state.begin(tmp_path, runtime="inline", metrics="off")
        fill(tmp_path / "full")
        run_state.end(tmp_path, "", "OSError: no room " + "!" * 300)
        state = run_state.read(tmp_path)
    assert state is not None and state.ended and state.error.endswith("!!!")
