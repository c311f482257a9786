"""JSON as all readers know it: NaN and infinity, which it has no words for, become null."""

from __future__ import annotations

import json
import logging
import math
from typing import Any

log = logging.getLogger("json")


def json_text(value: Any, *, indent: int | None = None) -> str:
    """One document, on one line unless indented. Numbers that are not finite become null: see `not_finite`."""
    return json.dumps(finite(value), indent=indent, allow_nan=False)


def print_json(value: Any) -> None:
    """What `--json` prints; says, not on stdout, which numbers are null because they are not finite."""
    if names := not_finite(value):
        log.warning("not finite, so null in the JSON: %s", ", ".join(names))
    print(json_text(value))


def not_finite(value: Any, name: str = "") -> list[str]:
    """The names of the numbers in it that are no numbers: ["mean", "random.std", "scores.0"]."""
    match value:
        case float():
            return [] if math.isfinite(value) else [name]
        case dict():
            inner = [(str(key), each) for key, each in value.items()]
        case list() | tuple():
            inner = [(str(place), each) for place, each in enumerate(value)]
        case _:
            return []
    return [found for key, each in inner for found in not_finite(each, f"{name}.{key}" if name else key)]


def finite(value: Any) -> Any:
    """The same with null in the place of numbers that are none."""
    match value:
        case float():
            return value if math.isfinite(value) else None
        case dict():
            return {key: finite(each) for key, each in value.items()}
        case list() | tuple():
            return [finite(each) for each in value]
        case _:
            return value
