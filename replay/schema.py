"""The fields of a stored record: their shapes and types, a name for them, and the memory that they need."""

from __future__ import annotations

import hashlib
import json

import numpy as np

from replay.config import ReplayConfig
from replay.errors import UserError
from replay.experience import Array, EnvSpec, PrevState, Sequences, Step
from replay.free_memory import available_memory
from replay.interface import Sample

# Beside the record itself: its header and the references that windows hold (in one process); a share of chunks and
# items and the waste of the allocator (Reverb). Measured with 64x64 frames of noise (incompressible): 4177 and 4384.
OVERHEAD_PER_STEP = 64  # bytes
OVERHEAD_PER_CENT = 10
MEMORY_SHARE = 0.9  # of the free memory that a replay may plan with: the rest is for everything else


def record_dtype(spec: EnvSpec) -> np.dtype[np.void]:
    """One stored record: the fields of a Step and of a PrevState, the update count of the policy that chose its action.

    Without stored states the fields of these have no bytes.
    """
    deter, stoch = spec.state
    return np.dtype(
        [
            ("obs", np.uint8, spec.obs_shape),
            ("prev_action", np.int32),
            ("reward", np.float32),
            ("is_first", np.bool_),
            ("is_terminal", np.bool_),
            ("prev_h", np.float16, (deter,)),
            ("prev_z", np.uint8, (stoch,)),
            ("policy_version", np.int64),
        ]
    )


def field_types(spec: EnvSpec) -> dict[str, tuple[np.dtype[np.generic], tuple[int, ...]]]:
    """The same by name: (element type, shape)."""
    dtype = record_dtype(spec)
    return {name: (dtype[name].base, dtype[name].shape) for name in dtype.names or ()}


def check_step(step: Step, prev: PrevState, types: dict[str, tuple[np.dtype[np.generic], tuple[int, ...]]]) -> None:
    """Refuses a record whose fields have other shapes or types than the game's; `types` from field_types."""
    for name, value in zip(Step._fields + PrevState._fields, step + prev, strict=True):
        dtype, shape = types[name]
        if not isinstance(value, (np.ndarray, np.generic)) or value.dtype != dtype or value.shape != shape:
            got = f"{value.dtype} {list(value.shape)}" if hasattr(value, "dtype") else type(value).__name__
            raise ValueError(f"step.{name} must be {dtype} {list(shape)}, got {got}")


def to_bytes(step: Step, prev: PrevState, policy_version: int) -> bytes:
    """One record as it is stored; the step is checked."""
    return b"".join([value.tobytes() for value in step + prev] + [np.int64(policy_version).tobytes()])


def to_sample(rows: Array) -> Sample:
    """Records of a `record_dtype` [B, T] -> arrays [B, T, ...], copied."""
    sequences = Sequences(*(rows[name].copy() for name in Sequences._fields))
    return Sample(sequences, policy_version=rows["policy_version"][:, -1].copy())


def mark_starts(sequences: Sequences, spec: EnvSpec) -> None:
    """Makes every window look like the beginning of a game, unless its first record brings the state before it."""
    if spec.state == (0, 0):
        sequences.is_first[:, 0] = True


def run_table(run_id: str) -> str:
    """Name of the empty table by which clients recognise the server of their run."""
    return f"run_{run_id}"


def table_name(config: ReplayConfig, spec: EnvSpec) -> str:
    """A name that two replays share only if their windows look alike."""
    # Fields without bytes are left out: windows without states are what they were when there was no such thing.
    fields = {name: [str(dtype), list(shape)] for name, (dtype, shape) in field_types(spec).items() if 0 not in shape}
    text = json.dumps({"length": config.length, "fields": fields}, sort_keys=True)
    return f"seq_{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def bytes_per_step(spec: EnvSpec) -> int:
    """What a step needs at worst: uncompressed. Reverb's compression makes it 300 to 460 bytes for Breakout."""
    return record_dtype(spec).itemsize * (100 + OVERHEAD_PER_CENT) // 100 + OVERHEAD_PER_STEP


def memory_needed(config: ReplayConfig, spec: EnvSpec) -> int:
    """What a full replay needs at worst, in bytes. Overlapping windows share their frames."""
    return (config.capacity + config.length) * bytes_per_step(spec)


def check_memory(config: ReplayConfig, spec: EnvSpec, available: int | None = None) -> str:
    """A line for the log about the memory that a full replay needs; UserError if this machine has not got it.

    available: bytes free, asked of the system if None.
    """
    free = available_memory() if available is None else available
    need, each = memory_needed(config, spec), bytes_per_step(spec)
    line = f"replay: {config.capacity:,} steps x {each:,} bytes = {_gib(need)} at worst ({_gib(free)} free)"
    if not has_room(config, spec, free):
        fits = max(0, int(MEMORY_SHARE * free) // each - config.length)
        raise UserError(f"{line}: too much; lower --replay.capacity to {fits} or less")
    return line


def has_room(config: ReplayConfig, spec: EnvSpec, available: int | None) -> bool:
    """Whether a full replay fits into so many bytes; None = there are none."""
    return memory_needed(config, spec) <= MEMORY_SHARE * (available or 0)


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
