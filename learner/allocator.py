"""How the C library hands out memory to the learner."""

from __future__ import annotations

import ctypes
import sys

# Names and numbers of glibc's malloc.h.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
TOP_PAD = 256 * 2**20  # bytes asked of the system at a time


def keep_freed_memory() -> None:
    """Freed memory stays with the process: every update needs the same again.

    By default glibc gives each large block back at once, and the system hands it out page by page, zeroed, at the next
    update: 40 % of a `paper` update's time on two cores. Does nothing where the C library is another.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # not glibc
        return
    mallopt(M_MMAP_MAX, 0)
    mallopt(M_TRIM_THRESHOLD, -1)  # never
    mallopt(M_TOP_PAD, TOP_PAD)
