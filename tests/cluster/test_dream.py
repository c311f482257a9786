"""A behaviour learns in the frozen world model of a run: `dream`, from one run directory to the next."""

from __future__ import annotations

import io
import json
import re
import shutil
import signal
from collections.abc import Iterator
from contextlib import redirect_stderr
from pathlib import Path

import numpy as np
import pytest
import torch

import replay
from cluster import assemble
from cluster.cli import main
from cluster.run import origin as run_origin
from cluster.run.directory import open_run
from learner import checkpoint
from replay import EnvSpec, Step, memory_file
from tests.cluster.tiny import SYSTEMS, finish, rows, start, train_options, update_of, wait_for

pytestmark = pytest.mark.usefixtures("signals_as_before")
QUIET = ("--cluster.metrics-port", "-1")
OTHER = ("--behavior.name", "ppo", "--behavior.units", "24", "--behavior.ppo-batch", "16")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one process, with its replay."""
    path = tmp_path_factory.mktemp("run") / "awake"
    assert main(train_options(path, "--runtime", "inline", *QUIET, "--updates", "20")) == 0
    return path


@pytest.fixture(scope="module")
def exported(run: Path) -> Path:
    """The same to give away: without its replay."""
    path = run.parent / "given-away"
    assert main(["export", str(run), "--out", str(path)]) == 0
    return path


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in folder.rglob("*")}


def newest(run: Path) -> checkpoint.Checkpoint:
    found = checkpoint.load_newest(run / "checkpoints")
    assert found is not None
    return found


def part(found: checkpoint.Checkpoint, name: str) -> dict[str, torch.Tensor]:
    return {key: value for key, value in found.agent.items() if key.startswith(f"{name}.")}


def same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> list[str]:
    """Names of what is bit for bit the same in both."""
    assert one.keys() == two.keys()
    return [key for key, value in one.items() if torch.equal(value, two[key])]


def dream(*options: str | Path) -> tuple[int, str]:
    """The command, in this process -> exit code, what it said."""
    with redirect_stderr(io.StringIO()) as said:
        code = main(["dream", *map(str, options), *QUIET])
    return code, said.getvalue()


# --- A whole dream ---


@pytest.fixture(scope="module")
def dreamt(run: Path) -> tuple[Path, str]:
    """A new behaviour of another kind and size, and what was said."""
    path = run.parent / "dreamt"
    before = listing(run)
    code, out, said = finish(start("dream", str(run), *OTHER, "--updates", "12", "--run-dir", str(path), *QUIET))
    assert code == 0 and out == "", said
    assert listing(run) == before  # it was only read
    return path, said


def test_the_world_model_stays_as_it_is_and_the_behaviour_learns(run: Path, dreamt: tuple[Path, str]) -> None:
    awake, first, last = newest(run), None, newest(dreamt[0])
    first = checkpoint.load(dreamt[0] / "checkpoints" / "update-000000000.pt")
    assert (first.update, last.update) == (0, 12)
    world = part(awake, "world")
    assert len(same(world, part(first, "world"))) == len(same(world, part(last, "world"))) == len(world) > 20
    moved = {key.split(".")[1] for key in part(last, "behavior")} - {
        key.split(".")[1] for key in same(part(first, "behavior"), part(last, "behavior"))
    }
    assert {"actor", "critic", "updates"} <= moved
    assert open_run(dreamt[0])[1].behavior.name == "ppo" and last.config["behavior"]["units"] == 24


def test_where_the_world_model_is_from_is_written_down_without_a_path(run: Path, dreamt: tuple[Path, str]) -> None:
    path, said = dreamt
    origin = run_origin.read(path)
    assert origin == run_origin.Origin("awake", open_run(run)[0].id, 20, newest(run).policy_step, 0)
    assert str(run) not in (path / run_origin.FILE).read_text() + (path / "config.json").read_text()
    assert f"world model of awake, update 20 (policy step {origin.policy_step:,})" in said
    assert newest(path).policy_step == origin.policy_step


def test_its_replay_is_that_of_the_run(run: Path, dreamt: tuple[Path, str]) -> None:
    """Window for window; so the run may go on, or be deleted."""
    config = open_run(run)[1]
    spec = assemble.env_spec(config)
    kept = []
    for folder in (run / "replay" / "update-000000020", dreamt[0] / "replay"):
        memory = assemble.make_replay(config.replay, spec, seed=0, device=torch.device("cpu"))
        memory_file.restore(memory, folder)
        kept.append((list(memory.windows.values()), list(memory.fresh.values())))
    assert kept[0] == kept[1] and len(kept[0][0]) > 20


def test_progress_and_records_are_those_of_a_training_that_plays_nothing(dreamt: tuple[Path, str]) -> None:
    path, said = dreamt
    assert f"ended: 12 updates done; update 12, policy step {newest(path).policy_step:,}; update-000000012" in said
    last = rows(path / "metrics.jsonl")[-1]
    assert last["update"] == 12 and last["policy_steps_per_second"] == 0 and last["replay_ratio"] is None
    assert last["imagined_return"] is not None and last["nonfinite"] == 0 and "model_loss" not in last
    (line,) = [line for line in said.splitlines() if line.startswith("update 12 | ")]
    assert "updates/s | imagined return" in line and f"{last['replay_steps']:,} replayed steps" in line
    assert rows(path / "episodes.jsonl") == []


def test_every_command_understands_it(dreamt: tuple[Path, str], capsys: pytest.CaptureFixture[str]) -> None:
    path, _ = dreamt
    assert main(["status", str(path)]) == 0
    told = capsys.readouterr().out
    assert "runtime dream" in told and "12 updates done" in told and "that of awake, update 20" in told
    assert "score" not in told and "wait" not in told
    assert main(["status", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["dream_of"]["run"] == "awake"
    assert main(["evaluate", str(path), "--episodes", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["checkpoint"]["update"] == 12
    assert main(["record", str(path), "--out", str(path / "videos" / "dream.gif")]) == 0
    assert (path / "videos" / "dream.gif").stat().st_size > 1000
    assert main(["export", str(path), "--out", str(path.parent / "dream-given-away")]) == 0
    assert run_origin.read(path.parent / "dream-given-away") == run_origin.read(path)


def test_a_dream_is_gone_on_with_bit_for_bit_without_its_run(run: Path, tmp_path: Path) -> None:
    """12 updates, and 5 and then 7 of them after the run has gone, leave the same weights, moments and generators."""
    copy = tmp_path / "awake"
    run_of = tmp_path / "copied"
    code, said = dream(run, "--updates", "12", "--run-dir", tmp_path / "whole")
    assert code == 0, said
    shutil.copytree(run, copy)
    assert dream(copy, "--updates", "5", "--run-dir", run_of)[0] == 0
    shutil.rmtree(copy)
    code, said = dream("--resume", "--run-dir", run_of, "--updates", "12")
    assert code == 0 and "going on from update-000000005.pt" in said, said
    one, two = newest(tmp_path / "whole"), newest(run_of)
    assert len(same(one.agent, two.agent)) == len(one.agent)
    assert torch.equal(one.rng["torch"], two.rng["torch"]) and one.rng["numpy"] == two.rng["numpy"]
    for name, optimizer in one.optimizers.items():
        for number, moments in optimizer["state"].items():
            assert same(moments, two.optimizers[name]["state"][number]) == list(moments)
    assert one.optimizers["actor"]["state"] and not one.optimizers["model"]["state"]


def test_killed_it_goes_on_from_its_newest_checkpoint_and_ctrl_c_saves(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "dream"
    often = ("--train.checkpoint-every", "0.2", *QUIET)
    process = start("dream", str(run), "--run-dir", str(path), *often)
    try:
        wait_for("a checkpoint of some updates", lambda: path.exists() and saved_update(path) > 0)
    finally:
        process.kill()
        process.communicate()
    kept = saved_update(path)
    process = start("dream", "--resume", "--run-dir", str(path), *often, "--train.checkpoint-every", "300")
    try:
        wait_for("updates", lambda: update_of(path) > kept)
        process.send_signal(signal.SIGINT)
    finally:
        code, _, err = finish(process)
    assert code == 128 + signal.SIGINT and "saving; a second signal quits at once" in err, err
    assert f"going on from update-{kept:09d}.pt" in err
    ended = int(err.rsplit("ended: signal 2; update ", 1)[1].split(",")[0])
    assert newest(path).update == ended > kept and f"update-{ended:09d} saved in {path}" in err


def saved_update(path: Path) -> int:
    found = checkpoint.list_checkpoints(path / "checkpoints")
    return checkpoint.update_of(found[0]) if found else -1


def test_minutes_are_a_limit_too(run: Path, tmp_path: Path) -> None:
    code, said = dream(run, "--minutes", "0.02", "--run-dir", tmp_path / "dream")
    assert code == 0 and "ended: 0.0 minutes over" in said and newest(tmp_path / "dream").update > 0, said


# --- Without a replay ---


def test_an_agent_without_a_replay_plays_first(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.dream.MESSAGE_SECONDS", 0.001)  # 400 steps take less than a second
    path = tmp_path / "dream"
    asked = ("--collect", "400", "--replay.length", "6", "--replay.stride", "3", "--updates", "3")
    code, said = dream(exported, *asked, "--run-dir", path, "--train.log-every", "0.1")
    assert code == 0, said
    assert "the agent of given-away plays 400 policy steps" in said and "policy steps to dream of so far" in said
    assert re.search(r"^played 40[01] policy steps in \d+ s: score ", said, flags=re.M), said
    origin = run_origin.read(path)
    assert origin is not None and origin.collected == 400
    given = part(newest(exported), "world")
    assert all(torch.equal(value.float(), given[key].float()) for key, value in part(newest(path), "world").items())
    last = rows(path / "metrics.jsonl")[-1]
    assert 300 < last["replay_steps"] <= 402 and newest(path).policy_step == origin.policy_step + 400
    code, said = dream("--resume", "--run-dir", path, "--updates", "5")
    assert code == 0 and "policy steps in" not in said and newest(path).update == 5, said


def test_what_was_interrupted_while_steps_were_played_begins_with_them_again(exported: Path, tmp_path: Path) -> None:
    path = tmp_path / "dream"
    begin = ("dream", str(exported), "--collect", "1000000", "--run-dir", str(path), *QUIET)
    process = start(*begin)
    try:
        log = path / "log.txt"
        wait_for("play", lambda: log.exists() and "plays 1,000,000" in log.read_text())
        process.send_signal(signal.SIGINT)
    finally:
        code, _, err = finish(process)
    assert code == 128 + signal.SIGINT and "before enough steps were played" in err, err
    code, said = dream("--resume", "--run-dir", path)
    assert code == 2 and "name the run that it is a dream of" in said and said.count("\n") == 1
    code, said = dream(exported, "--resume", "--run-dir", path, "--collect", "200", "--updates", "2")
    assert code == 0 and newest(path).update == 2, said


# --- Other systems ---


@pytest.mark.parametrize(
    ("system", "why", "updates"),
    [("cma_es", "4 updates done", 4), ("mcts", "4 updates done", 4), ("cem", "cem has nothing to learn", 0)],
)
def test_every_other_system_dreams_too(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], system: str, why: str, updates: int
) -> None:
    """A planner, which has nothing to learn, is ready at once."""
    path = tmp_path / "dream"
    assert dream(run, *SYSTEMS[system].split(), "--updates", "4", "--run-dir", path)[0] == 0
    assert why in (path / "log.txt").read_text() and newest(path).update == updates
    assert dream("--resume", "--run-dir", path, "--updates", "6")[0] == 0
    assert newest(path).update == (6 if updates else 0)
    if system == "cma_es":
        assert part(newest(path), "behavior")["behavior.generation"] == 6
    assert main(["evaluate", str(path), "--episodes", "1", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["scores"]) == 1


# --- What can be wrong ---


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--updates 3", "dream needs RUN"),
        ("NOWHERE", "holds no run"),
        ("RUN --model.deter 24", "--model.deter has no part in a dream"),
        ("RUN --env.size 48", "--env.size has no part in a dream"),
        ("RUN --train.model-lr 2e-3", "--train.model-lr has no part in a dream"),
        ("RUN --train.no-overlap", "--train.overlap has no part in a dream"),
        ("RUN --replay.replay-ratio 5", "--replay.replay-ratio has no part in a dream"),
        ("RUN --replay.length 6", "--replay.length has no part in a dream"),
        ("RUN --behavior.name cme", "actor_critic"),
        ("RUN --behavior.units 0", "behavior.units must be"),
        ("RUN --behavior.start-every 100", "must be less than replay.length"),
        ("RUN --behavior.horizn 3", "did you mean --behavior.horizon"),
        ("RUN --steps 100", "there is no option --steps"),
        ("RUN --preset cpu", "there is no option --preset"),
        ("RUN --updates 0", "--updates must be"),
        ("RUN --minutes -1", "--minutes must be"),
        ("RUN --collect 0", "--collect must be"),
        ("RUN --resume", "--resume needs --run-dir"),
        ("RUN --run-dir RUN", "holds a run already"),
        ("--resume --run-dir RUN", "is no dream: go on with it by train --resume"),
        ("--resume --run-dir NOWHERE", "holds no run"),
        ("--resume --run-dir DREAM --behavior.units 32", "another network"),
        ("--resume --run-dir DREAM --collect 100", "--collect has no part in a dream that goes on"),
        ("EXPORTED --resume --run-dir DREAM", "is a dream of awake, not of"),
        ("EXPORTED --collect 5 --run-dir NEW", "no game was as long as a window"),
    ],
)
def test_a_wrong_request_is_one_line_and_leaves_nothing(
    run: Path, exported: Path, dreamt: tuple[Path, str], tmp_path: Path, options: str, words: str
) -> None:
    known = {"RUN": run, "EXPORTED": exported, "DREAM": dreamt[0], "NOWHERE": tmp_path / "no", "NEW": tmp_path / "new"}
    before = listing(run) | listing(exported)
    asked = [str(known.get(word, word)) for word in options.split()]
    elsewhere = [] if "--run-dir" in asked or "--resume" in asked else ["--run-dir", str(tmp_path / "new")]
    code, said = dream(*asked, *elsewhere)
    assert code == 2 and words in said, said
    last = said.strip().splitlines()[-1]
    assert last.startswith("error: ") and words in last
    assert "--collect" in options or said.count("\n") == 1, said
    assert listing(run) | listing(exported) == before and list(tmp_path.iterdir()) == []


def test_a_dream_is_not_trained_on_as_if_it_were_a_run(dreamt: tuple[Path, str]) -> None:
    with redirect_stderr(io.StringIO()) as said:
        assert main(["train", "--resume", "--run-dir", str(dreamt[0]), *QUIET]) == 2
    assert "is a dream of awake: go on with it by dream --resume" in said.getvalue()


def test_a_replay_that_cannot_be_read_is_one_line_that_says_what_to_do(run: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(run, broken)
    file = broken / "replay" / "update-000000020" / memory_file.FILE
    file.write_bytes(file.read_bytes()[:-100])
    code, said = dream(broken, "--run-dir", tmp_path / "new")
    assert code == 2 and "is damaged" in said and "add --collect 20000" in said and said.count("\n") == 1, said
    code, said = dream(broken, "--collect", "100", "--updates", "1", "--run-dir", tmp_path / "new")
    assert code == 0, said


@pytest.mark.slow
def test_a_run_that_trains_meanwhile_is_not_disturbed(run: Path, tmp_path: Path) -> None:
    """Its newest checkpoint is dreamt of; it goes on, and ends as it should."""
    awake = tmp_path / "awake"
    shutil.copytree(run, awake)
    options = ("--runtime", "inline", "--resume", "--train.checkpoint-every", "2", *QUIET)
    process = start(*train_options(awake, *options))
    try:
        wait_for("a checkpoint of more updates", lambda: saved_update(awake) > 20)
        code, said = dream(awake, "--updates", "2", "--run-dir", tmp_path / "dream")
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
    finally:
        trained, _, err = finish(process)
    assert code == 0 and trained == 128 + signal.SIGTERM, said + err
    origin = run_origin.read(tmp_path / "dream")
    assert origin is not None and 20 < origin.update <= saved_update(awake)


@pytest.mark.reverb
def test_what_a_replay_server_has_saved_is_dreamt_of_too(run: Path, tmp_path: Path) -> None:
    """A run on Ray has its replay from a server; the server is here, Ray is not."""
    awake, path = tmp_path / "awake", tmp_path / "dream"
    shutil.copytree(run, awake, ignore=shutil.ignore_patterns("update-*"))
    shutil.copytree(run / "checkpoints", awake / "checkpoints", dirs_exist_ok=True)
    opened, config = open_run(awake)
    spec = assemble.env_spec(config)
    server = replay.serve(config.replay, spec, directory=opened.replay, run_id=opened.id)
    connection = replay.connect(server.address, config.replay, spec, run_id=opened.id, patience=30)
    writer = connection.writer()
    for step, is_last in games(spec, count=4, length=25):
        writer.append(step, is_last=is_last, policy_version=0)
    writer.flush()
    windows = connection.stats().windows
    writer.close()
    server.checkpoint()
    server.close()
    before = listing(awake)
    code, said = dream(awake, "--updates", "2", "--run-dir", path)
    assert code == 0 and "dreams begin in the replay that it had saved" in said, said
    assert listing(awake) == before
    assert rows(path / "metrics.jsonl")[-1]["replay_steps"] == windows * config.replay.stride > 80
    shutil.rmtree(awake)
    code, said = dream("--resume", "--run-dir", path, "--updates", "3")  # without a server
    assert code == 0 and newest(path).update == 3, said


def games(spec: EnvSpec, *, count: int, length: int) -> Iterator[tuple[Step, bool]]:
    """Games of so many records, with pictures of noise."""
    rng = np.random.default_rng(0)
    for n in range(count * length):
        first, last = n % length == 0, n % length == length - 1
        obs = rng.integers(0, 256, spec.obs_shape, np.uint8)
        yield Step(obs, np.int32(0), np.float32(0), np.bool_(first), np.bool_(last)), last
