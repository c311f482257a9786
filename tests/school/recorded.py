"""What a school learns from: games recorded once, the same for every idea that is tried."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import torch

from actors.env import make_games
from actors.rollout import Tick
from cluster.assemble import Loaded, env_spec
from cluster.dream import play_mixed
from cluster.look.evaluate import device_of, seeded
from cluster.look.windows import play_windows
from cluster.training import append
from dreamer.types import Batch
from learner.checkpoint import write_atomically
from learner.feed import to_batch
from replay import MemoryReplay, UserError, in_memory
from replay.config import ReplayConfig
from replay.experience import EnvSpec, PrevState, Step

GAMES = 16  # side by side
SEED, HELD_SEED = 100, 77  # of the recorded games, and of those that are kept from training


class Recording(NamedTuple):
    """Numpy arrays alone: what the file holds."""

    steps: Step  # fields [N, GAMES, ...]
    is_last: np.ndarray  # bool [N, GAMES]
    held: Step  # fields [T, W, ...]  windows of other games, played without random actions, to judge by


def recorded(loaded: Loaded, folder: Path, *, steps: int, windows: int, say: Callable[[str], None]) -> Recording:
    """The recording of this agent's games: from its file in `folder`, which is made where it is missing or damaged."""
    path = folder / f"games-{fingerprint(loaded)}-{steps}-{windows}.npz"
    if (found := read(path)) is not None:
        return found
    say(f"recording {steps:,} steps and {windows} windows into {path}: once, some minutes on one core")
    try:
        folder.mkdir(parents=True, exist_ok=True)  # before the minutes, so that they are not in vain
        recording = record(loaded, steps=steps, windows=windows, say=say)
        write_atomically(path, lambda file: write(file, recording))
    except OSError as error:
        raise UserError(f"cannot write to {folder} ({error.strerror}): choose another --data") from error
    return recording


def record(loaded: Loaded, *, steps: int, windows: int, say: Callable[[str], None]) -> Recording:
    """A function of the agent, its game and the numbers asked for; the caller's chance goes on as if nothing was."""
    agent, env = loaded.agent, loaded.config.env
    ticks: list[Tick] = []
    played, scores = 0, []
    with seeded(SEED, device_of(agent)), closing(make_games(env, GAMES, SEED)) as games:
        for tick in play_mixed(agent, games, seed=SEED):
            ticks.append(tick)
            played += tick.played
            scores += [episode.score for episode in tick.episodes]
            if played >= steps:
                break
    mean = f"{np.mean(scores):.1f}" if scores else "-"
    say(f"recorded {played:,} steps, {len(scores)} games with a mean score of {mean}")
    with seeded(HELD_SEED, device_of(agent)):
        batch = play_windows(agent, env, windows=windows, seed=HELD_SEED)
    held = Step(*(getattr(batch, field).cpu().numpy() for field in Step._fields))
    kept = Step(*(np.stack([getattr(tick.step, field) for tick in ticks]) for field in Step._fields))
    return Recording(kept, np.stack([tick.is_last for tick in ticks]), held)


def fingerprint(loaded: Loaded) -> str:
    """Names an agent and its game: another one's games are another recording."""
    told = loaded.checkpoint.path.read_bytes() + repr(loaded.config.env).encode()
    return hashlib.sha256(told).hexdigest()[:8]


def write(file: BinaryIO, recording: Recording) -> None:
    fields = {f"steps_{name}": value for name, value in recording.steps._asdict().items()}
    fields |= {f"held_{name}": value for name, value in recording.held._asdict().items()}
    np.savez_compressed(file, is_last=recording.is_last, **fields)


def read(path: Path) -> Recording | None:
    """None where there is no such file or it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:
            steps, held = (Step(*(file[f"{kind}_{name}"] for name in Step._fields)) for kind in ("steps", "held"))
            return Recording(steps, file["is_last"], held)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


# --- What the learners get of it ---


def held_out(recording: Recording, device: torch.device) -> Batch:
    """The windows to judge by, [T, W, ...]."""
    batch = Batch(*(torch.as_tensor(field, device=device) for field in recording.held))
    return batch._replace(prev_action=batch.prev_action.long())


def filled(recording: Recording, config: ReplayConfig, spec: EnvSpec, *, seed: int) -> MemoryReplay:
    """A replay in this process into which the recorded games were played."""
    replay = in_memory(config, spec, seed=seed)
    writers = [replay.writer() for _ in range(GAMES)]
    nothing = PrevState(np.zeros((GAMES, 0), np.float16), np.zeros((GAMES, 0), np.uint8))
    for n, is_last in enumerate(recording.is_last):
        step = Step(*(field[n] for field in recording.steps))
        append(writers, Tick(step, is_last, int((~step.is_first).sum()), 0, [], nothing))
    if not replay.windows:
        raise UserError(f"no recorded game is as long as replay.length {config.length}: take more --steps")
    return replay


def batches(replay: MemoryReplay, device: torch.device) -> Iterator[Batch]:
    """Batches for ever: no ratio holds them back, because nobody plays."""
    while True:
        yield to_batch(replay.draw(replay.config.batch).sequences, device)


def spec_of(loaded: Loaded) -> EnvSpec:
    """What the recorded games look like: without states, which the recording has not got."""
    return env_spec(loaded.config)._replace(state=(0, 0))
