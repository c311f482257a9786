"""The commands for a trained agent: evaluate, record and export."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from actors.config import EnvConfig
from actors.game import resolve
from cluster import assemble
from cluster.commands.options import EvaluateOptions, ExportOptions, RecordOptions, parse
from cluster.config import changes
from cluster.console.json_text import print_json
from cluster.look import video
from cluster.look.counterfactual import counterfactual_report
from cluster.look.evaluate import evaluate as play_agent
from cluster.look.evaluate import play_random, summary
from cluster.look.hazard import table
from cluster.look.world_report import KINDS, kinds_table, world_report
from cluster.play.folder import check_place, write_page
from cluster.play.starts import about, check_policy, find_starts, first_frames
from cluster.run import directory as run_dir
from cluster.run import origin as run_origin
from learner import checkpoint
from replay.errors import UserError

EVALUATION_STEPS = 27_000  # policy steps after which an evaluation game is cut off; dreamerv2 time_limit
WINDOWS_PER_EPISODE = 20  # of --world-model


def evaluate(arguments: list[str]) -> int:
    """Prints the scores of a trained agent beside those of random play."""
    options = parse(EvaluateOptions, arguments, command="evaluate")
    own = run_dir.open_run(options.run)[1]
    options = parse(EvaluateOptions, arguments, command="evaluate", default=replace(options, behavior=own.behavior))
    loaded = assemble.load(options.run, path=options.checkpoint, device=options.device, behavior=options.behavior)
    env = replace(resolve(loaded.config.env), time_limit=EVALUATION_STEPS, perturb=options.perturb)
    if options.sticky is not None:
        env = replace(env, sticky=options.sticky)
    other = changes(own, loaded.config)
    if options.world_model or options.counterfactual:
        return judge_world_model(loaded, env, options, other)
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(f"{options.episodes} games", total=options.episodes)
        played = play_agent(
            loaded.agent,
            env,
            episodes=options.episodes,
            seed=options.seed,
            sample=options.action == "sample",
            progress=lambda count: bar.update(task, completed=count),
        )
        bar.update(task, description="random play")
        random = play_random(env, episodes=options.episodes, seed=options.seed)
    found = loaded.checkpoint
    result = summary(
        played,
        random,
        checkpoint={"update": found.update, "policy_step": found.policy_step},
        env=env,
        behavior=loaded.config.behavior,
    )
    if options.json:
        print_json(result)
        return 0
    print(f"{found.path.name} (policy step {found.policy_step:,}), {options.episodes} games of {env.id}")
    print(f"  perturb {env.perturb}, sticky {env.sticky:g}")
    print_indented(other)
    print(f"  score  {result['mean']:.2f} +- {result['std']:.2f}  (min {result['min']:g}, max {result['max']:g})")
    print(f"  random {result['random']['mean']:.2f} +- {result['random']['std']:.2f}")
    for line in table(played.hazards):
        print(line)
    return 0


def print_indented(lines: Iterable[str]) -> None:
    for line in lines:
        print(f"  {line}")


def judge_world_model(loaded: assemble.Loaded, env: EnvConfig, options: EvaluateOptions, other: list[str]) -> int:
    """Prints what the world model sees and foresees in fresh games; other: how the run's behaviour was changed."""
    windows = WINDOWS_PER_EPISODE * options.episodes
    judged = {"counterfactual": counterfactual_report} if options.counterfactual else {}  # first: it may be refused
    judged[""] = world_report
    reports = {name: judge(loaded.agent, env, windows=windows, seed=options.seed) for name, judge in judged.items()}
    found = reports.pop("")
    if options.json:
        of = {"checkpoint": {"update": loaded.checkpoint.update}, "behavior": loaded.config.behavior.name}
        print_json({**of, "windows": windows, **found, **reports})
        return 0
    print(f"{loaded.checkpoint.path.name}, {windows} windows of {env.id}, perturb {env.perturb}")
    print_indented(other)
    if reports:
        print(f"  {'':22} {'real':>6} {'never reached':>14}")
    for name, value in found.items():
        if not name.endswith(KINDS):
            beside = (f"{report[name]:14.3f}" if name in report else f"{'-':>14}" for report in reports.values())
            print(" ".join([f"  {name:22} {value:6.3f}", *beside]))
    for line in kinds_table(found):
        print(line)
    for report in reports.values():
        print("in states that play never reaches:")
        for line in kinds_table(report):
            print(line)
    return 0


def export(arguments: list[str]) -> int:
    """Writes a run directory to give away, or a folder for a web server, or both."""
    options = parse(ExportOptions, arguments, command="export")
    if options.out is None and options.web is None:
        raise UserError("export needs --out DIR (a copy that plays) or --web DIR (a page): see dreamer export --help")
    if options.web is not None:
        check_place(options.web)
    loaded = assemble.load(options.run, path=options.checkpoint)
    if options.web is not None:
        export_page(loaded, options.web)
    if options.out is not None:
        export_copy(loaded, options.run, options.out)
    return 0


def export_copy(loaded: assemble.Loaded, run: Path, out: Path) -> None:
    """A run directory: configuration, half-precision weights, curves; no replay, no optimisers."""
    try:
        copy = run_dir.create(out, loaded.config)
    except UserError as error:
        advice = str(error).replace("add --resume to go on with it, or ", "").replace("--run-dir", "--out")
        raise UserError(advice) from error
    try:
        path = checkpoint.export(loaded.checkpoint, copy.checkpoints)
        for name in ("metrics.jsonl", "episodes.jsonl", "log.txt", run_origin.FILE):
            if (run / name).exists():
                shutil.copy(run / name, copy.path / name)
    except BaseException as error:  # also Ctrl-C: half a copy would be in the way of the next try
        run_dir.forget(copy)
        if isinstance(error, OSError):
            raise UserError(f"cannot write to {out} ({error.strerror}): choose another --out") from error
        raise
    print(f"{copy.path}: update {loaded.checkpoint.update:,}, {path.stat().st_size / 1e6:.1f} MB", file=sys.stderr)


def export_page(loaded: assemble.Loaded, folder: Path) -> None:
    """A page that dreams without Python."""
    check_policy(loaded.agent)
    agent, env = loaded.agent, resolve(loaded.config.env)
    starts = find_starts(agent, env, seed=0)
    page = about(agent, env, starts, update=loaded.checkpoint.update, live=False)
    sizes = write_page(agent, page | {"first": first_frames(agent, starts)}, folder)
    print(f"{folder}: {sizes.model / 1e6:.1f} MB of model, {sizes.all / 1e6:.1f} MB in all", file=sys.stderr)
    print(f"to look at it: python -m http.server --bind 127.0.0.1 --directory {folder}", file=sys.stderr)


def record(arguments: list[str]) -> int:
    """Writes a video."""
    options = parse(RecordOptions, arguments, command="record")
    video.check_video_path(options.out)
    loaded = assemble.load(options.run, path=options.checkpoint)
    env = resolve(loaded.config.env)
    match options.kind:
        case "play":
            frames = video.record_play(loaded.agent, env, seed=options.seed, steps_limit=options.steps)
        case "reconstruct":
            frames = video.record_reconstruct(loaded.agent, env, seed=options.seed)
        case "dream":
            frames = video.record_dream(loaded.agent, env, seed=options.seed)
    began = time.monotonic()
    video.write_video(frames, options.out, options.fps)
    print(f"{options.out} written in {time.monotonic() - began:.0f} s", file=sys.stderr)
    return 0
