"""What an inline run saves, whatever comes in between: in this process, with hooks into real runs."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from cluster import inline
from cluster.cli import main
from cluster.commands.status import describe, lines_of, read_files
from cluster.presets import cpu
from cluster.run import directory as run_dir
from cluster.run import state as run_state
from learner import checkpoint
from replay import memory_file
from tests.cluster.disks import mounted
from tests.cluster.tiny import SYSTEMS, train_options

INLINE = ("--runtime", "inline", "--cluster.metrics-port", "-1")
CATCH = ("--env.id", "Toy/Catch-v0", "--env.import-module", "tests.catch_game", "--env.frame-skip", "1")
CATCH += ("--env.size", "16", "--env.crop", "0", "0", "0", "0")
CATCH += ("--env.no-binary", "--env.no-life-loss", "--env.no-auto-fire")
# One window is worth 16 updates: a run that ends after 5 still owes some, which need no game step.
GREEDY = ("--replay.replay-ratio", "128")


pytestmark = pytest.mark.usefixtures("signals_as_before")


def train(path: Path, *more: str) -> int:
    return main(train_options(path, *INLINE, *more))


@pytest.fixture
def at_tick(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Callable[[], None]], None]:
    """at_tick(n, act) does something when the games have played n records."""
    append = inline.append

    def hook(number: int, act: Callable[[], None]) -> None:
        ticks = iter(range(10**9))

        def wrapped(writers, tick) -> None:
            if next(ticks) == number:
                act()
            append(writers, tick)

        monkeypatch.setattr(inline, "append", wrapped)

    return hook


def last_line(err: str) -> str:
    return err.strip().splitlines()[-1]


# --- Resuming ---


@pytest.mark.parametrize("behavior", ["", *SYSTEMS.values()], ids=["actor-critic", *SYSTEMS])
def test_a_resumed_run_goes_on_bit_for_bit_where_no_game_step_lies_between(tmp_path: Path, behavior: str) -> None:
    """Weights, moments, replay and all generators are those of a run that was not interrupted, 3 updates later.

    With the next game step the two part: the emulators' states are not saved, a resumed run begins new games with
    other seeds (it must not play those of its beginning again), and the records of games under way are in no window.
    """
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    how = *GREEDY, *behavior.split()
    assert train(whole, *how, "--updates", "8") == 0
    assert train(parts, *how, "--updates", "5") == 0
    torch.manual_seed(1)  # what this process draws in between has no part in it
    assert train(parts, *how, "--resume", "--updates", "8") == 0
    one, two = (checkpoint.load_newest(path / "checkpoints") for path in (whole, parts))
    assert one and two and one.update == two.update == 8 and one.policy_step == two.policy_step
    assert one.agent.keys() == two.agent.keys()
    assert all(torch.equal(value, two.agent[key]) for key, value in one.agent.items())
    for name, optimizer in one.optimizers.items():
        for number, moments in optimizer["state"].items():
            for key, value in moments.items():
                assert torch.equal(value, two.optimizers[name]["state"][number][key]), (name, number, key)
    assert torch.equal(one.rng["torch"], two.rng["torch"]) and one.rng["numpy"] == two.rng["numpy"]
    saved = Path("replay", "update-000000008", memory_file.FILE)
    assert (whole / saved).read_bytes() == (parts / saved).read_bytes()


def test_a_game_changed_by_hand_is_refused_as_one_changed_by_an_option(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The pictures have the same shape: nothing else would show that two games are mixed. The refusal is in log.txt."""
    path = tmp_path / "run"
    assert train(path, "--updates", "2") == 0
    config = json.loads((path / "config.json").read_text())
    config["env"]["binary"] = not config["env"]["binary"]
    (path / "config.json").write_text(json.dumps(config))
    capsys.readouterr()
    assert main(["train", "--resume", "--run-dir", str(path), *INLINE]) == 2
    assert "was played with env.binary" in last_line(capsys.readouterr().err)
    assert "was played with env.binary" in last_line((path / "log.txt").read_text())
    config["env"]["time_limit"] += 1  # how it is played is free
    config["env"]["binary"] = not config["env"]["binary"]
    (path / "config.json").write_text(json.dumps(config))
    assert main(["train", "--resume", "--run-dir", str(path), *INLINE, "--updates", "3"]) == 0


