"""The command `bench`: runs the parts that are asked for, prints a table, checks the ratios, keeps the numbers."""

from __future__ import annotations

import platform
import re
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from cluster.assemble import env_spec
from cluster.bench import ceilings
from cluster.bench.metrics import MOST, bench_metrics
from cluster.bench.parts import bench_actor, bench_env, bench_learner
from cluster.bench.replay import bench_memory, bench_replay
from cluster.bench.training import bench_training
from cluster.commands.options import BenchOptions, parse
from cluster.console.json_text import json_text, print_json
from cluster.presets import preset
from learner.device import choose_device, slow_bfloat16
from replay.atomic import write_text
from replay.errors import UserError

Result = dict[str, Any]
WIDTH = 130  # columns of the table where there is no terminal

# What a part must reach of its floor, in the same run: what we saw (0.7, 0.5, 0.4, 0.6, 0.7) less what runs differ by.
LEAST = {
    "env": 0.5,
    "actor paper": 0.4,
    "whole actor cpu": 0.3,
    "learner paper cpu float32": 0.5,
    "learner paper cpu bfloat16": 0.33,
}


def bench(arguments: list[str]) -> int:
    """Measures; 1 if a part falls below what it must reach."""
    options = parse(BenchOptions, arguments, command="bench")
    device = choose_device(options.device or "auto")
    small = "fast" if device.type == "cuda" else "cpu"
    console = Console(stderr=True)
    result = measure(options, device, small, console)
    failed = shortfalls(result)
    if options.out:
        console.print(f"kept in {keep(result, options.out)}", markup=False, soft_wrap=True)
    if options.json:
        print_json(result)
    else:
        show(result, Console(width=None if sys.stdout.isatty() else WIDTH))
    for line in failed:
        console.print(f"error: {line}", markup=False, soft_wrap=True)
    return 1 if failed else 0


def measure(options: BenchOptions, device: torch.device, small: str, console: Console) -> Result:
    """One part after the other, each said before it begins."""

    def begin(what: str) -> None:
        console.print(f"{time.strftime('%H:%M:%S')} measuring {what} ...", highlight=False, markup=False)

    presets = [options.preset] if options.preset else ["paper", small]
    wanted = ["env", "actor", "replay", "learner", "metrics", "train"] if options.part == "all" else [options.part]
    begin("the machine's ceilings")
    machine = ceilings.measure(device)
    result: Result = {"date": datetime.now(UTC).isoformat(timespec="seconds"), "machine": machine._asdict()}
    for part in wanted:
        match part:
            case "env" | "actor":
                result[part], *others = games_and_policy(part, presets, device, begin)
                if others:
                    result[f"{part}_small"] = others[0]
            case "replay":
                begin("the replay")
                config = preset(presets[0])
                run = bench_replay if find_spec("reverb") else bench_memory
                result[part] = run(config.replay, env_spec(config))._asdict()
            case "learner":
                result[part] = learners(presets, device, begin)
            case "metrics":
                name = options.preset or small
                begin(f"what metrics cost the learner, preset {name}")
                result[part] = bench_metrics(name, preset(name), device)._asdict()
            case "train":
                result[part] = training_runs(options.preset or small, device, begin)
    return result


def games_and_policy(part: str, presets: list[str], device: torch.device, begin: Callable[[str], None]) -> list[Result]:
    """Part env or actor for each preset."""
    results = []
    for name in presets:
        begin(f"{part}, preset {name}")
        found = bench_env(preset(name)) if part == "env" else bench_actor(preset(name), device)
        results.append({"preset": name, **found._asdict()})
    return results


def learners(presets: list[str], device: torch.device, begin: Callable[[str], None]) -> list[Result]:
    """Updates of each preset, in each precision that this machine computes in sensible time."""
    results = []
    slow = slow_bfloat16(device)
    if slow:
        lacks = "this CPU lacks AVX-512" if device.type == "cpu" else "this GPU has no units for it"
        begin(f"nothing in bfloat16: {lacks}, and an update of preset paper would take long")
    for name in presets:
        for precision in ("float32",) if slow else ("float32", "bfloat16"):
            begin(f"the learner, preset {name}, {precision}")
            results.append(bench_learner(name, preset(name), device, precision)._asdict())
    return results


def training_runs(name: str, device: torch.device, begin: Callable[[str], None]) -> list[Result]:
    """Real training: on a GPU, or without Ray, in one process; else with one and with two actors."""
    alone = device.type == "cuda" or find_spec("ray") is None
    results = []
    for actors in [1] if alone else [1, 2]:
        runtime = "inline" if alone else "ray"
        begin(f"a training run, preset {name}, {runtime}, {actors} actor(s)")
        results.append(bench_training(name, runtime=runtime, device=device.type, actors=actors)._asdict())
    return results


