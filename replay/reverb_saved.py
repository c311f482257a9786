"""The checkpoint of a replay server, read by somebody else: into a replay in this process, without touching it.

Reverb alone can read its checkpoints, and loading one brings its rate limiter back, which would hand out a few batches
and then wait for actors. So a server loads a copy in which the table is said to hand out every window once, the oldest
first. The steps of the copy, which are nearly all of it, are a hard link.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow reads it while it is imported

import reverb
import tensorflow as tf

# Private; the format of a file that Reverb's own pinned version has written.
from reverb.cc import schema_pb2
from reverb.cc.checkpointing import checkpoint_pb2

from replay import checkpoints
from replay.errors import ReplayCorrupt, UserError
from replay.memory_backend import MemoryReplay, Record
from replay.ports import free_port
from replay.schema import record_dtype, table_name

LONGEST = 200  # characters of an error of somebody else's
TABLES, ITEMS = "tables.tfrecord", "items.tfrecord"  # the files of a checkpoint that are others in the copy
ZIPPED = "ZLIB"  # how Reverb writes its files
ALL_THERE_MS = 1000  # without a further window after which there is none
NO_LIMIT = 1.7976931348623157e308  # samples by which one side may be ahead; Reverb's own way to say so


def copy_windows(replay: MemoryReplay, directory: Path) -> None:
    """Fills an empty replay with the windows saved under a server's `directory`, in their order.

    Windows that overlap share their records again. Raises UserError, OSError, ReplayCorrupt.
    """
    table = table_name(replay.config, replay.spec)
    newest = checkpoints.newest(directory / table)
    if newest is None:
        raise UserError(f"{directory} holds no windows of this length, game and state")
    with tempfile.TemporaryDirectory(prefix="dreamer-replay-") as folder:
        copied = Path(folder) / newest.name
        checkpoints.copy(newest, copied, without=(TABLES, ITEMS))
        try:
            size = _copy_rules(newest / TABLES, copied / TABLES, table)
            _copy_items(newest / ITEMS, copied / ITEMS)
            _take_all(replay, Path(folder), table, size)
        except (UserError, OSError, MemoryError):
            raise
        except Exception as error:  # whatever a byte that is not as it was written may lead to
            raise ReplayCorrupt(f"{newest} is damaged: {' '.join(str(error).split())[:LONGEST]}") from error


def _copy_rules(source: Path, target: Path, table: str) -> int:
    """Writes what is said of the table, with other rules -> its size. The run's table of no windows is left out."""
    found = (checkpoint_pb2.PriorityTableCheckpoint.FromString(record) for record in _records(source))
    rules = next(one for one in found if one.table_name == table)
    rules.max_times_sampled = 1
    rules.sampler.Clear()
    rules.sampler.fifo = True
    rules.rate_limiter.min_diff, rules.rate_limiter.max_diff = -NO_LIMIT, NO_LIMIT
    rules.rate_limiter.min_size_to_sample = 1
    with tf.io.TFRecordWriter(str(target), options=ZIPPED) as file:
        file.write(rules.SerializeToString())
    return int(rules.max_size)


def _copy_items(source: Path, target: Path) -> None:
    """Writes which windows there are, as if none had ever been handed out: else such a one would come for ever."""
    with tf.io.TFRecordWriter(str(target), options=ZIPPED) as file:
        for record in _records(source):
            item = schema_pb2.PrioritizedItem.FromString(record)
            item.times_sampled = 0
            file.write(item.SerializeToString())


def _records(path: Path) -> Iterator[bytes]:
    for record in tf.data.TFRecordDataset(str(path), compression_type=ZIPPED):
        yield record.numpy()


def _take_all(replay: MemoryReplay, folder: Path, table: str, size: int) -> None:
    """Loads the copy into a server and empties its table into the replay."""
    config, itemsize = replay.config, record_dtype(replay.spec).itemsize
    # Rules are those of the checkpoint, whatever a table is made with.
    fifo, limiter = reverb.selectors.Fifo(), reverb.rate_limiters.MinSize(1)
    signature = tf.TensorSpec((config.length, itemsize), tf.uint8)
    empty = reverb.Table(table, fifo, fifo, size, rate_limiter=limiter, signature=signature)
    checkpointer = reverb.platform.checkpointers_lib.DefaultCheckpointer(str(folder))
    server = reverb.Server([empty], port=free_port(0), checkpointer=checkpointer)
    try:
        windows = reverb.TrajectoryDataset(
            f"localhost:{server.port}",
            table,
            dtypes=tf.uint8,
            shapes=tf.TensorShape((config.length, itemsize)),
            max_in_flight_samples_per_worker=config.batch,
            num_workers_per_iterator=1,  # two would mix up the order
            rate_limiter_timeout_ms=ALL_THERE_MS,
        )
        known: dict[bytes, Record] = {}  # what windows share
        for window in windows:
            rows = [row.tobytes() for row in window.data.numpy()]
            for row in rows:
                if row not in known or not replay.records.holds((known[row],)):
                    known[row] = replay.put(row)
            replay.insert(tuple(known[row] for row in rows), config.stride)
    finally:
        server.stop()
