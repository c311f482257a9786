"""Packages and libraries that a machine lacks, in one line. Needs nothing but the standard library."""

from __future__ import annotations

import re

OURS = ("dreamer", "replay", "actors", "learner", "cluster", "tests")  # packages whose failures are our own faults
# Libraries of the system that wheels do not bring along: OpenCV's windows, which nobody opens here.
LIBRARIES = ("libGL.so", "libglib-2.0.so", "libgthread-2.0.so")
LIBRARIES_MEND = "apt-get install libgl1 libglib2.0-0 (or dnf install mesa-libGL glib2)"


def what_is_missing(error: ImportError | OSError) -> str | None:
    """One line for a package or a library that this machine lacks, with the mend; None for an error of another kind."""
    text = " ".join(str(error).split())
    library = re.search(r"(\S+\.so[.\d]*): cannot open shared object file", text)
    if library and library[1].startswith(LIBRARIES):
        return f"OpenCV needs the system's library {library[1]}, which is missing: {LIBRARIES_MEND}"
    if library:
        return f"the system's library {library[1]} is missing, or does not fit the packages: make setup, or install it"
    if not isinstance(error, ImportError) or (error.name or "").partition(".")[0] in OURS:
        return None
    if isinstance(error, ModuleNotFoundError):
        return f"the package {error.name} is not installed: make setup"
    return f"the package {error.name or '?'} cannot be loaded ({text[:200]}): make setup"