def shortfalls(result: Result) -> list[str]:
    """Parts that are slower than they must be, one line each."""
    ratios = {}
    if "env" in result:
        ratios["env"] = result["env"]["ratio_to_floor"]
    for found in filter(None, (result.get("actor"), result.get("actor_small"))):
        ratios[f"actor {found['preset']}"] = found["ratio_to_floor"]
        ratios[f"whole actor {found['preset']}"] = found["ratio_to_emulator"]
    for each in result.get("learner", []):
        ratios[f"learner {each['preset']} {each['device']} {each['precision']}"] = each["ratio_to_floor"]
    too_dear = [
        f"metrics take {found['share']:.2%} of the learner's time, at most {MOST:.1%} are allowed"
        for found in [result.get("metrics")]
        if found and found["share"] > MOST
    ]
    return too_dear + [
        f"{part} reaches {ratios[part]:.2f} of its floor, it must reach {least}"
        for part, least in LEAST.items()
        if part in ratios and ratios[part] < least
    ]


def keep(result: Result, folder: Path) -> Path:
    """Writes a dated JSON file. Raises UserError where it cannot be written."""
    machine = result["machine"]
    name = re.sub(r"[^A-Za-z0-9]+", "-", machine["gpu"] or platform.machine()).strip("-").lower()
    path = folder / f"{result['date'][:10]}-{name}-{machine['commit'].rstrip('+') or 'unknown'}.json"
    text = json_text(result, indent=2) + "\n"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
    except OSError as error:
        raise UserError(f"cannot write {path} ({error.strerror}): choose another --out") from error
    return path


def show(result: Result, console: Console) -> None:
    """A table for people."""
    machine = result["machine"]
    console.print(
        f"{machine['gpu'] or machine['cpu']}, {machine['cores']} cores; matrix product {machine['fp32_gflops']:.0f} "
        f"(float32) and {machine['bf16_gflops']:.0f} (bfloat16) GFLOP/s; copy {machine['copy_gbps']:.1f} GB/s; "
        f"torch {machine['torch']}; commit {machine['commit']}",
        highlight=False,
        soft_wrap=True,
    )
    table = Table("part", "measured", "floor", "ratio", "spread")
    for found in filter(None, (result.get("env"), result.get("env_small"))):
        what = f"games, preset {found['preset']}, {found['games']} in {found['processes']} process(es)"
        measured, floor = found["steps_per_second"], found["raw_emulator_steps_per_second"]
        row(table, what, f"{measured:,.0f} steps/s", f"{floor:,.0f} steps/s", found)
    for found in filter(None, (result.get("actor"), result.get("actor_small"))):
        what = f"policy, preset {found['preset']}, {found['games']} games, {found['device']}"
        measured, floor = found["steps_per_second"], found["floor_steps_per_second"]
        row(table, what, f"{measured:,.0f} steps/s", f"{floor:,.0f} steps/s", found)
        keys = ("steps_per_second_with_games", "raw_emulator_steps_per_second")
        whole, emulator = (f"{found[key]:,.0f} steps/s" for key in keys)
        table.add_row(f"whole actor, preset {found['preset']}", whole, emulator, f"{found['ratio_to_emulator']:.2f}")
    if found := result.get("replay"):
        table.add_row(f"replay ({found['backend']}), written", f"{found['insert_steps_per_second']:,.0f} steps/s")
        table.add_row("replay, read", f"{found['sample_sequences_per_second']:,.0f} windows/s")
    for found in result.get("learner", []):
        what = f"update, preset {found['preset']}, {found['device']} {found['precision']} {found['mode']}"
        measured = f"{found['seconds_per_update']:.4g} s ({found['updates_per_second']:.2f}/s)"
        row(table, what, measured, f"{found['floor_seconds']:.4g} s", found)
    if found := result.get("metrics"):
        table.add_row(f"metrics, preset {found['preset']}, {found['device']}", f"{found['share']:.3%} of the learner")
    for found in result.get("train", []):
        what = f"training, preset {found['preset']}, {found['runtime']}, {found['actors']} actor process(es)"
        measured = (
            f"{found['updates_per_second']:.2f} updates/s, learner waits {found['learner_wait']:.1%}, "
            f"ratio {found['replay_ratio']:.2f} of {found['replay_ratio_wanted']:g}"
        )
        table.add_row(what, measured, "", "", f"{found['spread']:.0%}")
    console.print(table)


def row(table: Table, what: str, measured: str, floor: str, found: Result) -> None:
    """One part that has a floor."""
    table.add_row(what, measured, floor, f"{found['ratio_to_floor']:.2f}", f"{found['spread']:.0%}")
