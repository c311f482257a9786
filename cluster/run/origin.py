"""What a run that dreams is a dream of: RUN/dream.json. Only such a run has one."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import NamedTuple

from cluster.console.json_text import json_text
from replay.atomic import write_text
from replay.bounds import kinds

log = logging.getLogger("run")
FILE = "dream.json"


class Origin(NamedTuple):
    """The run that world model and replay are from, by name: where it lies is nobody's business who gets a copy."""

    run: str  # name of its directory
    id: str  # its run_id
    update: int  # of its checkpoint
    policy_step: int  # that the world model had seen, at most, until then
    collected: int  # policy steps played for this dream; 0 = the run's replay was taken as it was

    def __str__(self) -> str:
        return f"{self.run}, update {self.update:,} (policy step {self.policy_step:,})"


def write(run: Path, origin: Origin) -> None:
    """Raises OSError."""
    write_text(run / FILE, json_text(origin._asdict(), indent=2) + "\n")


def read(run: Path) -> Origin | None:
    """None where there is none: the run is no dream."""
    try:
        origin = Origin(**json.loads((run / FILE).read_text()))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError):
        log.warning("%s is damaged: what this run is a dream of is not known", run / FILE)
        return None
    values = origin._asdict()
    return origin if all(kind.has_type(values[name]) for name, kind in kinds(Origin).items()) else None
