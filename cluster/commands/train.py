"""`train`: what is asked for, and whether it can be."""

from __future__ import annotations

import logging
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from actors.game import resolve
from cluster import assemble
from cluster.commands import choice
from cluster.commands.describe import parameter_counts
from cluster.commands.invocation import Asked, invoke
from cluster.commands.options import DreamOptions, TrainOptions, at_home, parse, value_of
from cluster.config import Config, check, train_every
from cluster.on_ray import environment as ray_environment
from cluster.presets import preset
from cluster.run import directory as run_dir
from cluster.run import origin as run_origin
from cluster.run import state as run_state
from cluster.run.records import RunLog
from cluster.training import Job, Limits
from learner.device import choose_device, choose_precision, has_bfloat16_units, slow_bfloat16
from replay.errors import UserError
from replay.free_memory import available_memory
from replay.ports import free_port
from replay.schema import check_memory, has_room

log = logging.getLogger("run")


def train(arguments: list[str]) -> int:
    """Trains; 0 at a limit, 130 or 143 after a signal, everything saved; 1 if the last updates could not be saved."""
    return invoke("train", arguments, understand)


def understand(arguments: list[str]) -> Asked:
    """Everything that can be refused before anything is made or changed. Raises UserError."""
    options = parse(TrainOptions, arguments, command="train", default=TrainOptions(config=base_config(arguments)))
    runs = run_dir.RUNS.absolute()  # now: games are played soon, which may go to another folder
    if options.resume and options.run_dir is None:
        raise UserError("--resume needs --run-dir: which run is to go on?")
    if options.resume and options.run_dir and (dreamt := run_origin.read(options.run_dir)):
        raise UserError(f"{options.run_dir} is a dream of {dreamt.run}: go on with it by dream --resume")
    config = with_shorthands(options, arguments)
    check(config)
    if not options.resume:
        run_dir.check_free(options.run_dir, runs)
    device = choose_device(config.train.device)
    spec = assemble.env_spec(config, log.warning)
    before = run_state.runtime_of(options.run_dir) if options.resume and options.run_dir else None
    gpu_memory = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else None
    chosen = choice.choose_runtime(
        options.runtime,
        before,
        config.cluster,
        on_gpu=gpu_memory is not None,
        fits=has_room(config.replay, spec, gpu_memory),
    )
    memory = check_memory(
        config.replay, spec, gpu_memory if chosen.name == "inline" else None
    )  # where the replay lives
    assemble.check_network(config, spec, available_memory() if gpu_memory is None else gpu_memory)
    trainer = runtime(chosen.name, config)
    if chosen.name != "inline":
        free_port(config.replay.port)

    def greet(job: Job, run_log: RunLog) -> list[str]:
        return greeting(job, chosen, device, memory, run_log)

    limits = Limits(options.steps, options.updates, options.minutes)
    return Asked(options, limits, config, spec, runs, before, chosen.name, trainer, greet)


def base_config(arguments: list[str]) -> Config:
    """What the options change: the named preset; else, on resume, the run's own config; else by the hardware."""
    if (name := value_of("--preset", arguments)) is not None:
        return preset(name)
    if "--resume" in arguments:
        path = value_of("--run-dir", arguments)
        if path is None:
            raise UserError("--resume needs --run-dir: which run is to go on?")
        return run_dir.open_run(at_home(Path(path)))[1]
    device = value_of("--device", arguments) or value_of("--train.device", arguments)
    return preset(choice.choose_preset(gpu=torch.cuda.is_available(), device=device))


def with_shorthands(options: TrainOptions, arguments: list[str]) -> Config:
    """The configuration with --seed and --device in their places and an old game name spelled out."""
    config = with_seed_and_device(options.config, options)
    env = resolve(config.env)
    for option, asked, meant in (
        ("--env.sticky", config.env.sticky, env.sticky),
        ("--env.frame-skip", config.env.frame_skip, env.frame_skip),
    ):
        if value_of(option, arguments) is not None and asked != meant:
            raise UserError(f"{config.env.id} means {option} {meant:g}: for {asked:g} take --env.id {env.id}")
    return replace(config, env=env)


def with_seed_and_device(config: Config, options: TrainOptions | DreamOptions) -> Config:
    """The configuration with what the short options say in its place."""
    given = {"seed": options.seed, "device": options.device}
    named = {name: value for name, value in given.items() if value is not None}
    return replace(config, train=replace(config.train, **named))


def runtime(name: str, config: Config) -> Any:
    """The module that trains: `ready` and `train`. Ray is imported only where it is asked for."""
    if name == "inline":
        from cluster import inline

        return inline
    missing = [package for package in ("ray", "reverb", "tensorflow") if find_spec(package) is None]
    if missing:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise UserError(
            f"--runtime ray needs {' and '.join(missing)}, made for Python 3.11; this is {version}: "
            "use `make setup` with Python 3.11, or --runtime inline"
        )
    ray_environment.set_for(config.cluster)
    from cluster.on_ray import driver

    return driver


def greeting(job: Job, runtime: choice.Runtime, device: torch.device, memory: str, run_log: RunLog) -> list[str]:
    """What is about to happen, with the size of everything."""
    config, replay = job.config, job.config.replay
    where = f"{device} ({torch.cuda.get_device_name()})" if device.type == "cuda" else "CPU (no GPU is used)"
    sizes, precision = parameter_counts(config), choose_precision(config.train.precision, device)
    many = config.cluster.actors or f"up to {config.cluster.max_actors}"
    workers = config.actor.workers
    inline = f"inline, games in {workers} processes of their own" if workers else "inline, all in one process"
    played = inline if runtime.name == "inline" else f"ray, {many} actor process(es)"
    why = f" ({runtime.why})" if runtime.why else ""
    lines = [
        f"run directory {job.run.path}",
        f"learner on {where}, {precision}, {sizes['total'] / 1e6:.1f}M parameters",
        f"runtime {played}{why}",
        f"{config.actor.games} games of {config.env.id}{'' if runtime.name == 'inline' else ' in each actor'}, "
        f"{config.env.frame_skip} frames per policy step, sticky {config.env.sticky:g}",
        memory,
        f"an update trains on {replay.batch} x {replay.length} steps; replay ratio {replay.replay_ratio:g}: "
        f"one update per {train_every(config):g} policy steps, after {replay.prefill:,} steps of random play",
        f"metrics {run_log.address}; curves: tensorboard --logdir {job.run.path / 'tensorboard'}",
    ]
    lines += choice.ignored(config, runtime.name)
    emulated = slow_bfloat16(device)
    if slow := choice.slower_than_float32(precision, units=has_bfloat16_units(device), emulated=emulated):
        lines.append(slow)
    if job.resume:
        lines.append(f"going on from {job.resume.path.name}, policy step {job.resume.policy_step:,}")
    return lines
