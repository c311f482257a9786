"""The JSON file that a stage fills number by number: whatever ends the stage, what was measured is there."""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cluster.console.json_text import finite


def read(path: Path) -> dict[str, Any]:
    """{} where there is none yet."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return {}


def write(path: Path, content: dict[str, Any]) -> None:
    """At once or not at all; a number that is not finite, which JSON has no word for, becomes null."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.write_text(json.dumps(finite(content), indent=1, default=str) + "\n")
    unfinished.replace(path)


def note(path: Path, name: str, measure: Callable[[], Any]) -> bool:
    """Adds what `measure` gives, or how it failed, which goes to the log as well. Whether it succeeded."""
    print(f"--- {name}", flush=True)
    try:
        found, good = measure(), True
    except Exception as error:  # one number less must not cost the others
        traceback.print_exc()
        found, good = {"error": f"{type(error).__name__}: {error}"[:1000]}, False
    write(path, read(path) | {name: found})
    return good
