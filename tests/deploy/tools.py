"""The programs of this machine that the tests start."""

from __future__ import annotations

import os
import shutil

import pytest


def need(program: str) -> str:
    """Its path. Where it is missing the test is skipped, but never where CI is set: it installs them."""
    found = shutil.which(program)
    if found is None:
        tools = "make monitoring-tools, or apt-get install prometheus prometheus-alertmanager"
        mend = f"apt-get install {program}" if program in ("npm", "chromium") else tools
        reason = f"there is no {program} on this machine: {mend}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found
