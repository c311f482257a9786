"""Games in worker processes: the same games bit by bit, and a clean end whatever happens."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import psutil
import pytest

from actors import parallel
from actors.config import EnvConfig
from actors.env import Games, make_games
from actors.interface import AnyGames, Arrived
from actors.parallel import ParallelGames, make_parallel_games
from actors.rollout import play
from replay.errors import UserError
from tests.actors.test_rollout import make_agent

ROOT = Path(__file__).parents[2]
BREAKOUT = EnvConfig(crop=(34, 16, 0, 0), auto_fire=True, life_loss=True, time_limit=60)  # sticky, with no-ops
TOY = EnvConfig(id="Toy/Lives-v0", import_module="tests.actors.toy_games", frame_skip=1, sticky=0.5, noop_max=0)


def random_play(games: AnyGames, steps: int) -> Iterator[Arrived]:
    rng = np.random.default_rng(1)
    yield games.reset()
    for step in range(steps):
        if step == steps // 2:
            yield games.reset()  # also in the middle of a game
        games.send(rng.integers(games.spec.num_actions, size=games.num))
        yield games.receive()


def pids(games: ParallelGames) -> list[int]:
    return [worker.process.pid for worker in games._workers]


def gone(pid: int) -> bool:
    """Ended, though perhaps a zombie where nobody waits for orphans."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.fixture
def games() -> Iterator[ParallelGames]:
    with closing(ParallelGames(TOY, num=3, seed=0, workers=2)) as opened:
        opened.reset()
        yield opened


# --- The same games ---


@pytest.mark.parametrize(
    ("config", "num", "workers", "steps"),
    [
        (BREAKOUT, 5, 2, 160),
        (replace(TOY, life_loss=True, grayscale=False, time_limit=7), 4, 3, 60),
    ],
    ids=["breakout", "toy"],
)
def test_they_play_bit_by_bit_like_games_of_one_process(config: EnvConfig, num: int, workers: int, steps: int) -> None:
    with closing(ParallelGames(config, num, 3, workers)) as games:
        alone = make_games(config, num, 3)
        assert games.spec == alone.spec and games.num == num
        kept = []
        for found, expected in zip(random_play(games, steps), random_play(alone, steps), strict=True):
            for one, other in zip((*found.step, *found[1:]), (*expected.step, *expected[1:]), strict=True):
                assert one.dtype == other.dtype and one.flags.owndata and one.flags.c_contiguous
                np.testing.assert_array_equal(one, other)
            kept.append((found, expected))
    assert sum(found.is_last.sum() for found, _ in kept) >= num
    lost = [found.step.is_terminal & ~found.is_last for found, _ in kept]
    assert np.any(lost)  # lives, too
    for found, expected in kept:  # later steps and the end have not touched what was handed out
        np.testing.assert_array_equal(found.step.obs, expected.step.obs)


def test_no_workers_are_games_of_this_process() -> None:
    assert isinstance(make_parallel_games(TOY, 2, 0, workers=0), Games)


def test_a_step_left_in_the_middle_is_forgotten_by_a_reset(games: ParallelGames) -> None:
    agent = make_agent()
    for _ in range(2):
        ticks = play(games, agent, refresh=lambda: -1, rng=np.random.default_rng(0))
        first, second = islice(ticks, 2)
        assert first.step.is_first.all() and not second.step.is_first.any()
        ticks.close()


def test_send_and_receive_take_turns(games: ParallelGames) -> None:
    with pytest.raises(AssertionError, match="without send"):
        games.receive()
    games.send(np.zeros(3, int))
    with pytest.raises(AssertionError, match="twice"):
        games.send(np.zeros(3, int))


# --- Plain errors ---


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (EnvConfig(id="ALE/Braekout-v5"), r"^env\.id ALE/Braekout-v5 is unknown: did you mean ALE/Breakout-v5\?$"),
        (EnvConfig(size=0), "env.size must be 1 to 1024, not 0"),
    ],
)
def test_a_wrong_request_gets_the_same_plain_line(config: EnvConfig, words: str, capfd: pytest.CaptureFixture) -> None:
    with pytest.raises(UserError, match=words):
        ParallelGames(config, num=2, seed=0, workers=2)
    assert capfd.readouterr() == ("", "")


# --- Ends ---


def test_a_killed_worker_is_named(games: ParallelGames) -> None:
    os.kill(pids(games)[1], signal.SIGKILL)
    with pytest.raises(RuntimeError, match=rf"process {pids(games)[1]} of the games 1 to 2 was killed by SIGKILL .*-9"):
        for _ in range(3):
            games.step(np.zeros(3, int))
    games.close()
    assert all(map(gone, pids(games)))


def test_a_hung_worker_is_named_and_killed(games: ParallelGames, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "CLOSE_SECONDS", 0.3)
    games._workers[0].socket.settimeout(0.3)
    os.kill(pids(games)[0], signal.SIGSTOP)
    with pytest.raises(RuntimeError, match=r"games 0 to 0 has not answered for 0.3 seconds"):
        games.step(np.zeros(3, int))
    games.close()
    assert all(map(gone, pids(games)))
    assert games._workers[0].process.returncode == -signal.SIGKILL


def test_workers_leave_by_themselves_and_leave_nothing() -> None:
    open_files = len(os.listdir("/proc/self/fd"))
    games = ParallelGames(TOY, num=2, seed=0, workers=2)
    games.reset()
    for pid in pids(games):
        os.kill(pid, signal.SIGINT)  # is the parent's to handle
        os.kill(pid, signal.SIGTERM)
        assert os.getpgid(pid) != os.getpgid(0)  # a terminal's Ctrl-C does not even reach it
        assert "/memfd:games" in Path(f"/proc/{pid}/maps").read_text()  # shared memory that has no name in /dev/shm
    games.step(np.zeros(2, int))
    games.send(np.zeros(2, int))
    for _ in range(2):
        games.close()
    assert [worker.process.returncode for worker in games._workers] == [0, 0]
    del games
    assert len(os.listdir("/proc/self/fd")) == open_files


PARENT = """
import sys, time
from tests.actors.test_parallel import BREAKOUT
from actors.parallel import ParallelGames
games = ParallelGames(BREAKOUT, num=2, seed=0, workers=2)
games.reset()
print(*[worker.process.pid for worker in games._workers], flush=True)
if "wait" in sys.argv:
    time.sleep(60)
"""


@pytest.mark.parametrize("how", ["wait", "end"])
def test_workers_end_with_their_parent(how: str) -> None:
    """Killed, or at its end without a close: then nothing is said about it, either."""
    command = [sys.executable, "-c", PARENT, how]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as parent:
        workers = [int(pid) for pid in parent.stdout.readline().split()]
        if how == "wait":
            parent.kill()
        _, err = parent.communicate(timeout=20)
    assert len(workers) == 2 and err == ""
    deadline = time.monotonic() + 10
    while not all(map(gone, workers)):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_workers_need_neither_torch_nor_the_main_module(games: ParallelGames) -> None:
    for pid in pids(games):
        maps = Path(f"/proc/{pid}/maps").read_text()
        assert "cv2" in maps and "torch" not in maps
        # One that computes; those of actors/patience.py, for the import and for each game, sleep.
        assert len(os.listdir(f"/proc/{pid}/task")) <= 1 + 1 + 2
