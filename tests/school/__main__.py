"""Two schools that take the two learners apart: an idea is judged in ten minutes before it costs an hour.

    python -m tests.school world  [--updates N] [--train.model-lr 1e-3 ...]     a fresh world model, no behaviour
    python -m tests.school policy [--updates N] [--train.actor-lr 4e-4 ...]     a fresh actor and critic in a frozen one

Both learn from the same 40,000 recorded steps of the shipped agent (with random actions mixed in), recorded once into
a file under --data. `world` is judged every 500 updates on 200 windows of other games, as `evaluate --world-model`
does; `policy` every 2,000 updates by 24 real games. A table is printed, a line of OUT/world.jsonl or policy.jsonl
written for each of its rows. Config fields are those of `train`. docs/learning.md has what was tried.
"""

from __future__ import annotations

import logging
import math
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, Literal

from learner.config import SPIN

os.environ.setdefault("GOMP_SPINCOUNT", SPIN)  # read when torch is imported, as for training

import torch
import tyro

from cluster.assemble import Loaded, load, make_agent
from cluster.commands.options import Preset, check_parts, parse, value_of
from cluster.config import Config, check, flat
from cluster.every import Every
from cluster.presets import preset
from cluster.run.files import Lines
from dreamer.types import Batch, Metrics
from learner.device import choose_device, prepare_learner
from replay.errors import UserError
from tests.school.lessons import Lesson, policy_lesson, world_lesson
from tests.school.recorded import batches, filled, held_out, recorded, spec_of

SHIPPED = Path(__file__).parents[2] / "deploy" / "agents" / "breakout-cpu"
LEARNT = {"world": ("model", "replay", "train"), "policy": ("behavior", "replay", "train")}  # sections that matter


@dataclass(frozen=True)
class SchoolOptions:
    """Teach one learner by itself, on recorded games. Ctrl-C ends it; what was measured is kept."""

    config: Annotated[Config, tyro.conf.arg(name="")]
    school: tyro.conf.Positional[Literal["world", "policy"]] = "world"  # which learner
    preset: Preset = "cpu"  # whose learner
    updates: int = 6000  # in all
    every: int | None = None  # updates between measurements; default: 500 of world, 2,000 of policy
    seed: int = 0  # of nets and draws; the recorded games are always the same
    data: Path = Path("runs/school")  # folder of the recording
    out: Path = Path("runs/school")  # folder of the .jsonl
    agent: Path = SHIPPED  # run directory: who plays the recorded games; whose world model is frozen
    steps: int = 40_000  # recorded, of which all may be trained on
    windows: int = 200  # to judge a world model by
    games: int = 24  # to judge a policy by
    device: Literal["cpu", "cuda"] = "cpu"  # where the learner is


