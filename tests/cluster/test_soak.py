"""Three minutes of tests/soak.py: random deaths, and everything adds up."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("reverb", reason="needs Reverb: Python 3.11")

from tests.soak import parse, soak


@pytest.mark.ray
@pytest.mark.reverb
@pytest.mark.slow
def test_everything_adds_up_after_random_deaths(tmp_path: Path) -> None:
    options = ["--minutes", "2.5", "--kill-every", "10", "--tiny", "--run-dir", str(tmp_path / "run"), "--seed", "1"]
    result = soak(parse(options))
    assert not result["problems"]
    assert len(result["deaths"]) >= 3
    assert result["update"] > 50 and result["accounts"]["acknowledged"] > 500
