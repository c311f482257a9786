"""Layers: ELU and no normalisation but in the GRU, or layer norm and SiLU. Keras' initialisation."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NORM_EPS = 1e-3  # of every layer norm: Keras' default, and dreamerv3's


def init_glorot(module: nn.Module) -> None:
    """Initialises every layer as Keras does; torch's own defaults start the heads too large."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


class Activation(nn.Module):
    """What follows a layer: ELU, or with `norm` a layer norm over its units and SiLU. [..., units] -> [..., units]."""

    def __init__(self, units: int, *, norm: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(units, eps=NORM_EPS) if norm else None

    def forward(self, x: Tensor) -> Tensor:
        return F.elu(x) if self.norm is None else F.silu(self.norm(x))


class MLP(nn.Module):
    """Dense layers with their activations, then a linear one: [..., inputs] -> float32 [..., outputs]."""

    def __init__(self, inputs: int, *, layers: int, units: int, outputs: int, norm: bool = False) -> None:
        super().__init__()
        sizes = [inputs] + [units] * layers
        self.hidden = nn.ModuleList(nn.Linear(i, o) for i, o in pairwise(sizes))
        self.activations = nn.ModuleList(Activation(units, norm=norm) for _ in range(layers))
        self.out = nn.Linear(sizes[-1], outputs)

    def forward(self, x: Tensor) -> Tensor:
        for layer, activation in zip(self.hidden, self.activations, strict=True):
            x = activation(layer(x))
        y: Tensor = self.out(x)
        return y.float()


class LayerNormGRUCell(nn.Module):
    """GRU cell whose three parts share one layer norm: u [..., I], h [..., D] -> h' [..., D].

    Not torch.nn.GRUCell: the reset gate scales the whole candidate ("late reset"), the update gate starts mostly closed
    (bias -1), and the norm's epsilon is Keras' 1e-3. Gates and state are float32. dreamerv2 common/nets.py GRUCell.
    """

    UPDATE_BIAS = -1.0

    def __init__(self, inputs: int, deter: int) -> None:
        super().__init__()
        self.dense = nn.Linear(inputs + deter, 3 * deter)
        self.norm = nn.LayerNorm(3 * deter, eps=NORM_EPS)

    def forward(self, u: Tensor, h: Tensor) -> Tensor:
        return self.gate(self.dense(torch.cat([u, h.to(u.dtype)], -1)), h)

    def gate(self, parts: Tensor, h: Tensor) -> Tensor:
        """What the dense layer gave [..., 3*D] and h [..., D] -> h' [..., D] = update * cand + (1 - update) * h."""
        reset, cand, update = self.norm(parts.float()).chunk(3, -1)
        cand = torch.tanh(torch.sigmoid(reset) * cand)
        return torch.lerp(h, cand, torch.sigmoid(update + self.UPDATE_BIAS))
