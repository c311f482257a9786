"""A process that always dies, on real Ray: the run ends with its error, in the terminal and in log.txt."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster.tiny import ROOT, finish, rows, start, train_options

SABOTAGE = Path(__file__).parent / "sabotage"


def sabotaged(run: Path, fault: str, *more: str) -> tuple[int, list[str], str]:
    """Exit code, what was said, and log.txt of a training with this fault; see sabotage/sitecustomize.py."""
    process = start(*train_options(run, *more), SABOTAGE=fault, PYTHONPATH=f"{SABOTAGE}:{ROOT}")
    code, _, err = finish(process, seconds=400)
    return code, err.splitlines(), (run / "log.txt").read_text()


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.reverb
def test_a_learner_that_cannot_be_made_is_said_at_once(tmp_path: Path) -> None:
    code, said, log = sabotaged(tmp_path / "run", "optimizers")
    assert code == 1
    assert said[-1] == "error: the learner does not start: ValueError: a wrong value in optimizers"
    assert not any("Traceback" in line or "has no place yet" in line for line in said)
    assert "in __init__" in log and "make_optimizers(self.agent" in log, "where in the program"


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.reverb
def test_a_learner_that_dies_five_times_without_an_update_ends_the_run(tmp_path: Path) -> None:
    run = tmp_path / "run"
    code, said, log = sabotaged(run, "learn")
    assert code == 1
    assert said[-1].startswith(
        "error: the learner has died 5 times in a row without a new update: ValueError: a wrong value in learn"
    )
    assert sum("learner died (ValueError: a wrong value in learn); starting it again" in line for line in said) == 4
    assert log.count("in fail") == 1, "the same page once"
    assert list((run / "replay").rglob("DONE")), "what was played is saved"
    assert rows(run / "metrics.jsonl")[-1]["policy_step"] > 0


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.reverb
def test_actors_that_all_die_end_the_run(tmp_path: Path) -> None:
    code, said, log = sabotaged(tmp_path / "run", "act")
    assert code == 1
    assert "no actor plays any more: actor-0 has died 5 times in a row without a finished game" in said[-1]
    assert "ValueError: a wrong value in act" in said[-1] and "policy_step" in log


def test_an_inline_run_ends_with_the_error_of_an_update(tmp_path: Path) -> None:
    """One line, and exit code 1."""
    run = tmp_path / "run"
    code, said, _ = sabotaged(run, "inline", "--runtime", "inline")
    assert code == 1
    assert said[-1].startswith("error: training has failed: ValueError: a wrong value in inline (in ")
    assert not any("Traceback" in line for line in said)
