"""How fast the replay takes steps in and hands windows out: real frames, but nobody who plays or trains.

Reverb's server, writer and reader are processes of their own, as in a run. The writer goes first and the reader after
it, so each has the machine to itself but for the server, and no rate limit is in their way.
"""

from __future__ import annotations

import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain, cycle
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import psutil

from actors.env import make_games
from cluster.presets import breakout
from replay import EnvSpec, PrevState, Replay, ReplayConfig, Step, connect, in_memory, serve

STREAMS = 16  # writers in the one process that writes: the games of an actor of preset paper
GAMES = 10  # recorded; Breakout played at random, some 220 steps each
INTERVALS = 9  # of every measurement, the first as its warm-up
RUN = "bench"


class ReplayBench(NamedTuple):
    """One replay; rates are medians, spread is (largest - smallest) / median."""

    backend: str
    insert_steps_per_second: float  # policy steps that the replay has confirmed
    sample_sequences_per_second: float  # windows of T steps
    bytes_per_step: float  # memory by which the process that holds them grew
    insert_spread: float
    sample_spread: float


class Job(NamedTuple):
    """What a process of the bench gets to know, as JSON."""

    config: ReplayConfig
    spec: EnvSpec
    place: str  # of the server: its directory, or its address
    seconds: float


def bench_replay(config: ReplayConfig, spec: EnvSpec, *, seconds: float = 5.0) -> ReplayBench:
    """Measures Reverb: `seconds` of writing and as many of reading. Ends every process that it starts."""
    # An error buffer of four such batches is never used up, nor is the capacity: neither side waits for the other.
    free = dataclasses.replace(config, capacity=10**9, batch=10**9, prefill=0, replay_ratio=1.0)
    with tempfile.TemporaryDirectory() as folder, child("serve", Job(free, spec, folder, seconds)) as server:
        job = Job(config, spec, answer(server), seconds)
        before = memory(server.pid)
        with child("write", job) as writer:
            inserted, steps = answer(writer)
        grown = memory(server.pid) - before
        with child("read", job) as reader:
            sampled = answer(reader)
    return summary("reverb", inserted, sampled, grown / steps)


def bench_memory(config: ReplayConfig, spec: EnvSpec, *, seconds: float = 5.0) -> ReplayBench:
    """The same of the replay inside this process."""
    replay = in_memory(dataclasses.replace(config, capacity=10**9, prefill=0, replay_ratio=1e9), spec, seed=0)
    before = memory(os.getpid())
    inserted, steps = write(replay, spec, seconds)
    grown = memory(os.getpid()) - before
    sampled = read(replay, seconds)
    replay.close()
    return summary("memory", inserted, sampled, grown / steps)


def summary(backend: str, inserted: list[float], sampled: list[float], size: float) -> ReplayBench:
    """Medians and spreads of the rates of all intervals."""
    middle = [statistics.median(rates) for rates in (inserted, sampled)]
    spread = [(max(rates) - min(rates)) / statistics.median(rates) for rates in (inserted, sampled)]
    return ReplayBench(backend, *middle, size, *spread)


def write(replay: Replay, spec: EnvSpec, seconds: float) -> tuple[list[float], int]:
    """Steps confirmed per second, interval by interval, and their number; appended in turns like an actor's games."""
    games = record(spec)
    turns = [games[e % GAMES :] + games[: e % GAMES] for e in range(STREAMS)]  # not all ends at the same time
    streams = [(replay.writer(), cycle(chain.from_iterable(turn))) for turn in turns]

    def tick() -> int:
        for writer, records in streams:
            step, prev, is_last = next(records)
            writer.append(step, is_last=is_last, policy_version=0, prev=prev)
        return sum(writer.acknowledged for writer, _ in streams)

    rates = intervals(tick, seconds)
    for writer, _ in streams:
        writer.flush()
        writer.close()
    return rates, sum(writer.acknowledged for writer, _ in streams)


