"""The networks: ELU, no normalisation but in the GRU, Keras' initialisation (Glorot-uniform kernels, zero biases)."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

IMAGE_SIZE = 64  # the strides below turn 64 pixels into 2x2 and 1x1 into 64: no other size fits


def init_glorot(module: nn.Module) -> None:
    """Initialises every layer as Keras does; torch's own defaults start the heads too large."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


class MLP(nn.Module):
    """Dense layers with ELU, then a linear one: [..., inputs] -> float32 [..., outputs]."""

    def __init__(self, inputs: int, *, layers: int, units: int, outputs: int) -> None:
        super().__init__()
        sizes = [inputs] + [units] * layers
        self.hidden = nn.ModuleList(nn.Linear(i, o) for i, o in pairwise(sizes))
        self.out = nn.Linear(sizes[-1], outputs)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.hidden:
            x = F.elu(layer(x))
        y: Tensor = self.out(x)
        return y.float()


class Encoder(nn.Module):
    """Four convolutions, 64 -> 31 -> 14 -> 6 -> 2: [N, C, 64, 64] -> [N, 32*depth]."""

    def __init__(self, channels: int, depth: int) -> None:
        super().__init__()
        sizes = [channels, depth, 2 * depth, 4 * depth, 8 * depth]
        self.convs = nn.ModuleList(nn.Conv2d(i, o, kernel_size=4, stride=2) for i, o in pairwise(sizes))
        self.outputs = 2 * 2 * 8 * depth

    def forward(self, image: Tensor) -> Tensor:
        x = image
        for conv in self.convs:
            x = F.elu(conv(x))
        return x.flatten(1)


class Decoder(nn.Module):
    """A dense layer without activation, then four transposed convolutions, 1 -> 5 -> 13 -> 30 -> 64.

    [N, F] -> float32 [N, C, 64, 64], the mean of a unit-variance normal per pixel.
    """

    def __init__(self, inputs: int, channels: int, depth: int) -> None:
        super().__init__()
        self.dense = nn.Linear(inputs, 32 * depth)
        sizes, kernels = [32 * depth, 4 * depth, 2 * depth, depth, channels], [5, 5, 6, 6]
        self.convs = nn.ModuleList(
            nn.ConvTranspose2d(i, o, kernel_size=k, stride=2)
            for (i, o), k in zip(pairwise(sizes), kernels, strict=True)
        )

    def forward(self, feat: Tensor) -> Tensor:
        first, *others = self.convs
        x = F.elu(transposed_conv_of_one_pixel(self.dense(feat), first))
        for conv in others[:-1]:
            x = F.elu(conv(x))
        image: Tensor = others[-1](x)
        return image.float()


def transposed_conv_of_one_pixel(x: Tensor, conv: nn.Module) -> Tensor:
    """`conv` on a 1x1 image, [N, I] -> [N, O, k, k], as the plain matrix product that it is.

    torch's own kernel takes ten times as long for this shape (a second per update of the paper's size on a CPU).
    """
    assert isinstance(conv, nn.ConvTranspose2d) and conv.bias is not None
    y = x @ conv.weight.flatten(1).to(x.dtype)
    return y.view(-1, *conv.weight.shape[1:]) + conv.bias.to(y.dtype)[:, None, None]


class LayerNormGRUCell(nn.Module):
    """GRU cell whose three parts share one layer norm: u [..., I], h [..., D] -> h' [..., D].

    Not torch.nn.GRUCell: the reset gate scales the whole candidate ("late reset"), the update gate starts mostly closed
    (bias -1), and the norm's epsilon is Keras' 1e-3. Gates and state are float32. dreamerv2 common/nets.py GRUCell.
    """

    UPDATE_BIAS = -1.0

    def __init__(self, inputs: int, deter: int) -> None:
        super().__init__()
        self.dense = nn.Linear(inputs + deter, 3 * deter)
        self.norm = nn.LayerNorm(3 * deter, eps=1e-3)

    def forward(self, u: Tensor, h: Tensor) -> Tensor:
        parts = self.norm(self.dense(torch.cat([u, h.to(u.dtype)], -1)).float())
        reset, cand, update = parts.chunk(3, -1)
        cand = torch.tanh(torch.sigmoid(reset) * cand)
        update = torch.sigmoid(update + self.UPDATE_BIAS)
        return update * cand + (1 - update) * h
