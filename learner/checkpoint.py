"""Checkpoints: one file holds all that a learner needs to go on bit for bit; it is there whole or not at all.

    checkpoints/update-000001200.pt   newest complete ones
    checkpoints/latest                names the newest
    checkpoints/damaged-...           could not be read when training went on: set aside

Loading never executes code from the file (torch's weights_only).
"""

from __future__ import annotations

import json
import logging
import re
import zipfile
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import torch

from dreamer.agent import Agent
from learner.step import Optimizers
from replay.atomic import make_folder, sweep, write_atomically, write_text
from replay.errors import UserError

log = logging.getLogger("checkpoint")
FORMAT = 1
NAME = re.compile(r"update-(\d{9,})\.pt")
SET_ASIDE = "damaged-"


class Damaged(UserError):
    """A file that is no whole checkpoint, and never will be."""


class Progress(NamedTuple):
    """How far a run is."""

    update: int
    policy_step: int


class Checkpoint(NamedTuple):
    """What a file holds."""

    path: Path
    update: int
    policy_step: int
    config: dict[str, Any]  # the run's whole configuration
    agent: dict[str, torch.Tensor]
    optimizers: dict[str, Any]
    rng: dict[str, Any]  # torch: cpu, cuda: [that of the learner's GPU]; numpy: JSON text of a generator's state


def save(
    folder: Path,
    agent: Agent,
    optimizers: Optimizers,
    *,
    config: dict[str, Any],
    progress: Progress,
    rng: np.random.Generator | None = None,
    keep: int = 2,
) -> Path:
    """Writes a checkpoint, forgets all but the newest `keep`, and what a killed save left behind.

    Raises OSError (full disk ...) and FloatingPointError (a weight is not finite): the older ones stay.
    """
    sweep(folder)  # first: it may be what fills the disk
    if not all(weight.isfinite().all() for weight in agent.state_dict().values()):
        raise FloatingPointError("a weight is not finite")
    content = {
        "agent": agent.state_dict(),
        "optimizers": {name: optimizer.state_dict() for name, optimizer in optimizers.items()},
        "rng": {
            "torch": torch.get_rng_state(),
            "cuda": [torch.cuda.get_rng_state(device) for device in _gpus_of(agent)],
            "numpy": json.dumps(rng.bit_generator.state) if rng else "",
        },
    }
    path = _write(folder, content, config=config, progress=progress)
    for old in list_checkpoints(folder)[max(1, keep) :]:
        old.unlink(missing_ok=True)
    return path


def export(checkpoint: Checkpoint, folder: Path) -> Path:
    """Writes the weights alone, as float16: a sixth of the file, enough to play with and not to train on.

    Raises OSError.
    """
    half = {key: value.half() if value.is_floating_point() else value for key, value in checkpoint.agent.items()}
    content = {"agent": half, "optimizers": {}, "rng": {}}
    progress = Progress(checkpoint.update, checkpoint.policy_step)
    return _write(folder, content, config=checkpoint.config, progress=progress)


def _write(folder: Path, content: dict[str, Any], *, config: dict[str, Any], progress: Progress) -> Path:
    """One complete file, named by its update; then `latest` names it."""
    make_folder(folder)
    path = folder / f"update-{progress.update:09d}.pt"
    whole = {"format": FORMAT, **progress._asdict(), "config": json.dumps(config), **content}
    write_atomically(path, lambda file: _dump(whole, file))
    write_text(folder / "latest", path.name)
    return path


def _dump(content: dict[str, Any], file: BinaryIO) -> None:
    """torch.save; its zip writer hides a full disk in a RuntimeError."""
    try:
        torch.save(content, file)
    except RuntimeError as error:
        if "CUDA" in str(error):  # not the disk's fault: the weights cannot be had
            raise
        raise OSError(f"cannot write a checkpoint: {error}") from error


def list_checkpoints(folder: Path) -> list[Path]:
    """Checkpoint files, newest first: the one that `latest` names, then the others by update.

    A copy that somebody has made under another name is his: nobody loads it unasked, and nobody deletes it.
    """
    ours = [path for path in folder.glob("update-*.pt") if NAME.fullmatch(path.name) and path.is_file()]
    found = sorted(ours, key=update_of, reverse=True)
    try:
        named = folder / (folder / "latest").read_text().strip()
    except (OSError, UnicodeDecodeError):  # not there, not to be read, or rubbish: by update, then
        named = None
    return sorted(found, key=lambda path: path != named)


