"""Tests of what must be so on either device: on the CPU always, on a GPU with `pytest -m gpu` where there is one."""

from __future__ import annotations

import pytest
import torch

GPU = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
CUDA = pytest.param("cuda", marks=GPU)
DEVICES = ["cpu", CUDA]  # for pytest.mark.parametrize("device", DEVICES)
