"""JSON that every reader understands."""

from __future__ import annotations

import json
import math

import pytest

from cluster.console.json_text import json_text, not_finite, print_json

ODD = {"mean": math.nan, "scores": [1.0, -math.inf], "random": {"std": math.inf, "n": 3}, "t": (math.nan,), "s": "NaN"}


def strict(text: str) -> object:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    return json.loads(text, parse_constant=refuse)


def test_what_is_not_finite_is_null_and_all_else_as_it_is() -> None:
    assert strict(json_text(ODD)) == {
        "mean": None,
        "scores": [1.0, None],
        "random": {"std": None, "n": 3},
        "t": [None],
        "s": "NaN",
    }
    assert not_finite(ODD) == ["mean", "scores.1", "random.std", "t.0"]
    assert json_text({"a": 1.5, "b": [True, None]}) == '{"a": 1.5, "b": [true, null]}'


def test_what_is_printed_is_json_and_what_is_null_is_said_elsewhere(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    print_json(ODD)
    assert isinstance(strict(capsys.readouterr().out), dict)
    assert "not finite, so null in the JSON: mean, scores.1, random.std, t.0" in caplog.text
