"""The replay that a run has saved, read by somebody else: nothing is changed there."""

from __future__ import annotations

from pathlib import Path

from cluster.run.directory import Run
from replay import MemoryReplay, ReplayCorrupt, UserError, copy_saved, memory_file


def find(run: Run, update: int) -> Path | None:
    """The folder with the replay of this update, or the newest there is; None = the run has none.

    One process saves it beside each checkpoint, a dream once for all, a replay server in folders of its own.
    """
    others = sorted(run.replay.glob("update-*"), reverse=True)
    for folder in (run.replay / f"update-{update:09d}", *others, run.replay):
        if (folder / memory_file.FILE).is_file():
            return folder
    return run.replay if any(run.replay.glob("*/newest/*/DONE")) else None


def read(replay: MemoryReplay, folder: Path, *, else_: str) -> None:
    """Fills an empty replay from what `find` found. Raises UserError, which ends with the advice `else_`."""
    try:
        if (folder / memory_file.FILE).is_file():
            memory_file.restore(replay, folder)
        else:
            copy_saved(replay, folder)
        if not replay.windows:
            raise UserError(f"the replay in {folder} is empty")
    except OSError as error:
        raise UserError(f"cannot read the replay in {folder} ({error.strerror}): {else_}") from error
    except (UserError, ReplayCorrupt) as error:
        raise UserError(f"{error}: {else_}") from error
