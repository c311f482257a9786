"""The networks: ELU, no normalisation but in the GRU, Keras' initialisation (Glorot-uniform kernels, zero biases)."""

from __future__ import annotations

from collections.abc import Iterable
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
        channels_last(self.convs)
        self.outputs = 2 * 2 * 8 * depth

    def forward(self, image: Tensor) -> Tensor:
        x = image.contiguous(memory_format=torch.channels_last)
        *others, last = self.convs
        for conv in others:
            x = F.elu(conv(x))
        return F.elu(conv_to_2x2(x, last)).flatten(1)


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
        channels_last(self.convs[:-1])

    def forward(self, feat: Tensor) -> Tensor:
        first, *others, last = self.convs
        x = F.elu(transposed_conv_of_one_pixel(self.dense(feat), first))
        for conv in others:
            x = F.elu(conv(x))
        return transposed_conv_by_phases(x, last).float()


def channels_last(convs: Iterable[nn.Module]) -> None:
    """Stores kernels as (first, y, x, second) instead of (first, second, y, x): the same numbers, a fifth faster."""
    for conv in convs:
        assert isinstance(conv, nn.Conv2d | nn.ConvTranspose2d)
        # Not contiguous(memory_format=...): it leaves a kernel of one channel as it is, and all that follows with it.
        kernel = conv.weight.data.permute(0, 2, 3, 1).clone(memory_format=torch.contiguous_format)
        conv.weight.data = kernel.permute(0, 3, 1, 2)


# --- Three convolutions in the form that computes the same several times faster than torch's own kernels ---


def conv_to_2x2(x: Tensor, conv: nn.Module) -> Tensor:
    """`conv` (kernel 4, stride 2) on 6x6 images, [N, I, 6, 6] -> [N, O, 2, 2], as one matrix product of its windows."""
    assert isinstance(conv, nn.Conv2d) and conv.bias is not None
    x = x.permute(0, 2, 3, 1)  # [N, 6, 6, I]: windows of channels_last images are few long pieces of memory
    windows = torch.stack([x[:, i : i + 4, j : j + 4].flatten(1) for i in (0, 2) for j in (0, 2)], 1)  # [N, 4, 16*I]
    y = F.linear(windows, conv.weight.permute(0, 2, 3, 1).flatten(1), conv.bias)  # [N, 4, O]
    return y.transpose(1, 2).reshape(len(x), -1, 2, 2)


def transposed_conv_of_one_pixel(x: Tensor, conv: nn.Module) -> Tensor:
    """`conv` on a 1x1 image, [N, I] -> [N, O, k, k], as the plain matrix product that it is."""
    assert isinstance(conv, nn.ConvTranspose2d) and conv.bias is not None
    kernel = conv.weight.permute(0, 2, 3, 1)  # [I, k, k, O]
    y = x @ kernel.flatten(1).to(x.dtype)
    return y.view(-1, *kernel.shape[1:]).permute(0, 3, 1, 2) + conv.bias.to(y.dtype)[:, None, None]


def transposed_conv_by_phases(x: Tensor, conv: nn.Module) -> Tensor:
    """`conv` (kernel 6, stride 2) as a convolution: [N, I, s, s] -> [N, O, 2s+4, 2s+4].

    Every other row and column of the result sees every other row and column of the kernel: 2x2 phases, each an ordinary
    3x3 convolution, whose results are woven together.
    """
    assert isinstance(conv, nn.ConvTranspose2d) and conv.bias is not None
    inputs, outputs = conv.weight.shape[:2]
    kernel = conv.weight.reshape(inputs, outputs, 3, 2, 3, 2).flip(2, 4)  # [I, O, 3, phase, 3, phase]
    kernel = kernel.permute(1, 3, 5, 0, 2, 4).reshape(4 * outputs, inputs, 3, 3)
    return F.pixel_shuffle(F.conv2d(x, kernel, conv.bias.repeat_interleave(4), padding=2), 2)


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
        return self.gate(self.dense(torch.cat([u, h.to(u.dtype)], -1)), h)

    def gate(self, parts: Tensor, h: Tensor) -> Tensor:
        """What the dense layer gave [..., 3*D] and h [..., D] -> h' [..., D] = update * cand + (1 - update) * h."""
        reset, cand, update = self.norm(parts.float()).chunk(3, -1)
        cand = torch.tanh(torch.sigmoid(reset) * cand)
        return torch.lerp(h, cand, torch.sigmoid(update + self.UPDATE_BIAS))