def read(replay: Replay, seconds: float) -> list[float]:
    """Windows per second, interval by interval."""
    sampler, count = replay.sampler(), 0

    def batch() -> int:
        nonlocal count
        count += len(sampler.sample(timeout=10).policy_version)
        return count

    rates = intervals(batch, seconds)
    sampler.close()
    return rates


def record(spec: EnvSpec) -> list[list[tuple[Step, PrevState, bool]]]:
    """Games of Breakout to be written again and again, so that the emulator costs nothing: (step, prev, is_last).

    States are noise, if the spec has any: hardly less compressible than real ones.
    """
    deter, stoch = spec.state
    height, _, channels = spec.obs_shape
    env = dataclasses.replace(breakout(), size=height, shrink="area", grayscale=channels == 1)
    games, rng = make_games(env, 1, seed=0), np.random.default_rng(0)
    arrived = games.reset()
    recorded: list[list[tuple[Step, PrevState, bool]]] = [[]]
    while True:
        prev = PrevState(rng.uniform(-1, 1, deter).astype(np.float16), rng.integers(32, size=stoch, dtype=np.uint8))
        recorded[-1].append((Step(*(field[0] for field in arrived.step)), prev, bool(arrived.is_last[0])))
        if arrived.is_last[0]:
            if len(recorded) == GAMES:
                games.close()
                return recorded
            recorded.append([])
        arrived = games.step(rng.integers(games.spec.num_actions, size=1))


def intervals(work: Callable[[], int], seconds: float) -> list[float]:
    """Rates of the count that `work` returns, in intervals of equal length; the warm-up is not among them."""
    rates = []
    began, before = time.monotonic(), work()
    while len(rates) < INTERVALS:
        count, now = work(), time.monotonic()
        if now - began >= seconds / INTERVALS:
            rates.append((count - before) / (now - began))
            began, before = now, count
    return rates[1:]


def memory(pid: int) -> int:
    """Bytes that a process has in use."""
    return int(psutil.Process(pid).memory_info().rss)


# --- processes of the bench: fresh interpreters, which answer with lines of JSON ---


@contextmanager
def child(role: str, job: Job) -> Iterator[subprocess.Popen[str]]:
    """Runs `main` in a new process, which does not outlive the block, nor this process."""
    text = json.dumps([dataclasses.asdict(job.config), *job[1:]])
    program = [sys.executable, "-m", "cluster.bench.replay", role, text]
    root = Path(__file__).parents[2]
    with tempfile.TemporaryFile("w+") as complaints:
        process = subprocess.Popen(
            program, cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=complaints, text=True
        )
        try:
            yield process
        except EOFError:
            complaints.seek(0)
            raise RuntimeError(f"the bench's process to {role} has died:\n{complaints.read()[-2000:]}") from None
        finally:
            process.kill()
            process.communicate()


def answer(process: subprocess.Popen[str]) -> Any:
    """The next answer; EOFError if there will be none."""
    assert process.stdout
    line = process.stdout.readline()
    if not line:
        raise EOFError
    return json.loads(line)


def main(role: str, text: str, answers: IO[str]) -> None:
    """What such a process does."""
    settings, (shape, num_actions, state), place, seconds = json.loads(text)
    config, spec = ReplayConfig(**settings), EnvSpec(tuple(shape), num_actions, tuple(state))
    if role == "serve":
        server = serve(config, spec, directory=Path(place), run_id=RUN)
        print(json.dumps(server.address), file=answers, flush=True)
        sys.stdin.read()  # until the parent ends
    else:
        replay = connect(place, config, spec, run_id=RUN, patience=10)
        result = write(replay, spec, seconds) if role == "write" else read(replay, seconds)
        print(json.dumps(result), file=answers, flush=True)


if __name__ == "__main__":
    own = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever else prints must not look like an answer
    main(sys.argv[1], sys.argv[2], own)
    os._exit(0)  # threads of Reverb's that still run would make a plain exit abort
