"""Games whose every frame is unique, and replay servers in processes of their own.

Run as a script it is such a process: `serve` obeys lines of JSON on stdin, `write` plays for ever.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import replay
from replay import EnvSpec, PrevState, ReplayConfig, Sample, Sequences, Step, Writer
from replay.experience import NO_STATE

ROOT = Path(__file__).resolve().parents[2]
SPEC = EnvSpec(obs_shape=(4, 4, 1), num_actions=7)
RUN = "test-run"


def spec_of(config: ReplayConfig) -> EnvSpec:
    """With the player's state where that is stored."""
    return SPEC._replace(state=(3, 2)) if config.stored_state else SPEC


def frame(number: int) -> np.ndarray:
    """A picture that tells its number."""
    return np.array([number, 0], np.int64).view(np.uint8).reshape(SPEC.obs_shape)


def frame_numbers(obs: np.ndarray) -> np.ndarray:
    """uint8 [..., 4, 4, 1] -> int64 [...]"""
    return np.ascontiguousarray(obs).reshape(*obs.shape[:-3], 16).view(np.int64)[..., 0]


def to_numpy(sample: Sample) -> Sample:
    """The one place where a test takes a batch from the device that it was drawn on."""
    arrays = (field if isinstance(field, np.ndarray) else field.cpu().numpy() for field in sample.sequences)
    return Sample(Sequences(*arrays), sample.policy_version)


def game(start: int, length: int, terminal: bool = True) -> Iterator[tuple[Step, bool]]:
    """The records of one game, with frames numbered from `start`; action and reward follow from the number."""
    for t in range(length):
        number, is_last = start + t, t == length - 1
        yield (
            Step(
                obs=frame(number),
                prev_action=np.int32(0 if t == 0 else number % 7),
                reward=np.float32(0 if t == 0 else number),
                is_first=np.bool_(t == 0),
                is_terminal=np.bool_(is_last and terminal),
            ),
            is_last,
        )


def prev_of(numbers: np.ndarray) -> PrevState:
    """Fields [..., 3] and [..., 2]: the state before the records of these frame numbers, told by them."""
    h = np.stack([numbers % 1000, numbers // 1000 % 1000, -numbers % 7], -1)
    return PrevState(h.astype(np.float16), np.stack([numbers % 251, 255 - numbers % 2], -1).astype(np.uint8))


def play(writer: Writer, lengths: list[int], start: int = 0, *, states: bool = False) -> list[int]:
    """Plays games of these lengths; returns the frame numbers with which they begin. Version = number // 10."""
    starts = []
    for length in lengths:
        starts.append(start)
        for number, (step, is_last) in enumerate(game(start, length), start):
            prev = prev_of(np.array(number)) if states else NO_STATE
            writer.append(step, is_last=is_last, policy_version=number // 10, prev=prev)
        start += length
    writer.flush()
    return starts


class Host:
    """A process with replay servers in it."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__, "serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"},
        )

    def serve(self, config: ReplayConfig, directory: Path, run_id: str = RUN) -> str:
        """Starts one more server; returns its address."""
        return self._ask("serve", dataclasses.asdict(config), str(directory), run_id)

    def checkpoint(self) -> None:
        """Makes the last server save itself."""
        self._ask("checkpoint")

    def close_server(self) -> None:
        """Ends the last server."""
        self._ask("close")

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait()

    def _ask(self, *command: Any) -> Any:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        kind, value = json.loads(self.process.stdout.readline())
        if kind == "error":
            raise RuntimeError(value)
        return value


def _serve() -> None:
    servers = []
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever else prints must not look like an answer
    for line in sys.stdin:
        command, *args = json.loads(line)
        try:
            value = None
            if command == "serve":
                config = ReplayConfig(**args[0])
                spec = spec_of(config)
                servers.append(replay.serve(config, spec, directory=Path(args[1]), run_id=args[2], host="localhost"))
                value = servers[-1].address
            elif command == "checkpoint":
                servers[-1].checkpoint()
            else:
                servers.pop().close()
            answer = ("ok", value)
        except Exception as error:
            answer = ("error", f"{type(error).__name__}: {error}")
        print(json.dumps(answer), file=answers, flush=True)
    os._exit(0)


def _write(address: str, config: ReplayConfig) -> None:
    writer = replay.connect(address, config, SPEC, run_id=RUN).writer()
    start = 10_000_000
    while True:
        play(writer, [37], start)
        start += 37
        print(start, flush=True)


class Background:
    """A call in a thread; `result` raises what it raised."""

    def __init__(self, call: Any, *args: Any) -> None:
        self._outcome: list[Any] = []
        self._error: list[BaseException] = []
        self._thread = threading.Thread(target=self._run, args=(call, *args), daemon=True)
        self._thread.start()

    def _run(self, call: Any, *args: Any) -> None:
        try:
            self._outcome.append(call(*args))
        except BaseException as error:
            self._error.append(error)

    def running(self) -> bool:
        return self._thread.is_alive()

    def result(self, timeout: float = 30) -> Any:
        self._thread.join(timeout)
        assert not self._thread.is_alive(), f"not done after {timeout} s"
        if self._error:
            raise self._error[0]
        return self._outcome[0]


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        _serve()
    else:
        _write(sys.argv[2], ReplayConfig(**json.loads(sys.argv[3])))
