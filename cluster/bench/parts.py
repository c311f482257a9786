"""How fast each part is, and how far from the floor that follows from counted operations.

Numbers are medians after a warm-up; spread is (largest - smallest) / median. What makes the floor is measured in turns
with the part itself, so that a ratio is of the same moments on a machine that others use too. A ratio to the floor of 1
would be a part that does nothing but matrix products at the machine's full rate (or, for games, nothing but emulate).
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from actors.env import make_games
from actors.game import open_game, resolve
from actors.parallel import make_parallel_games
from actors.rollout import play
from cluster.assemble import env_spec, make_agent, with_state
from cluster.bench.ceilings import MatrixProduct, alternate, synchronize
from cluster.config import Config, train_every
from cluster.training import append
from dreamer.types import Batch
from learner.device import prepare_learner
from learner.feed import to_batch
from learner.loop import make_update
from learner.step import make_optimizers
from replay import Sample, in_memory


class EnvBench(NamedTuple):
    """Games alone, random actions: emulator, preprocessing, Python."""

    steps_per_second: float  # policy steps, all games together
    games: int
    raw_emulator_steps_per_second: float  # the emulator alone, with the same frame skip, times the processes
    ratio_to_floor: float
    processes: int
    spread: float


class ActorBench(NamedTuple):
    """The policy alone, and everything that an actor does."""

    steps_per_second: float  # policy alone, all games together
    games: int
    precision: str
    floor_steps_per_second: float
    ratio_to_floor: float
    mflop_per_step: float
    threads: int
    device: str
    steps_per_second_with_games: float  # games, preprocessing, policy and a writer into memory
    raw_emulator_steps_per_second: float  # in turns with it
    ratio_to_emulator: float
    spread: float


class LearnerBench(NamedTuple):
    """Whole updates on one batch that is there already."""

    preset: str
    device: str
    precision: str
    mode: str  # eager | captured
    batch: int
    length: int
    seconds_per_update: float
    updates_per_second: float
    frames_per_second: float  # emulator frames that this rate keeps up with, at the preset's replay ratio
    gflop_per_update: float
    floor_seconds: float
    ratio_to_floor: float
    peak_memory_bytes: int  # CPU: of the whole process
    first_update_seconds: float  # with all that is compiled or captured
    spread: float


def bench_env(config: Config, *, seconds: float = 8.0) -> EnvBench:
    """Random play of the preset's games, in as many processes as an inline run has."""
    actor = config.actor
    games = make_parallel_games(config.env, actor.games, 0, actor.workers)
    rng = np.random.default_rng(0)
    games.reset()

    def play_50() -> None:
        for _ in range(50):
            games.step(rng.integers(games.spec.num_actions, size=games.num))

    emulate_500 = raw_emulator(config)
    timing, raw = alternate([play_50, emulate_500], torch.device("cpu"), warm_up=1, seconds=seconds)
    games.close()
    rate, processes = 50 * actor.games / timing.seconds, max(1, actor.workers)
    floor = 500 / raw.seconds * processes
    return EnvBench(rate, actor.games, floor, rate / floor, processes, timing.spread)


def raw_emulator(config: Config) -> Callable[[], None]:
    """500 policy steps of one emulator whose pictures nobody looks at."""
    env = resolve(config.env)
    game = open_game(env, seed=0)
    actions = np.random.default_rng(0).integers(len(game.names), size=500)
    game.start()

    def emulate_500() -> None:
        for action in actions:
            for _ in range(env.frame_skip):
                _, over, cut = game.frame(action)
                if over or cut:
                    game.start()

    return emulate_500


def bench_actor(config: Config, device: torch.device, *, seconds: float = 5.0) -> ActorBench:
    """The policy for the preset's games, then a whole actor. On a CPU with an actor's threads."""
    threads = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(config.actor.threads)
    try:
        spec, games = env_spec(config), config.actor.games
        agent = make_agent(config, spec).to(device)
        state = agent.initial(games)
        obs = torch.randint(0, 256, (games, *spec.obs_shape), dtype=torch.uint8, device=device)
        action = torch.zeros(games, dtype=torch.int64, device=device)
        is_first = torch.zeros(games, dtype=torch.bool, device=device)

        def act() -> None:
            agent.policy_step(state, obs, action, is_first, sample=True)[0].cpu()

        def act_20() -> None:  # the matrix product in between takes the caches
            for _ in range(20):
                act()

        with FlopCounterMode(display=False) as counter:
            act()
        flop = counter.get_total_flops() / games
        product = MatrixProduct(device, torch.float32)
        timing, ceiling = alternate([act_20, product], device, seconds=2 * seconds)
        floor = product.flop / ceiling.seconds / flop
        rate = 20 * games / timing.seconds
        whole, emulator = whole_actor(config, device, seconds=2 * seconds)
        return ActorBench(
            rate,
            games,
            "float32",
            floor,
            rate / floor,
            flop / 1e6,
            torch.get_num_threads(),
            device.type,
            whole,
            emulator,
            whole / emulator,
            timing.spread,
        )
    finally:
        torch.set_num_threads(threads)


