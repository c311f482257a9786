"""The folder of a replay server: which checkpoints it holds, and which of them may be loaded.

<directory>/<table>/settings.json      what the checkpoints were made with: loading one brings its settings back
                   /newest/<time>/     the server's own; it deletes the older ones itself
                   /previous/<time>/   the one before, for when the newest cannot be read
                   /aside/<time>       those that could not be read
                   /loading            exists while one is being loaded; counts the attempts
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any

from replay.atomic import make_folder, sweep, write_text

log = logging.getLogger("replay")
ATTEMPTS = 2  # a process may also die of something else while it loads


def prepare(folder: Path, settings: dict[str, Any]) -> None:
    """Makes the folder ready for a server with these settings; checkpoints made with others are moved aside."""
    note = folder / "settings.json"
    if folder.exists() and _read(note) != settings:
        aside = _free_name(folder.with_name(folder.name + ".other-settings"))
        folder.rename(aside)
        log.warning("the replay's settings have changed: its checkpoints are now in %s; starting empty", aside)
    make_folder(folder / "newest")
    sweep(folder)
    remove_halves(folder)
    write_text(note, json.dumps(settings, indent=1))


def newest(folder: Path) -> Path | None:
    """The checkpoint that a server in this folder will load."""
    complete = [path.parent for path in (folder / "newest").glob("*/DONE")]
    return max(complete, default=None)


def begin_load(folder: Path) -> None:
    """To be called before a load: a checkpoint that has killed its reader twice is not given a third try."""
    marker = folder / "loading"
    attempts = int(_read(marker) or 0)
    if attempts >= ATTEMPTS:
        move_aside(folder, "the server died while loading it")
        attempts = 0
    if newest(folder) is not None:
        marker.write_text(str(attempts + 1), encoding="utf-8")


def end_load(folder: Path) -> None:
    """To be called after a load that went well."""
    (folder / "loading").unlink(missing_ok=True)


def move_aside(folder: Path, reason: str) -> bool:
    """Puts the one before in the place of the newest checkpoint. False if there was none to move."""
    bad = newest(folder)
    end_load(folder)
    if bad is None:
        return False
    (folder / "aside").mkdir(exist_ok=True)
    aside = _free_name(folder / "aside" / bad.name)
    bad.rename(aside)
    before = sorted((folder / "previous").glob("*/DONE"))
    rest = "using the one before" if before else "starting empty"
    log.warning("cannot load the replay's checkpoint (%s), moved it to %s; %s", reason, aside, rest)
    if before:
        before[-1].parent.rename(folder / "newest" / before[-1].parent.name)
    return True


def keep_newest(folder: Path) -> None:
    """To be called before a new checkpoint is made: the newest becomes the one before."""
    path = newest(folder)
    if path is None:
        return
    partial = folder / "previous.partial"
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(path, partial / path.name, copy_function=_link)
    shutil.rmtree(folder / "previous", ignore_errors=True)
    partial.rename(folder / "previous")


def copy(source: Path, target: Path, *, without: tuple[str, ...]) -> None:
    """A checkpoint for another reader, but for some files. Costs nothing where there are hard links. Raises OSError."""
    target.mkdir(parents=True)
    for path in source.iterdir():
        if path.name not in without:
            _link(str(path), str(target / path.name))


def remove_halves(folder: Path) -> None:
    """To be called after a save that failed, and before a server starts: what was not completed fills the disk."""
    shutil.rmtree(folder / "previous.partial", ignore_errors=True)
    for path in (folder / "newest").iterdir():
        if path.is_dir() and not (path / "DONE").exists():
            shutil.rmtree(path, ignore_errors=True)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)  # costs nothing, and the server never writes into a finished checkpoint
    except OSError:  # a file system without hard links
        shutil.copy2(source, target)


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _free_name(path: Path) -> Path:
    number, free = 1, path
    while free.exists():
        number += 1
        free = path.with_name(f"{path.name}-{number}")
    return free
