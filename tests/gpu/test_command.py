"""python -m tests.gpu: what a stage found is kept however it ends, and little comes back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch

from learner.step import make_grad_steps, train_step
from tests.cluster.tiny import ROOT
from tests.gpu import __main__ as gpu
from tests.gpu import numbers, parcel
from tests.gpu.operators import Counting, count_operators
from tests.gpu.settings import Stage, config_of, make_learner

BARE = ("ray", "reverb", "tensorflow", "jsonschema", "moto", "boto3", "promql_parser", "av")  # what it lacks
HIDE = f"""
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {BARE!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Hidden())
import importlib.util
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name in {BARE!r} else find_spec(name, package)
"""


def on_a_bare_machine(code: str, *, seconds: float = 120) -> subprocess.CompletedProcess[str]:
    """Runs it where the packages of Ray's runtime and of some tests are not installed."""
    words = [sys.executable, "-c", HIDE + code]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=seconds, check=False)


@pytest.mark.slow
def test_all_tests_can_be_collected_on_a_bare_machine() -> None:
    done = on_a_bare_machine(
        "import pytest; sys.exit(pytest.main(['-m', 'gpu', '--collect-only', '-q', '-p', 'no:cacheprovider']))"
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert "tests/gpu/test_whole_run.py" in done.stdout and "needs Ray" in done.stdout and "error" not in done.stdout


def test_training_and_the_stages_need_nothing_that_a_bare_machine_lacks() -> None:
    done = on_a_bare_machine(
        "import cluster.inline, cluster.commands.train, cluster.commands.agent, tests.gpu.bench, tests.gpu.profiling\n"
        "import tests.gpu.training, tests.gpu.card\n"
    )
    assert done.returncode == 0, done.stderr


def words(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_a_stage_that_fails_hangs_or_dies_costs_the_others_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = "from pathlib import Path; from tests.gpu import numbers; path = Path({path!r})\n"
    good = "numbers.note(path, 'a', lambda: {{'seconds': float('nan')}})\n"
    bad = "numbers.note(path, 'b', lambda: 1 / 0)\n"
    hang = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(77)'])\n"
    stages = {
        "tests": "print('3 passed')",
        "bench": found + good + bad,
        "profile": found + good + hang + "time.sleep(60)",
        "train": found + good + "import os; os.abort()",
    }

    def words_of(stage: str, options: object, path: Path, work: Path) -> list[str]:
        return words(stages[stage].format(path=str(path)))

    monkeypatch.setattr(gpu, "words_of", words_of)
    monkeypatch.setattr(gpu, "machine", lambda device: {"card": "none"})
    monkeypatch.setattr(gpu, "LIMITS", dict.fromkeys(gpu.LIMITS, 3.0))
    out = tmp_path / "out"
    assert gpu.main(["--out", str(out), "--minutes", "0", "--device", "cpu"]) == 1
    kept = json.loads((out / "gpu.json").read_text())["stages"]
    assert kept["tests"]["exit_code"] == 0 and kept["tests"]["last_line"] == "3 passed"
    assert kept["bench"]["exit_code"] == 0 and "ZeroDivisionError" in kept["bench"]["numbers"]["b"]["error"]
    assert "ZeroDivisionError" in (out / "bench.log").read_text()
    assert kept["profile"]["exit_code"] is None and kept["train"]["exit_code"] == -6
    assert all(kept[stage]["numbers"]["a"] == {"seconds": None} for stage in ("bench", "profile", "train"))
    assert len(list(out.iterdir())) <= 8
    mine = [process for process in psutil.process_iter(["cmdline"]) if "time.sleep(77)" in str(process.info["cmdline"])]
    assert not [process for process in mine if process.status() != psutil.STATUS_ZOMBIE]


def test_what_was_found_is_there_while_the_stage_still_runs(tmp_path: Path) -> None:
    path, log, seen = tmp_path / "found.json", tmp_path / "log", []
    code = "import time; from pathlib import Path; from tests.gpu import numbers\n"
    code += f"numbers.note(Path({str(path)!r}), 'a', lambda: 1); time.sleep(60)"

    def look() -> None:
        seen.append(numbers.read(path))

    ended = gpu.run(words(code), log, 4.0, look)
    assert ended.exit_code is None and seen[-1] == {"a": 1}


def test_a_stage_or_device_that_is_none_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        gpu.main(["--out", str(tmp_path), "--stages", "tests,bnech"])
    assert end.value.code == 2 and "no stage 'bnech'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("weights", "film", "pieces", "kept"), [(31, 1, 3, True), (31, 40, 3, False), (60, 1, 1, False)]
)
def test_few_small_files_come_back(
    weights: int, film: int, pieces: int, kept: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In thousands of bytes here: weights of `fast` take 31 MB."""
    monkeypatch.setattr(parcel, "PIECE", 15_000)
    work = tmp_path / "work"
    (work / "run").mkdir(parents=True)
    (work / "agent").mkdir()
    (work / "run" / "metrics.jsonl").write_text("{}\n")
    (work / "run" / "replay.bin").write_bytes(os.urandom(90_000))  # stays where it is
    (work / "agent" / "weights.pt").write_bytes(os.urandom(weights * 1000))
    (work / "dream.gif").write_bytes(os.urandom(film * 1000))
    out = tmp_path / "out"
    out.mkdir()
    names = parcel.pack(work, out / "run.tar.gz")
    assert "run/metrics.jsonl" in names and ("dream.gif" in names) == kept and ("agent" in names) == (weights == 31)
    found = sorted(out.iterdir())
    assert len(found) == pieces and all(path.stat().st_size <= 15_000 for path in found)
    subprocess.run("cat run.tar.gz.* | tar xz", shell=True, cwd=out, check=True)
    if weights == 31:
        assert (out / "agent" / "weights.pt").read_bytes() == (work / "agent" / "weights.pt").read_bytes()
    assert parcel.pack(tmp_path / "out" / "run", out / "nothing") == []


def test_operators_are_counted_by_phase_whatever_the_batch() -> None:
    stage = Stage(torch.device("cpu"), Path(), tiny=True, done=(), minutes=0, work=Path())
    found = count_operators(config_of("paper", stage))
    assert set(found["phases"]) == {"world_model", "dream", "behavior"}
    assert found["total"] == sum(found["phases"].values()) > 500
    assert len(found["most"]) == 15
    config = config_of("paper", stage)
    agent, optimizers, batch = make_learner(config, torch.device("cpu"))  # a batch of three
    step = make_grad_steps(optimizers, clip=100)
    train_step(agent, step, batch, precision="float32")
    with Counting() as counted:
        train_step(agent, step, batch, precision="float32")
    assert counted.phases.total() == found["total"] and batch.obs.shape[1] == 3
