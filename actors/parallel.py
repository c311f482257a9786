"""Games in several processes: they play while the learner trains, and on several cores. Bit by bit the same games.
(With `actor.practice` not: each process practises the lives that its own games have lost.)

    parent      send: actions into the shared memory, one byte to every worker ... receive: one byte from each, copy
    worker i                 its games step, their records into the shared memory, one byte back
                             (a game that breaks: another byte and the error, which the parent raises as its own)

A byte over a socket costs 2 or 3 times a semaphore (some 10 us per worker and tick, where two games of Breakout play
for 900), but it cannot be missed that the other side died: a worker whose parent is gone reads the end of the stream.

ale-py's own vector environment is not used: it shrinks whole screens (no crop or contrast before that) and presses FIRE
after resets only. Per core it is no faster (policy steps/s of 16 games of Breakout on a machine of two cores: 2,070 on
one thread at 84x84, `Games` 2,110); two of its threads beat two of our workers by 14 % (3,790 to 3,330).

Workers are fresh interpreters, not forks, because torch's and CUDA's threads do not survive a fork. multiprocessing's
"spawn" would import the main module in each of them, and with it torch. The memory has no name that could be left over.
"""

from __future__ import annotations

import mmap
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from actors import strays
from actors.config import EnvConfig, GameBroke, check_numbers
from actors.env import Games, make_games
from actors.interface import Arrived
from replay.errors import UserError
from replay.experience import EnvSpec, Step

PATIENCE = 60.0  # seconds without an answer after which a worker counts as hung; also at the start
CLOSE_SECONDS = 5.0  # in which the workers may leave by themselves
STEP, RESET, DONE, BROKEN = b"s", b"r", b".", b"!"


class Share(NamedTuple):
    """What a worker is told first: its games are those from `first` on."""

    config: EnvConfig
    total: int  # E of all workers together
    first: int
    num: int
    seed: int
    practice: float


def make_parallel_games(
    config: EnvConfig, num: int, seed: int, workers: int, *, practice: float = 0.0
) -> Games | ParallelGames:
    """The games of `make_games(config, num, seed)`, in `workers` processes; 0 = in this one. Raises UserError."""
    if workers:
        return ParallelGames(config, num, seed, workers, practice=practice)
    return make_games(config, num, seed, practice=practice)


def record_dtype(config: EnvConfig) -> np.dtype:
    """One game's place in the shared memory: the action for it, and what it led to."""
    channels = 1 if config.grayscale else 3
    fields = [("action", np.int32), ("prev_action", np.int32), ("reward", np.float32), ("is_first", np.bool_)]
    fields += [("is_terminal", np.bool_), ("is_last", np.bool_), ("life_lost", np.bool_)]
    fields += [("practice", np.bool_)]
    return np.dtype([*fields, ("obs", np.uint8, (config.size, config.size, channels))], align=True)