def load_newest(folder: Path, *, set_aside: bool = False) -> Checkpoint | None:
    """The newest checkpoint that can be read; says so when that is not the newest one. None if there is no file at all.

    set_aside: damaged ones are renamed, so that they do not count among those to keep. For whoever trains here: a
    command that only reads changes nothing. Raises UserError if there are files and none can be read.
    """
    paths = list_checkpoints(folder)
    damaged: list[Path] = []
    for path in paths:
        try:
            found = load(path)
        except Damaged as error:
            damaged.append(path)
            log.warning("%s; trying the one before it", error)
        except UserError as error:
            log.warning("%s; trying the one before it", error)
        else:
            if set_aside and damaged:  # not before a good one is found: nobody shall begin anew without being told
                _set_aside(folder, damaged, latest=path)
            return found
    if paths:
        raise UserError(f"none of the {len(paths)} checkpoints in {folder} can be read; use another --run-dir")
    return None


def _set_aside(folder: Path, damaged: list[Path], *, latest: Path) -> None:
    """Renames damaged files to damaged-NAME; `latest` names the one that can be read. Says what it could not do."""
    try:
        for path in damaged:
            path.rename(path.with_name(f"{SET_ASIDE}{path.name}"))
        write_text(folder / "latest", latest.name)
    except OSError as error:
        log.warning("cannot rename the damaged checkpoint in %s (%s)", folder, error.strerror)
        return
    names = ", ".join(f"{SET_ASIDE}{path.name}" for path in damaged)
    log.warning("set aside as %s in %s: it is safe to delete", names, folder)


def load(path: Path) -> Checkpoint:
    """Reads one file. Raises UserError where it is missing or of another format, Damaged where it is broken."""
    try:
        _check_sums(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
        if content["format"] != FORMAT:
            raise UserError(f"checkpoint {path} has format {content['format']}, this program reads {FORMAT}")
        fields = {key: content[key] for key in ("update", "policy_step", "agent", "optimizers", "rng")}
        return Checkpoint(path=path, config=json.loads(content["config"]), **fields)
    except (UserError, MemoryError):
        raise
    except FileNotFoundError as error:
        raise UserError(f"there is no checkpoint {path}") from error
    except OSError as error:
        raise UserError(f"cannot read checkpoint {path} ({error.strerror})") from error
    except Exception as error:  # torch raises many kinds for a damaged file
        if "allocate memory" in str(error):
            raise
        raise Damaged(f"checkpoint {path} is damaged or not one of ours ({type(error).__name__})") from error


def _check_sums(path: Path) -> None:
    """Raises Damaged where a byte is not as it was written: torch writes check sums and does not look at them."""
    with zipfile.ZipFile(path) as archive:
        if (part := archive.testzip()) is not None:
            raise Damaged(f"checkpoint {path} is damaged: the check sum of its {part} is wrong")


def update_of(path: Path) -> int:
    """The updates of a checkpoint, from its name."""
    return int(path.stem.removeprefix("update-"))


def restore(
    checkpoint: Checkpoint, agent: Agent, optimizers: Optimizers | None = None, rng: np.random.Generator | None = None
) -> None:
    """Puts a checkpoint's weights into the agent; with optimisers given, everything that training needs to go on."""
    try:
        agent.load_state_dict(checkpoint.agent)
    except RuntimeError as error:
        first = str(error).strip().splitlines()[-1].strip()
        raise UserError(f"checkpoint {checkpoint.path} is of another network: {first}") from error
    if optimizers is None:
        return
    check_trainable(checkpoint)
    for name, optimizer in optimizers.items():
        own = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
        optimizer.load_state_dict(checkpoint.optimizers[name])
        for group, settings in zip(optimizer.param_groups, own, strict=True):
            group.update(settings)  # rates as the run is configured now: only the moments are of the checkpoint
    torch.set_rng_state(checkpoint.rng["torch"])
    for device in _gpus_of(agent):
        if state := state_of_gpu(checkpoint.rng["cuda"], device.index or 0):
            torch.cuda.set_rng_state(state[0], device)
    if rng is not None and checkpoint.rng["numpy"]:
        rng.bit_generator.state = json.loads(checkpoint.rng["numpy"])


def check_trainable(checkpoint: Checkpoint) -> None:
    """Raises UserError for one that can only be played with."""
    if not checkpoint.optimizers:
        raise UserError(f"{checkpoint.path} was exported: it can be played with, not trained on")


def _gpus_of(agent: Agent) -> list[torch.device]:
    """The GPU that the agent lives on, if it is one: no other draws for training."""
    device = next(agent.parameters()).device
    return [device] if device.type == "cuda" else []


def state_of_gpu(states: list[torch.Tensor], index: int) -> list[torch.Tensor]:
    """The state for the generator of GPU `index`, if there is one: files hold that of the learner's GPU alone, older
    ones those of all GPUs of another machine, which may have had more or fewer."""
    return states[index : index + 1] or states[:1]