def main(arguments: list[str]) -> int:
    """0 done, 2 the request is wrong, 130 or 143 interrupted."""
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    signal.signal(signal.SIGTERM, terminate)
    try:
        loaded, options = understood(arguments)
        teach(loaded, options)
    except UserError as error:
        print(f"error: {error}".replace("dreamer school", "python -m tests.school"), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def terminate(number: int, frame: FrameType | None) -> None:
    """SIGTERM ends like Ctrl-C."""
    raise SystemExit(128 + number)


def say(text: str) -> None:
    """To the person who watches; the table alone is on stdout."""
    print(text, file=sys.stderr, flush=True)


# --- The request ---


def understood(arguments: list[str]) -> tuple[Loaded, SchoolOptions]:
    """The agent of the recording, and the options with a configuration that fits it. Raises UserError."""
    if {"-h", "--help"} & {*arguments}:
        parse(SchoolOptions, arguments, command="school", default=SchoolOptions(config=preset("cpu")))
    if arguments[:1] not in (["world"], ["policy"]):
        raise UserError("say first which school, world or policy (dreamer school --help lists the options)")
    asked = value_of("--agent", arguments)
    loaded = load(Path(asked) if asked else SHIPPED)
    base = replace(preset(value_of("--preset", arguments) or "cpu"), env=loaded.config.env)
    if arguments[0] == "policy":
        base = replace(base, model=loaded.config.model)
    options = parse(SchoolOptions, arguments, command="school", default=SchoolOptions(config=base))
    *most, last = LEARNT[options.school]
    taken = f"{', '.join(most)} and {last} options"
    check_parts(
        base,
        options.config,
        lambda name: name.partition(".")[0] in LEARNT[options.school],
        where=f"this school: it takes {taken}",
    )
    counts = {name: getattr(options, name) for name in ("updates", "steps", "windows", "games")}
    for name, count in (counts | {"every": options.every or 1}).items():
        if count < 1 or (name == "every" and options.every == 0):
            raise UserError(f"--{name} must be at least 1, not {getattr(options, name)}")
    if options.seed < 0:
        raise UserError(f"--seed must be at least 0, not {options.seed}")
    if options.config.replay.stored_state:
        raise UserError("--replay.stored-state has no part in a school: states of the model are not recorded")
    config = replace(options.config, train=replace(options.config.train, seed=options.seed, device=options.device))
    check(config)
    return loaded, replace(options, config=config)


def described(options: SchoolOptions, base: Config) -> dict[str, Any]:
    """What was asked for that is not so in `base`: name -> value."""
    before, after = flat(base), flat(options.config)
    skipped = ("train.seed", "train.device")
    return {
        name: value
        for name, value in after.items()
        if value != before[name] and name.partition(".")[0] in LEARNT[options.school] and name not in skipped
    }


# --- The teaching ---


def teach(loaded: Loaded, options: SchoolOptions) -> None:
    """Trains and measures; prints the table; writes a line for each of its rows."""
    config, device = options.config, choose_device(options.device)
    lines = opened(options.out / f"{options.school}.jsonl")
    recording = recorded(loaded, options.data, steps=options.steps, windows=options.windows, say=say)
    prepare_learner(config.train)
    torch.manual_seed(options.seed)
    spec = spec_of(loaded)
    agent = make_agent(config, spec).to(device)
    if options.school == "world":
        lesson = world_lesson(agent, config, held_out(recording, device))
    else:
        agent.world.load_state_dict(loaded.agent.world.state_dict())
        lesson = policy_lesson(agent, config, options.games)
    replay = filled(recording, config.replay, spec, seed=options.seed)
    told = {"school": options.school, "seed": options.seed, "options": described(options, preset("cpu"))}
    done = 0
    print(f"| updates | {' | '.join(lesson.columns)} |\n|{'---|' * (1 + len(lesson.columns))}", flush=True)
    try:
        for done, row in measured(lesson, batches(replay, device), options.updates, options.every or lesson.every):
            cells = (shown(row.get(name)) for name in lesson.columns.values())
            lines.write(told | {"update": done, "time": time.time(), **row})  # first: Ctrl-C may come between the two
            print(f"| {done:,} | {' | '.join(cells)} |", flush=True)
    finally:
        say(f"ended; measured until update {done:,} of {options.updates:,}: {options.out / options.school}.jsonl")
        lines.close()


def measured(
    lesson: Lesson, source: Iterator[Batch], updates: int, every: int
) -> Iterator[tuple[int, dict[str, float | None]]]:
    """(update, its numbers) every so many updates and after the last; the updates' own are means since the last one."""
    look, progress = Every(10.0), Means()
    since = Means()
    for update in range(1, updates + 1):
        metrics = lesson.update(next(source))
        since.add(metrics)
        progress.add(metrics)
        if look.due():
            say(progress_line(update, updates, progress))
            progress = Means()
        if update % every == 0 or update == updates:
            speed = since.speed()
            say(f"update {update:,} of {updates:,} | {speed:.1f} updates/s | measuring")
            row = since.take() | lesson.measure() | {"updates_per_second": speed}
            yield update, {name: finite(value) for name, value in row.items()}
            since, progress = Means(), Means()


class Means:
    """Numbers of updates, added up on the device and read once."""

    def __init__(self) -> None:
        self._began, self._count, self._names = time.monotonic(), 0, list[str]()
        self._sum: torch.Tensor | float = 0.0

    def add(self, metrics: Metrics) -> None:
        self._count += 1
        self._names = list(metrics)
        self._sum = self._sum + torch.stack([value.float() for value in metrics.values()])

    def take(self) -> dict[str, float | None]:
        """The means so far."""
        assert isinstance(self._sum, torch.Tensor)
        return dict(zip(self._names, (self._sum / self._count).tolist(), strict=True))

    def speed(self) -> float:
        """Updates per second."""
        return self._count / max(time.monotonic() - self._began, 1e-9)


def progress_line(update: int, updates: int, progress: Means) -> str:
    """How it is going."""
    means = progress.take()
    names = [name for name in ("model_loss", "kl", "imagined_return", "actor_entropy") if name in means]
    numbers = [f"{name} {shown(means[name])}" for name in names]
    return " | ".join([f"update {update:,} of {updates:,}", f"{progress.speed():.1f} updates/s", *numbers])


def shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def finite(value: float | None) -> float | None:
    """JSON knows no NaN."""
    return value if value is not None and math.isfinite(value) else None


def opened(path: Path) -> Lines:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return Lines(path)
    except OSError as error:
        raise UserError(f"cannot write to {path} ({error.strerror}): choose another --out") from error


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
