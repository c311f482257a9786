"""The bench of the replay: it measures something, and leaves no process behind."""

from __future__ import annotations

from dataclasses import replace

import psutil
import pytest

from cluster.bench.replay import ReplayBench, bench_memory, bench_replay
from replay import EnvSpec, ReplayConfig

CONFIG = ReplayConfig(length=16, stride=8, batch=8)
SPEC = EnvSpec((64, 64, 1), 4)


def assert_measured(found: ReplayBench) -> None:
    assert found.insert_steps_per_second > 100 and found.sample_sequences_per_second > 10
    assert 0 <= found.insert_spread < 10 and 0 <= found.sample_spread < 10


@pytest.mark.slow
@pytest.mark.reverb
def test_reverb_is_measured_and_no_process_is_left() -> None:
    pytest.importorskip("reverb")
    before = psutil.Process().children(recursive=True)
    found = bench_replay(CONFIG, SPEC._replace(state=(256, 16)), seconds=1.0)  # and writes states, if asked to
    assert found.backend == "reverb"
    assert_measured(found)
    assert found.bytes_per_step < 20_000
    assert psutil.Process().children(recursive=True) == before


@pytest.mark.parametrize("state", [(0, 0), (256, 16)])
def test_memory_is_measured(state: tuple[int, int]) -> None:
    found = bench_memory(CONFIG, SPEC._replace(state=state), seconds=0.2)
    assert found.backend == "memory"
    assert_measured(found)


@pytest.mark.slow
@pytest.mark.reverb
def test_a_process_that_dies_is_an_error_and_none_is_left() -> None:
    pytest.importorskip("reverb")
    before = psutil.Process().children(recursive=True)
    with pytest.raises(RuntimeError, match=r"process to write has died(.|\n)*replay\.batch must be 1 to 1e9"):
        bench_replay(replace(CONFIG, batch=0), SPEC)
    assert psutil.Process().children(recursive=True) == before
