"""The two schools: a few updates of each, from a recording that is made once."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from cluster.assemble import load, make_agent
from cluster.presets import cpu
from replay import UserError
from tests.cluster.tiny import ROOT, finish, rows
from tests.school.__main__ import SHIPPED, teach, understood
from tests.school.lessons import policy_lesson
from tests.school.recorded import GAMES, batches, fingerprint, recorded, spec_of
from tests.school.recorded import filled as fill

SMALL = ["--steps", "640", "--windows", "4", "--games", "1"]
NET = "--model.cnn-depth 2 --model.deter 16 --model.hidden 16 --model.stoch 4 --model.classes 4 --model.head-units 16"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the recording."""
    folder = tmp_path_factory.mktemp("school")
    recorded(load(SHIPPED), folder, steps=640, windows=4, say=print)
    return folder


def learn(words: str, data: Path, out: Path) -> list[dict]:
    """The lines that a school wrote."""
    school, *options = words.split()
    teach(*understood([school, *options, *SMALL, "--data", str(data), "--out", str(out)]))
    return rows(out / f"{school}.jsonl")


def test_world_is_judged_now_and_then_and_after_the_last_update(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = learn(f"world {NET} --updates 5 --every 2 --train.model-lr 2e-3", data, tmp_path)
    assert [row["update"] for row in found] == [2, 4, 5]
    assert all({"ball_recall", "ball_recall_15_ahead", "windows_slow", "kl"} <= set(row) for row in found)
    assert found[0]["options"]["train.model_lr"] == 2e-3 and found[0]["options"]["model.deter"] == 16
    assert "train.seed" not in found[0]["options"] and found[0]["seed"] == 0
    said = capsys.readouterr()
    assert "recording" not in said.err
    table = said.out.splitlines()
    assert [line.split("|")[1].strip() for line in table] == ["updates", "---", "2", "4", "5"]
    assert len({line.count("|") for line in table}) == 1


def test_the_same_seed_learns_the_same_and_another_one_does_not(data: Path, tmp_path: Path) -> None:
    losses = [
        learn(f"world {NET} --updates 3 --seed {seed}", data, tmp_path / str(n))[0]["model_loss"]
        for n, seed in enumerate((0, 0, 1))
    ]
    assert losses[0] == losses[1] != losses[2]


def test_policy_plays_real_games(data: Path, tmp_path: Path) -> None:
    (row,) = learn("policy --updates 2 --behavior.horizon 3 --behavior.entropy-scale 5e-3", data, tmp_path)
    assert row["update"] == 2 and row["score"] >= 0 and row["length"] > 0 and 0 <= row["hazard_0"] <= 1
    assert row["options"] == {"behavior.horizon": 3, "behavior.entropy_scale": 5e-3}


def test_policy_learns_in_a_world_that_stays_as_it_is(data: Path) -> None:
    loaded, options = understood(["policy", *SMALL])
    torch.manual_seed(0)
    agent = make_agent(options.config, spec_of(loaded))
    agent.world.load_state_dict(loaded.agent.world.state_dict())
    before = {name: value.clone() for name, value in agent.state_dict().items()}
    recording = recorded(loaded, data, steps=640, windows=4, say=pytest.fail)
    lesson = policy_lesson(agent, options.config, games=1)
    lesson.update(next(batches(fill(recording, options.config.replay, spec_of(loaded), seed=0), torch.device("cpu"))))
    changed = {name.split(".")[0] + "." + name.split(".")[1] for name, value in agent.state_dict().items()
               if not torch.equal(value, before[name])}  # fmt: skip
    assert {"behavior.actor", "behavior.critic"} <= changed
    assert all(name.startswith("behavior.") for name in changed)


def test_the_recording_is_the_same_every_time_and_made_anew_where_it_is_damaged(data: Path, tmp_path: Path) -> None:
    loaded, said = load(SHIPPED), []
    whole = recorded(loaded, data, steps=640, windows=4, say=pytest.fail)
    path = tmp_path / f"games-{fingerprint(loaded)}-640-4.npz"
    path.write_bytes(next(data.glob("*.npz")).read_bytes()[:5000])
    again = recorded(loaded, tmp_path, steps=640, windows=4, say=said.append)
    assert len(said) == 2
    for one, other in zip((*whole.steps, whole.is_last, *whole.held), (*again.steps, again.is_last, *again.held),
                          strict=True):  # fmt: skip
        np.testing.assert_array_equal(one, other)
    assert (~whole.steps.is_first).sum() >= 640 and whole.held.obs.shape[1] == 4


def test_the_recorded_games_go_into_the_replay_as_they_were_played(data: Path) -> None:
    loaded = load(SHIPPED)
    recording = recorded(loaded, data, steps=640, windows=4, say=pytest.fail)
    replay = fill(recording, cpu().replay, spec_of(loaded), seed=0)
    played = (~recording.steps.is_first).sum()
    assert played - GAMES * 16 < replay.stats().steps <= played
    drawn = replay.draw(1).sequences
    streams = recording.steps.obs.swapaxes(0, 1)  # [GAMES, N, ...]
    assert any((stream[n : n + 16] == drawn.obs[0]).all() for stream in streams for n in range(len(stream) - 15))


@pytest.mark.parametrize(("words", "told"), [
    ("", "world or policy"),
    ("wrold", "world or policy"),
    ("world --updates 0", "--updates must be at least 1, not 0"),
    ("world --every 0", "--every must be at least 1, not 0"),
    ("policy --games -3", "--games must be at least 1"),
    ("world --seed -1", "--seed must be at least 0"),
    ("world --env.size 64", "--env.size has no part in this school"),
    ("world --behavior.horizon 5", "--behavior.horizon has no part"),
    ("policy --model.deter 64", "--model.deter has no part"),
    ("world --replay.stored-state", "states of the model are not recorded"),
    ("world --model.detr 5", "did you mean --model.deter"),
    ("world --preset paper", "env.size"),
    ("world --agent nowhere", "holds no run"),
    ("world --updates many", "many"),
])  # fmt: skip
def test_a_wrong_request_is_one_line(words: str, told: str) -> None:
    with pytest.raises(UserError, match=re.escape(told)) as error:
        understood(words.split())
    assert "\n" not in str(error.value)


def test_folders_that_cannot_be_written_are_the_users_to_mend(data: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="--out"):
        learn("world --updates 1", data, tmp_path / "file" / "out")
    with pytest.raises(UserError, match="--data"):
        learn("world --updates 1", tmp_path / "file", tmp_path)


@pytest.mark.slow
def test_ctrl_c_ends_with_what_was_measured(data: Path, tmp_path: Path) -> None:
    words = ["world", *NET.split(), *SMALL, "--updates", "1000000", "--every", "2"]
    command = [sys.executable, "-m", "tests.school", *words, "--data", str(data), "--out", str(tmp_path)]
    school = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert school.stdout is not None
        for _ in range(4):
            last = school.stdout.readline()
        school.send_signal(signal.SIGINT)
    finally:
        code, rest, said = finish(school)
    measured = [int(line.split("|")[1]) for line in (last + rest).splitlines()]
    assert code == 130 and "Traceback" not in said
    written = [row["update"] for row in rows(tmp_path / "world.jsonl")]
    assert measured and written[1 : 1 + len(measured)] == measured  # the first row was read before the last
    assert "measured until update" in said
