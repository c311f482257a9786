"""Records on a device, so that frames live in the memory of the GPU and a sampled batch never touches the host.

A ring of rows. Records are numbered as they come, and record n is in row n % rows until record n + rows overwrites it:

    rows   |  n+5  n+6  n+7 | n-1   n   n+1  n+2  n+3  n+4 |      record n-1 is the next to go

No call makes the host wait for the device (`dump` does, to save): indices are drawn on the host and uploaded, and the
records of several games wait on the host to be uploaded in one go, at the latest when a batch is gathered.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from replay.config import ReplayConfig, check_config
from replay.errors import UserError
from replay.experience import Array, EnvSpec, Sequences
from replay.interface import Sample
from replay.memory_backend import Record, Window
from replay.schema import check_memory, field_types, record_dtype

STAGED = 256  # records of one upload at most: 1 MiB of 64x64 frames; ours


class DeviceRecords:
    """Records as rows of tensors; what a window holds of each is its number."""

    def __init__(self, config: ReplayConfig, spec: EnvSpec, *, device: torch.device | str) -> None:
        check_config(config)
        self._device, self._dtype = torch.device(device), record_dtype(spec)
        self._is_cuda = self._device.type == "cuda"
        check_memory(config, spec, torch.cuda.mem_get_info(self._device)[0] if self._is_cuda else None)
        # How far apart the records of one window may be: E games in lockstep put E * T records between its ends, and
        # twice that in the order of a saved file. As much again for records of short games, which are in no window.
        self._span = config.capacity // 16 + 64 * config.length
        self._rows = config.capacity + 2 * self._span
        types = field_types(spec)
        try:
            self._ring = [self._new(*types[name]) for name in Sequences._fields]  # each [rows, ...]
        except torch.cuda.OutOfMemoryError as error:
            raise UserError(f"a replay of {config.capacity:,} steps does not fit: lower --replay.capacity") from error
        self._versions = np.zeros(self._rows, np.int64)  # on the host, where they are asked for
        self._staged: list[bytes] = []  # the latest records, not uploaded yet
        self._count = 0  # records ever

    def put(self, record: bytes) -> int:
        """Takes a record in; returns its number."""
        self._staged.append(record)
        self._count += 1
        if len(self._staged) == STAGED or self._count % self._rows == 0:  # an upload never goes around the ring's end
            self._upload()
        return self._count - 1

    def holds(self, window: Window) -> bool:
        """Whether no record of the window is overwritten, nor about to be.

        Windows come in the order of their last records but not of their first, where games take turns unevenly. So a
        window goes by the age of its last one, early enough for any first one: the oldest window is the first to go.
        """
        first, last = window[0], window[-1]
        return bool(last - first <= self._span and self._count - last <= self._rows - self._span)

    def gather(self, windows: Sequence[Window]) -> Sample:
        """B windows -> tensors [B, T, ...] on the device."""
        self._upload()
        rows = np.array(windows, np.int64) % self._rows  # [B, T]
        index = self._host_tensor(rows).to(self._device, non_blocking=True)
        return Sample(Sequences(*(field[index] for field in self._ring)), self._versions[rows[:, -1]])

    def dump(self, records: Sequence[Record]) -> bytes:
        """The bytes of these records, one after another."""
        self._upload()
        rows = np.array(records, np.int64) % self._rows
        index = torch.from_numpy(rows).to(self._device)
        data = np.empty(len(rows), self._dtype)
        for name, field in zip(Sequences._fields, self._ring, strict=True):
            data[name] = field[index].cpu().numpy()
        data["policy_version"] = self._versions[rows]
        return data.tobytes()

    def close(self) -> None:
        """Frees the memory."""
        self._ring.clear()
        self._staged.clear()

    def _new(self, dtype: np.dtype[np.generic], shape: tuple[int, ...]) -> Tensor:
        return torch.from_numpy(np.empty(0, dtype)).new_empty((self._rows, *shape), device=self._device)

    def _upload(self) -> None:
        if not self._staged:
            return
        data = np.frombuffer(b"".join(self._staged), self._dtype)
        begin = (self._count - len(data)) % self._rows
        place = slice(begin, begin + len(data))
        for name, field in zip(Sequences._fields, self._ring, strict=True):
            field[place].copy_(self._host_tensor(data[name].copy()), non_blocking=True)
        self._versions[place] = data["policy_version"]
        self._staged.clear()

    def _host_tensor(self, array: Array) -> Tensor:
        """A tensor whose upload nobody waits for: torch uses its pinned memory again only after the upload."""
        tensor = torch.from_numpy(array)
        return tensor.pin_memory() if self._is_cuda else tensor