def whole_actor(config: Config, device: torch.device, *, seconds: float) -> tuple[float, float]:
    """Policy steps per second of games, policy and writers together, the replay in memory; and of emulators alone."""
    config = replace(config, replay=replace(config.replay, capacity=50_000, prefill=1_000))
    games = make_parallel_games(config.env, config.actor.games, 0, config.actor.workers)
    agent = make_agent(config, games.spec).to(device)
    memory = in_memory(config.replay, with_state(games.spec, config), seed=0)
    writers = [memory.writer() for _ in range(games.num)]
    rng, states = np.random.default_rng(0), config.replay.stored_state
    ticks = play(games, agent, refresh=lambda: 0, states=states, rng=rng)

    def play_10() -> None:
        for _ in range(10):
            append(writers, next(ticks))

    timing, raw = alternate([play_10, raw_emulator(config)], device, warm_up=2, seconds=seconds)
    ticks.close()
    games.close()
    return 10 * games.num / timing.seconds, 500 / raw.seconds * max(1, config.actor.workers)


def bench_learner(name: str, config: Config, device: torch.device, precision: str) -> LearnerBench:
    """Updates of a new agent on a batch of random play, in one thread: `train.overlap` is left to `bench train`."""
    config = replace(config, train=replace(config.train, precision=precision, overlap=False))
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    threads = torch.get_num_threads()
    prepare_learner(config.train)
    try:
        torch.manual_seed(0)
        agent = make_agent(config, env_spec(config)).to(device)
        optimizers = make_optimizers(agent, config.train)
        batch = to_batch(random_play(config).sequences, device)
        flop = count_flop(agent, optimizers, config, batch)
        forget_peak(device)
        began = time.perf_counter()
        update = make_update(agent, optimizers, config.train, example=batch)
        update(batch)
        synchronize(device)
        first = time.perf_counter() - began
        began = time.perf_counter()
        update(batch)
        synchronize(device)
        # As many as keep a GPU's work ahead of the host, and the caches as in a run.
        at_once = max(1, round(0.5 / (time.perf_counter() - began)))

        def some() -> None:
            for _ in range(at_once):
                update(batch)

        product = MatrixProduct(device, dtype)
        timing, ceiling = alternate([some, product], device)
        each = timing.seconds / at_once
        floor = flop / product.flop * ceiling.seconds
        return LearnerBench(
            preset=name,
            device=device.type,
            precision=precision,
            mode="captured" if device.type == "cuda" and config.train.capture else "eager",
            batch=config.replay.batch,
            length=config.replay.length,
            seconds_per_update=each,
            updates_per_second=1 / each,
            frames_per_second=train_every(config) * resolve(config.env).frame_skip / each,
            gflop_per_update=flop / 1e9,
            floor_seconds=floor,
            ratio_to_floor=floor / each,
            peak_memory_bytes=peak_memory(device),
            first_update_seconds=first,
            spread=timing.spread,
        )
    finally:
        torch.set_num_threads(threads)


def random_play(config: Config) -> Sample:
    """A batch of real pictures."""
    small = replace(config.replay, capacity=20_000, prefill=config.replay.batch * config.replay.stride)
    games = make_games(config.env, min(8, config.actor.games), seed=0)
    memory = in_memory(small, with_state(games.spec, config), seed=0)
    writers = [memory.writer() for _ in range(games.num)]
    agent = make_agent(config, games.spec)
    rng, states = np.random.default_rng(0), config.replay.stored_state
    for tick in play(games, agent, refresh=lambda: -1, states=states, rng=rng):
        append(writers, tick)
        if memory.can_sample(small.batch):
            break
    games.close()
    return memory.draw(small.batch)


def count_flop(agent: torch.nn.Module, optimizers: dict, config: Config, batch: Batch) -> int:
    """Operations of the matrix products and convolutions of one update, as they are called."""
    plain = make_update(agent, optimizers, replace(config.train, capture=False, overlap=False), example=batch)
    with FlopCounterMode(display=False) as counter:
        plain(batch)
    return counter.get_total_flops()


def forget_peak(device: torch.device) -> None:
    """Starts a new measurement of the peak."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif Path("/proc/self/clear_refs").exists():
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory(device: torch.device) -> int:
    """Bytes: torch's on a GPU, the process's resident ones on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
