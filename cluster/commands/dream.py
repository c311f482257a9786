"""`dream`: what is asked for, and whether it can be."""

from __future__ import annotations

import logging
from typing import NamedTuple

import torch

from cluster import assemble
from cluster.commands.invocation import Asked, invoke
from cluster.commands.options import DreamOptions, check_parts, parse
from cluster.commands.train import with_seed_and_device
from cluster.config import Config, check
from cluster.dream import Dream, Source
from cluster.presets import preset
from cluster.run import directory as run_dir
from cluster.run import origin as run_origin
from cluster.run import state as run_state
from cluster.run.origin import Origin
from cluster.run.records import RunLog
from cluster.training import Job, Limits
from learner.device import choose_device, choose_precision
from replay.errors import UserError
from replay.free_memory import available_memory
from replay.schema import check_memory

log = logging.getLogger("run")
WHERE = "a dream: it takes those of behavior, most of train, replay.batch and replay.capacity"
COLLECT = 20_000  # policy steps that are played for a run without a replay; ours: half of what a school records
NO_PART = {f"train.{name}" for name in ("model_lr", "overlap", "publish_every", "image_every", "video_every")}
PART = {"replay.batch", "replay.capacity", "cluster.host", "cluster.metrics_port"}  # beside behavior, and train's rest
OF_PLAY = {"replay.length", "replay.stride", "actor.games"}  # only where steps are played first


def dream(arguments: list[str]) -> int:
    """Trains; 0 at a limit, 130 or 143 after a signal, everything saved; 1 if the last updates could not be saved."""
    return invoke("dream", arguments, understand)


class Wanted(NamedTuple):
    """What is dreamt of, and the configuration that the options change."""

    base: Config
    source: Source | None  # None = everything is in the dream's own directory
    origin: Origin


def understand(arguments: list[str]) -> Asked:
    """Everything that can be refused before anything is made or changed. Raises UserError."""
    named = parse(DreamOptions, arguments, command="dream", default=DreamOptions(config=preset("cpu")))
    runs = run_dir.RUNS.absolute()  # now: games are played soon, which may go to another folder
    wanted = gone_on_with(named) if named.resume else begun(named)
    options = parse(DreamOptions, arguments, command="dream", default=DreamOptions(config=wanted.base))
    plays = wanted.source is not None and wanted.origin.collected > 0
    check_parts(wanted.base, options.config, lambda name: has_part(name, plays=plays), where=WHERE)
    config = with_seed_and_device(options.config, options)
    check(config)
    if not options.resume:
        run_dir.check_free(options.run_dir, runs)
    device = choose_device(config.train.device)
    gpu_memory = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else None
    spec = assemble.env_spec(config, log.warning)
    memory = check_memory(config.replay, spec, gpu_memory)
    assemble.check_network(config, spec, available_memory() if gpu_memory is None else gpu_memory)

    def greet(job: Job, run_log: RunLog) -> list[str]:
        where = f"{'GPU' if device.type == 'cuda' else 'CPU'}, {choose_precision(config.train.precision, device)}"
        with torch.device("meta"):
            world = assemble.make_agent(config, spec).world
        kept = f"{sum(weight.numel() for weight in world.parameters()) / 1e6:.1f}M parameters that stay as they are"
        lines = [
            f"run directory {job.run.path}",
            f"world model of {wanted.origin}: {kept}",
            f"behavior {config.behavior.name} learns on {where}",
            memory,
            starts(config, wanted.origin),
            f"metrics {run_log.address}; curves: tensorboard --logdir {job.run.path / 'tensorboard'}",
        ]
        return [*lines, f"going on from {job.resume.path.name}"] if job.resume else lines

    trainer = Dream(spec, wanted.origin, wanted.source)
    limits = Limits(None, options.updates, options.minutes)
    return Asked(options, limits, config, spec, runs, None, run_state.DREAM, trainer, greet)


def begun(options: DreamOptions) -> Wanted:
    """A new dream. Raises UserError where RUN cannot be dreamt of."""
    if options.run is None:
        raise UserError("dream needs RUN: the run directory in whose world model a behaviour is to learn")
    source = Source(run_dir.open_run(options.run)[0], assemble.load(options.run))
    collect = options.collect or (0 if source.replay else COLLECT)
    return Wanted(source.loaded.config, source, source.origin(collect))


def gone_on_with(options: DreamOptions) -> Wanted:
    """A dream that was begun. Raises UserError where there is none, or it is of another run."""
    if options.run_dir is None:
        raise UserError("--resume needs --run-dir: which dream is to go on?")
    run, base = run_dir.open_run(options.run_dir)
    origin = run_origin.read(run.path)
    if origin is None:
        raise UserError(f"{options.run_dir} is no dream: go on with it by train --resume")
    if options.run and run_dir.open_run(options.run)[0].id != origin.id:
        raise UserError(f"{options.run_dir} is a dream of {origin.run}, not of {options.run}: leave RUN out")
    if run.has_checkpoint():
        if options.collect:
            raise UserError("--collect has no part in a dream that goes on: its steps are played already")
        return Wanted(base, None, origin)
    if options.run is None:  # it ended while steps were played
        again = f"dream {origin.run} --resume --run-dir {options.run_dir}"
        raise UserError(f"{options.run_dir} has no checkpoint yet: name the run that it is a dream of, {again}")
    return begun(options)._replace(base=base)


def has_part(name: str, *, plays: bool) -> bool:
    """Whether a value such as "train.actor_lr" matters."""
    section = name.partition(".")[0]
    return (
        section == "behavior"
        or (section == "train" and name not in NO_PART)
        or name in PART
        or (plays and name in OF_PLAY)
    )


def starts(config: Config, origin: Origin) -> str:
    """Where dreams begin, in words."""
    replay, behavior = config.replay, config.behavior
    kept = f"{origin.collected:,} policy steps of its own agent" if origin.collected else "the replay that it had saved"
    count = replay.batch * (replay.length // behavior.start_every)
    return f"dreams begin in {kept}; an update dreams {behavior.horizon} steps from {count:,} states"