def test_a_resumed_run_does_not_play_its_first_games_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two runs of one seed begin with the same pictures, a run and its continuation do not."""
    append, pictures = inline.append, []

    def watched(writers, tick) -> None:
        pictures[-1].append(tick.step.obs.copy())
        append(writers, tick)

    monkeypatch.setattr(inline, "append", watched)
    for path, more in (("run", ("9",)), ("twin", ("9",)), ("run", ("12", "--resume"))):
        pictures.append([])
        assert train(tmp_path / path, *CATCH, "--updates", *more) == 0
    first, twin, resumed = (np.stack(each[:20]) for each in pictures)
    np.testing.assert_array_equal(first, twin)
    assert (first[0] != resumed[0]).any()  # before any action


# --- A disk without room ---


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path, "4m") as disk:
        yield disk


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_full_disk_costs_no_checkpoint_and_leaves_nothing_and_is_no_success(
    small_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, filler = small_disk / "run", small_disk / "filler"
    assert train(run, "--updates", "5") == 0
    parts = ("checkpoints", "replay")
    before = {part: files(run / part) for part in parts}
    room = shutil.disk_usage(small_disk).free
    filler.write_bytes(bytes(room - 120_000))  # for lines, not for a checkpoint
    capsys.readouterr()
    assert train(run, "--resume", "--updates", "60", "--train.checkpoint-every", "0.1") == 1
    err = capsys.readouterr().err
    assert {part: files(run / part) for part in parts} == before
    assert (run / "log.txt").read_text().count("no checkpoint now (No space left on device)") == 1
    end = last_line(err)
    assert "could NOT be saved (No space left on device)" in end and "update-000000005 saved in" in end
    state = run_state.read(run)
    assert state is not None and "could NOT be saved (No space left on device)" in state.why
    filler.unlink()
    assert train(run, "--resume", "--updates", "8") == 0
    assert "update-000000008 saved in" in last_line(capsys.readouterr().err)


def test_a_run_that_could_never_save_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(content, file) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    run = tmp_path / "run"
    assert train(run, "--updates", "3") == 1
    assert "there is no checkpoint in" in last_line(capsys.readouterr().err)
    assert "could NOT be saved" in lines_of(describe(read_files(run), now=0.0))[1]
    assert files(run / "checkpoints") == [] and files(run / "replay") == []
    assert list((run / "replay").iterdir()) == []


def test_what_killed_saves_left_is_gone_after_the_next_start(tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert train(run, "--updates", "3") == 0
    (run / "replay" / "update-000000099").mkdir()
    left = (".state.json.4711", "checkpoints/.update-000000099.pt.4711", "replay/update-000000099/replay.bin")
    left += ("replay/update-000000099/replay.bin.partial", "replay/update-000000003/.replay.bin.4711")
    for name in left:
        (run / name).write_bytes(b"half")
    assert train(run, "--resume", "--updates", "3") == 0
    assert not [name for name in left if (run / name).exists()]
    assert files(run / "replay") == ["update-000000003/replay.bin"]


# --- Errors ---


def failing_update(monkeypatch: pytest.MonkeyPatch, after: int, error: BaseException) -> None:
    """The update after `after` ones changes a weight and then breaks off."""
    learn = inline.learn

    def broken(agent, *arguments, **options):
        for report in learn(agent, *arguments, **options):
            if report.update > after:
                raise error
            yield report

    monkeypatch.setattr(inline, "learn", broken)


@pytest.mark.parametrize("error", [RuntimeError("CUDA error: out of luck"), KeyboardInterrupt()])
def test_an_error_in_mid_update_saves_nothing_and_is_in_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    run = tmp_path / "run"
    assert train(run, "--updates", "3") == 0
    failing_update(monkeypatch, 5, error)
    children = psutil.Process().children(recursive=True)
    with pytest.raises(KeyboardInterrupt) if isinstance(error, KeyboardInterrupt) else nullcontext():
        assert train(run, "--resume", "--actor.workers", "1") == 1
    assert [path.stem for path in checkpoint.list_checkpoints(run / "checkpoints")] == ["update-000000003"]
    assert files(run / "replay") == ["update-000000003/replay.bin"]
    assert psutil.Process().children(recursive=True) == children  # those of the games have gone
    log = (run / "log.txt").read_text()
    name = type(error).__name__
    assert re.search(rf"ERROR run: ended by .*{name}", log) and "Traceback" in log and "in broken" in log
    assert "in the middle of an update" in log and "; update-000000003 saved in" in log
    report = describe(read_files(run), now=0.0)
    assert report["state"] == "failed" and name in report["why"]
    assert name in "\n".join(lines_of(report))


def test_a_second_error_while_saving_does_not_hide_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_tick, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*arguments, **options) -> None:
        raise RuntimeError("CUDA error: the second")

    def first() -> None:
        raise RuntimeError("the first")

    monkeypatch.setattr(checkpoint, "save", broken)
    at_tick(80, first)
    assert train(tmp_path / "run") == 1
    assert "ended by training has failed: RuntimeError: the first" in (tmp_path / "run" / "log.txt").read_text()
    assert "cannot save after the error either (RuntimeError: CUDA error: the second)" in caplog.text
    assert files(tmp_path / "run" / "replay") == []


def test_an_error_of_the_games_costs_no_update(tmp_path: Path, at_tick) -> None:
    def first() -> None:
        raise RuntimeError("the first")

    at_tick(80, first)
    assert train(tmp_path / "run") == 1
    assert checkpoint.load_newest(tmp_path / "run" / "checkpoints").update > 0


def test_what_is_said_before_there_is_a_log_is_in_it(tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert train(run, "--updates", "3") == 0
    assert train(run, "--resume", "--updates", "5") == 0
    newest = run / "checkpoints" / "update-000000005.pt"
    newest.write_bytes(newest.read_bytes()[:1000])
    before = (run / "log.txt").read_text()
    assert train(run, "--resume", "--updates", "6", "--replay.batch", "8") == 0
    new = (run / "log.txt").read_text().removeprefix(before)
    assert "began: train --preset cpu" in new.splitlines()[0]
    assert "update-000000005.pt is damaged" in new and "set aside as damaged-update-000000005.pt" in new
    assert "replay.batch: 4 -> 8" in new
    assert describe(read_files(run), now=0.0)["warnings"]["count"] == 3
    names = [path.name for path in (run / "checkpoints").iterdir()]
    assert sorted(names) == [
        *("damaged-update-000000005.pt", "latest", "update-000000003.pt", "update-000000006.pt"),
    ]


# --- The directory itself ---


def test_a_directory_deleted_under_its_run_is_made_anew(
    tmp_path: Path, at_tick, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert train(run, "--updates", "3") == 0
    kept = {name: (run / name).read_text() for name in ("run_id",)}
    capsys.readouterr()
    at_tick(5, lambda: shutil.rmtree(run))
    assert train(run, "--resume", "--updates", "9") == 0
    err = capsys.readouterr().err
    assert err.count("was deleted under its run: it is made anew") == 1, err
    assert "cannot write" not in err
    assert {name: (run / name).read_text() for name in kept} == kept
    assert "made anew" in (run / "log.txt").read_text()
    assert describe(read_files(run), now=0.0)["state"] == "ended"
    assert train(run, "--resume", "--updates", "11") == 0  # what was saved can be used
    assert "starts empty" not in capsys.readouterr().err


def test_a_directory_moved_under_its_run_stays_as_it_was(
    tmp_path: Path, at_tick, capsys: pytest.CaptureFixture[str]
) -> None:
    run, moved = tmp_path / "run", tmp_path / "moved"
    at_tick(80, lambda: run.rename(moved))
    assert train(run, "--updates", "20") == 0
    assert f"was moved to {moved} under its run" in capsys.readouterr().err
    assert checkpoint.load_newest(run / "checkpoints").update == 20
    assert (moved / "run_id").read_text() == (run / "run_id").read_text()


def test_a_directory_that_another_run_has_taken_is_left_alone(
    tmp_path: Path, at_tick, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"

    def replace() -> None:
        run.rename(tmp_path / "moved")
        run_dir.create(run, cpu())

    at_tick(80, replace)
    assert train(run, "--updates", "20") == 1
    assert "was replaced under its run, nothing can be saved" in last_line(capsys.readouterr().err)
    assert files(run) == ["config.json", "run_id"]
    assert "was replaced under its run" in (tmp_path / "moved" / "log.txt").read_text()


# --- Numbers that are none ---


def test_a_game_with_rewards_that_are_no_numbers_makes_no_broken_json(tmp_path: Path, monkeypatch) -> None:
    add = inline.ActorNews.add

    def broken(self, tick) -> None:
        add(self, tick._replace(episodes=[episode._replace(score=float("nan")) for episode in tick.episodes]))

    monkeypatch.setattr(inline.ActorNews, "add", broken)
    run = tmp_path / "run"
    assert train(run, "--updates", "30") == 0
    text = (run / "episodes.jsonl").read_text()
    assert text and "NaN" not in text
    assert {json.loads(line)["score"] for line in text.splitlines()} == {None}
    assert (run / "log.txt").read_text().count("ended with score nan (actor 0, game") == 1
    assert describe(read_files(run), now=0.0)["score"] is None
