"""What a run leaves behind, and how to get its agent back.

config.json        every value of the configuration         metrics.jsonl      one object per logging interval
run_id             names the run for its replay server      episodes.jsonl     one object per finished game
checkpoints/       see learner/checkpoint.py                tensorboard/       curves and pictures
replay/            the replay's own checkpoints             videos/  log.txt   recordings; what was said
actors.json        what became of every policy step    state.json         who trains here, see cluster/run/state.py
prometheus/        targets.json: where each process shows its metrics
dream.json         of a run that dreams: what it is a dream of, see cluster/run/origin.py
lock               is locked while somebody trains here, see cluster/run/lock.py
"""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import NamedTuple

from cluster.config import Config, changes, from_json, to_json
from cluster.console.json_text import json_text
from learner import checkpoint
from replay.atomic import make_folder, sweep, sync_directory, write_text
from replay.errors import UserError

log = logging.getLogger("run")
RUNS = Path("runs")  # where run directories are that were given no name
LOCK = "lock"
HALF_MADE = {LOCK, "run_id", "videos"}  # all that is there when `create` is killed before its end, and ...
LEFT = re.compile(r"\.(run_id|config\.json)\.\d+")  # ... one of these
OURS = {
    *("config.json", "run_id", LOCK, "log.txt", "state.json", "actors.json", "metrics.jsonl", "episodes.jsonl"),
    "dream.json",
    *("videos", "replay", "tensorboard", "prometheus", "checkpoints"),
}


class Run(NamedTuple):
    """A run directory."""

    path: Path
    id: str

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def replay(self) -> Path:
        return self.path / "replay"

    def has_checkpoint(self) -> bool:
        return bool(checkpoint.list_checkpoints(self.checkpoints))


def check_free(path: Path | None, runs: Path = RUNS) -> None:
    """Raises UserError where a new run directory cannot be; makes nothing. None: a name of our own, below `runs`."""
    path = path or runs
    try:
        holds_run, names = (path / "config.json").exists(), _names_in(path)
        above = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
        usable, is_folder = os.access(above, os.W_OK | os.X_OK), above.is_dir()
    except OSError as error:  # a name that is too long, a folder that nobody may look into
        raise UserError(f"cannot write to {path} ({error.strerror}): choose another --run-dir") from error
    if path == runs:
        pass
    elif holds_run:
        raise UserError(f"{path} holds a run already: add --resume to go on with it, or choose another --run-dir")
    elif names - (HALF_MADE if "run_id" in names else {LOCK}):
        raise UserError(f"{path} is not empty and holds no run: choose another --run-dir")
    if not is_folder or not usable:
        reason = os.strerror(errno.EACCES if is_folder else errno.ENOTDIR)
        raise UserError(f"cannot write to {path} ({reason}): choose another --run-dir")


def _names_in(path: Path) -> set[str]:
    """What is in a folder, but for what a killed `create` left; nothing where there is none."""
    return {found.name for found in path.iterdir() if not LEFT.fullmatch(found.name)} if path.is_dir() else set()


def new_id() -> str:
    return uuid.uuid4().hex[:12]


def create(
    path: Path | None,
    config: Config,
    *,
    id: str = "",
    runs: Path = RUNS,
    take: Callable[[Path], None] = lambda folder: None,
) -> Run:
    """A new run directory; without a name, a new one below `runs`. Raises UserError where one cannot be.

    take: takes the lock of the new directory, before anything is written there.
    """
    check_free(path, runs)
    made: list[Path] = []
    try:
        folder = _new_folder(runs) if path is None else path
        if not folder.exists():
            made.append(folder)
        make_folder(folder)
        take(folder)
        check_free(path, runs)  # somebody else may have been faster
        run = Run(folder.resolve(), id or new_id())
        sweep(folder)
        write_text(folder / "run_id", run.id)  # first: it says that the rest is ours
        (folder / "videos").mkdir(exist_ok=True)
        write_config(run, config)
    except OSError as error:
        for folder in made:
            shutil.rmtree(folder, ignore_errors=True)
        raise UserError(f"cannot write to {path or runs} ({error.strerror}): choose another --run-dir") from error
    return run


def _new_folder(runs: Path) -> Path:
    """A folder below `runs` that nobody else has, named by the second in which it was made."""
    make_folder(runs)
    name = time.strftime("%Y-%m-%d-%H%M%S")
    for number in count(1):
        folder = runs / (name if number == 1 else f"{name}-{number}")
        with suppress(FileExistsError):
            folder.mkdir()
            sync_directory(runs)
            return folder
    raise AssertionError


def forget(run: Run) -> None:
    """Removes a run directory of this process in which nothing has happened, so that the same name can be tried again.

    One with anything in it that is not ours stays.
    """
    sweep(run.path)
    if all(found.name in OURS for found in run.path.iterdir()):
        shutil.rmtree(run.path, ignore_errors=True)


def make_whole(run: Run, config: str) -> None:
    """Gives a directory that was deleted under its run what makes it this run's: `config` is the text of config.json.

    Raises UserError where another run lies there, OSError where nothing can be written.
    """
    if not is_ours(run):
        raise UserError("another run lies there now")
    make_folder(run.path)
    (run.path / "videos").mkdir(exist_ok=True)
    write_text(run.path / "run_id", run.id)
    write_text(run.path / "config.json", config)


def is_ours(run: Run) -> bool:
    """Whether the directory is still this run's, or nobody's."""
    try:
        return (run.path / "run_id").read_text().strip() == run.id
    except OSError:
        return not (run.path / "config.json").exists()


def write_config(run: Run, config: Config) -> None:
    text = json_text(to_json(config), indent=2) + "\n"
    write_text(run.path / "config.json", text)


def open_run(path: Path) -> tuple[Run, Config]:
    """An existing run directory and its configuration. Raises UserError where there is none."""
    try:
        file = path / "config.json"
        config = from_json(json.loads(file.read_text(encoding="utf-8-sig")))  # Windows' editors put a mark before it
        file = path / "run_id"
        id = file.read_text().strip()
        if not id:
            raise ValueError("it is empty")
        return Run(path.resolve(), id), config
    except FileNotFoundError as error:
        raise UserError(f"{path} holds no run ({Path(error.filename).name} is missing)") from error
    except OSError as error:
        raise UserError(f"cannot read {file} ({error.strerror}): is {path} a run directory?") from error
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except (ValueError, RecursionError) as error:  # no JSON, or no text
        raise UserError(f"{file} is damaged: {str(error)[:200]}") from error


def change_config(run: Run, old: Config, new: Config) -> None:
    """Replaces a run's configuration; says key by key what changed."""
    for change in changes(old, new):
        log.warning("changed since this run began: %s", change)
    try:
        write_config(run, new)
    except OSError as error:
        raise UserError(f"cannot write to {run.path} ({error.strerror}): mend its permissions or free space") from error
