"""The replay as a Reverb server: one table of windows, kept in checkpoints.

Reverb keeps runs of steps ("chunks") once and windows ("items") as references to them; a rate limiter in the server
makes actors and learner wait for each other.

A step is one column, the bytes of its record, though Reverb could keep its fields apart: it would do everything once
per field, and writing took twice as long for 1.8 times the bytes.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow reads it while it is imported

import reverb
import tensorflow as tf

from replay import checkpoints
from replay.config import ReplayConfig, check_config, error_buffer, max_windows, min_windows, samples_per_insert
from replay.experience import EnvSpec
from replay.interface import ReplayStats
from replay.ports import free_port
from replay.reverb_stats import stats_of
from replay.schema import record_dtype, run_table, table_name


class ReverbServer:
    """The server: one table of windows, and an empty one whose name says which run this is."""

    def __init__(self, config: ReplayConfig, spec: EnvSpec, *, directory: Path, run_id: str, host: str) -> None:
        check_config(config)
        self._config, self._spec = config, spec
        self.port = free_port(config.port)
        self.address = f"{host}:{self.port}"
        self._folder = directory / table_name(config, spec)
        self._settings = _settings(config, run_id)
        checkpoints.prepare(self._folder, self._settings)
        self._server = self._start(config, spec, run_id)

    def checkpoint(self) -> None:
        """Saves the table; the newest two checkpoints are kept. Inserts pause for some 25 ms."""
        if not self._folder.exists():  # deleted under the run: without its note a checkpoint would not be read back
            checkpoints.prepare(self._folder, self._settings)
        try:
            checkpoints.keep_newest(self._folder)
            self._server.localhost_client().checkpoint()
        except BaseException:  # reverb's errors are of many kinds
            checkpoints.remove_halves(self._folder)
            raise

    def stats(self) -> ReplayStats:
        """Counts, as of now."""
        info = self._server.localhost_client().server_info()[table_name(self._config, self._spec)]
        return stats_of(info, self._config, self._spec)

    def close(self) -> None:
        """Ends the server; what was not checkpointed is gone."""
        self._server.stop()

    def _start(self, config: ReplayConfig, spec: EnvSpec, run_id: str) -> Any:
        while True:
            checkpoints.begin_load(self._folder)
            checkpointer = reverb.platform.checkpointers_lib.DefaultCheckpointer(str(self._folder / "newest"))
            try:
                server = reverb.Server(_tables(config, spec, run_id), port=self.port, checkpointer=checkpointer)
            except RuntimeError as error:
                if checkpoints.move_aside(self._folder, str(error)):
                    continue
                raise
            checkpoints.end_load(self._folder)
            return server


def _tables(config: ReplayConfig, spec: EnvSpec, run_id: str) -> list[Any]:
    uniform, fifo = reverb.selectors.Uniform(), reverb.selectors.Fifo()
    limiter = reverb.rate_limiters.SampleToInsertRatio(
        samples_per_insert(config), min_size_to_sample=min_windows(config), error_buffer=error_buffer(config)
    )
    signature = tf.TensorSpec((config.length, record_dtype(spec).itemsize), tf.uint8)
    windows = reverb.Table(
        table_name(config, spec), uniform, fifo, max_windows(config), rate_limiter=limiter, signature=signature
    )
    run = reverb.Table(run_table(run_id), uniform, fifo, max_size=1, rate_limiter=reverb.rate_limiters.MinSize(1))
    return [windows, run]


def _settings(config: ReplayConfig, run_id: str) -> dict[str, Any]:
    """What a checkpoint brings back whether the code agrees or not."""
    return {
        "run_id": run_id,
        "columns": ["record"],  # as the signature says; older checkpoints have one per field
        "max_windows": max_windows(config),
        "min_windows": min_windows(config),
        "samples_per_insert": samples_per_insert(config),
        "error_buffer": error_buffer(config),
    }