class ParallelGames:
    """`AnyGames` spread over worker processes. A game that breaks, a worker that dies or hangs: GameBroke; then only
    close it."""

    def __init__(self, config: EnvConfig, num: int, seed: int, workers: int, *, practice: float = 0.0) -> None:
        assert 0 < workers <= num, (workers, num)
        check_numbers(config)
        dtype = record_dtype(config)
        self.num, self._waiting, self._workers = num, False, []
        memory = os.memfd_create("games")
        try:
            os.ftruncate(memory, num * dtype.itemsize)
            self._records = np.frombuffer(mmap.mmap(memory, num * dtype.itemsize), dtype)  # [E]
            bounds = [num * worker // workers for worker in range(workers + 1)]
            for first, end in pairwise(bounds):
                self._workers.append(Worker(Share(config, num, first, end - first, seed, practice), memory))
            num_actions = [worker.opened() for worker in self._workers]
        except BaseException:
            self.close()
            raise
        finally:
            os.close(memory)  # the mappings stay
        self.spec = EnvSpec(dtype["obs"].shape, num_actions[0])

    def reset(self) -> Arrived:
        if self._waiting:  # the step is played already: the games' chance has moved on by it
            self.receive()
        self._tell(RESET)
        return self.receive()

    def step(self, actions: np.ndarray) -> Arrived:
        self.send(actions)
        return self.receive()

    def send(self, actions: np.ndarray) -> None:
        assert actions.shape == (self.num,), actions.shape
        assert not self._waiting, "send() twice without receive()"
        self._records["action"] = actions
        self._tell(STEP)

    def receive(self) -> Arrived:
        assert self._waiting, "receive() without send()"
        for worker in self._workers:
            worker.wait()
        self._waiting = False
        step = Step(*(self._records[field].copy() for field in Step._fields))
        return Arrived(step, *(self._records[field].copy() for field in ("is_last", "life_lost", "practice")))

    def close(self) -> None:
        """Hangs up, upon which the workers leave; those that have not left after a while are killed."""
        for worker in self._workers:
            worker.socket.close()
        deadline = time.monotonic() + CLOSE_SECONDS
        for worker in self._workers:
            try:
                worker.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()

    def _tell(self, word: bytes) -> None:
        for worker in self._workers:
            worker.tell(word)
        self._waiting = True


class Worker:
    """The parent's side of one worker process."""

    def __init__(self, share: Share, memory: int) -> None:
        self.share = share
        self.socket, theirs = socket.socketpair()
        self.socket.settimeout(PATIENCE)
        # One thread each: the workers are as many as the cores. In a group of its own a worker gets no Ctrl-C, which is
        # the parent's to handle.
        threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "actors.parallel", str(theirs.fileno()), str(memory)],
                pass_fds=(theirs.fileno(), memory),
                stdin=subprocess.DEVNULL,
                env=os.environ | threads | {"PYTHONPATH": os.pathsep.join(sys.path)},
                process_group=0,
            )
        self.tell(pickle.dumps(tuple(share)))  # over there this module is __main__: it knows no actors.parallel.Share

    def opened(self) -> int:
        """Waits for the games -> number of their actions."""
        self.wait()
        with self.socket.makefile("rb") as stream:
            return pickle.load(stream)

    def tell(self, word: bytes) -> None:
        try:
            self.socket.sendall(word)
        except ConnectionError:
            raise self._died() from None

    def wait(self) -> None:
        """For the answer to the word told last."""
        try:
            byte = self.socket.recv(1)
        except TimeoutError:
            raise GameBroke(f"{self} has not answered for {self.socket.gettimeout():g} seconds") from None
        except ConnectionError:
            byte = b""
        if not byte:
            raise self._died()
        if byte == BROKEN:
            with self.socket.makefile("rb") as stream:
                error, there = pickle.load(stream)
            raise error from RuntimeError(f"in {self}:\n{there}")  # so that the traceback over there is not lost

    def _died(self) -> GameBroke:
        try:
            code = self.process.wait(CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            return GameBroke(f"{self} has hung up and goes on running")
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else "has ended, its error stands above"
        return GameBroke(f"{self} {how} (exit code {code})")

    def __str__(self) -> str:
        first, num = self.share.first, self.share.num
        return f"the process {self.process.pid} of the games {first} to {first + num - 1}"


# --- In the worker ---


def work(connection: socket.socket, memory: int) -> None:
    """Opens its games, then steps them at every word until the parent hangs up, which its death does too."""
    for number in (
        signal.SIGINT,
        signal.SIGTERM,
        signal.SIGHUP,
    ):  # whoever ends a whole group of processes means the parent
        signal.signal(number, signal.SIG_IGN)
    strays.tell()
    with connection.makefile("rb") as stream:
        share: Share = Share(*pickle.load(stream))
    dtype = record_dtype(share.config)
    records = np.frombuffer(mmap.mmap(memory, share.total * dtype.itemsize), dtype)
    records = records[share.first : share.first + share.num]
    try:
        games = make_games(share.config, share.num, share.seed, first=share.first, practice=share.practice)
        answer(connection, DONE + pickle.dumps(games.spec.num_actions))
        for word in words(connection):
            arrived = games.reset() if word == RESET else games.step(records["action"].copy())
            for field, value in arrived.step._asdict().items():
                records[field] = value
            for field in ("is_last", "life_lost", "practice"):
                records[field] = getattr(arrived, field)
            answer(connection, DONE)
        games.close()
    except (UserError, GameBroke) as error:
        answer(connection, BROKEN + pickle.dumps((error, traceback.format_exc())))


def words(connection: socket.socket) -> Iterator[bytes]:
    """What the parent says, until it hangs up or is gone."""
    with suppress(ConnectionError):
        while word := connection.recv(1):
            yield word


def answer(connection: socket.socket, message: bytes) -> None:
    with suppress(ConnectionError):  # a parent that is gone is noticed at the next word
        connection.sendall(message)


if __name__ == "__main__":
    work(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2]))
