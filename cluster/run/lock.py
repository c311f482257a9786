"""One training per run directory: RUN/lock is locked for as long as the process lives that trains there.

The lock goes with its process, however that ends. Commands that only read need none. It is also how a run notices that
its directory was deleted, moved or replaced under it.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import socket
from pathlib import Path

from cluster.console.json_text import json_text
from cluster.errors import RunDirLost
from cluster.run.directory import LOCK, Run, make_whole
from cluster.run.log_file import LogFile
from cluster.trouble import Trouble
from replay.errors import UserError

log = logging.getLogger("run")
HELD = (errno.EACCES, errno.EAGAIN)
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL)


class RunLock:
    """The lock of one run directory; not held before `take`."""

    def __init__(self) -> None:
        self._path = Path()
        self._file = -1

    def take(self, folder: Path) -> None:
        """Raises UserError where another process trains there, or nothing can be written."""
        path = folder / LOCK
        try:
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            reason = f"cannot write to {folder} ({error.strerror})"
            raise UserError(f"{reason}: mend its permissions or free space") from error
        try:
            # Not flock: that would live on in child processes. Nobody else in this process may open the file.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                holder = _holder(file)
                os.close(file)
                raise UserError(
                    f"{holder} trains in {folder} now: wait for it or end it first, or choose another --run-dir"
                    if error.errno in HELD
                    else f"cannot lock {path} ({error.strerror}): choose another --run-dir"
                ) from error
            log.warning("the file system of %s has no locks: see to it that no other training runs there", folder)
        self.close()
        self._path, self._file = path, file
        _sign(file)

    def in_place(self) -> bool:
        """Whether the directory still is the one in which the lock was taken."""
        here = os.fstat(self._file)
        try:
            there = self._path.stat()
        except OSError as error:  # a network file system that does not answer now is not gone
            return error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ESTALE)
        return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)

    def moved_to(self) -> str:
        """Where the directory is now, "" if it was deleted or nobody can tell."""
        try:
            path = Path(os.readlink(f"/proc/self/fd/{self._file}"))
        except OSError:
            return ""
        return str(path.parent) if path.exists() and path != self._path.resolve() else ""

    def close(self) -> None:
        """Lets go."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


class Keeper:
    """Sees to it that what a run saves can be used: a directory that is gone is made anew, with its own identity."""

    def __init__(self, run: Run, lock: RunLock, log_file: LogFile) -> None:
        self._run, self._lock, self._log_file = run, lock, log_file
        self._config = (run.path / "config.json").read_text()
        self._trouble = Trouble("cannot make the run directory anew", "the run directory is there again", log)

    def look(self) -> str:
        """Mends the directory if need be; what to say about it, or "".

        Raises RunDirLost where another run lies there now.
        """
        if self._lock.in_place():
            return ""
        moved = self._lock.moved_to()
        try:
            make_whole(self._run, self._config)
            self._lock.take(self._run.path)
        except UserError as error:
            raise RunDirLost(f"{self._run.path} was replaced under its run, nothing can be saved: {error}") from error
        except OSError as error:
            self._trouble.failed(error, "nothing can be saved until then")
            return ""
        self._trouble.over()
        self._log_file.reopen()
        was = f"was moved to {moved}" if moved else "was deleted"
        return f"{self._run.path} {was} under its run: it is made anew, and what is saved from now on is there"


def _sign(file: int) -> None:
    """Says who holds it."""
    text = json_text({"host": socket.gethostname(), "pid": os.getpid()}) + "\n"
    try:
        os.ftruncate(file, 0)
        os.pwrite(file, text.encode(), 0)
    except OSError:  # a full disk: it is held all the same
        pass


def _holder(file: int) -> str:
    try:
        found = json.loads(os.pread(file, 4096, 0))
        return f"process {found['pid']} on {found['host']}"
    except (OSError, ValueError, TypeError, KeyError):
        return "another process"
