"""Encoders and decoders of pictures.

`valid`: the official strides, made for 64 pixels. `same`: every convolution halves the picture (dreamerv3). `blocks`:
convolutions that do not overlap, which makes them matrix products of blocks: in preset cpu half of the time of `same`.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dreamer.config import ModelConfig
from dreamer.nets import Activation

VALID_SIZE = 64  # the strides of `valid` turn 64 pixels into 2x2 and 1x1 into 64: no other size fits
SMALLEST = 7  # pixels: `same` halves until at most so many are left, `blocks` until so many blocks are
BLOCK = 4  # pixels, width and height of the first blocks


def make_encoder(config: ModelConfig, *, size: int, channels: int) -> Encoder | HalvingEncoder | BlockEncoder:
    """Pictures [N, C, size, size] -> embeddings [N, outputs]. Raises ValueError where the size does not fit."""
    match config.cnn:
        case "valid":
            if size != VALID_SIZE:
                raise ValueError(f"model.cnn valid needs pictures of {VALID_SIZE} pixels, not {size}: take same")
            return Encoder(channels, config.cnn_depth, norm=config.norm)
        case "same":
            if not can_halve(size):
                raise ValueError(f"pictures of {size} pixels cannot be halved: take 40, 48, 56, 64, 80, 96 ...")
            return HalvingEncoder(channels, config.cnn_depth, size=size, norm=config.norm)
        case "blocks":
            if not can_block(size):
                raise ValueError(f"pictures of {size} pixels cannot be cut into blocks: take 40, 48, 56, 64 ...")
            return BlockEncoder(channels, config.cnn_depth, size=size, norm=config.norm)
        case _:
            raise ValueError(f"model.cnn must be valid, same or blocks, not {config.cnn!r}")


def make_decoder(
    config: ModelConfig, *, feat_size: int, size: int, channels: int
) -> Decoder | DoublingDecoder | BlockDecoder:
    """Features [N, F] -> what is drawn [N, C, size, size]; the counterpart of `make_encoder`."""
    if config.cnn == "valid":
        return Decoder(feat_size, channels, config.cnn_depth, norm=config.norm)
    Kind = BlockDecoder if config.cnn == "blocks" else DoublingDecoder
    return Kind(feat_size, channels, config.cnn_depth, size=size, norm=config.norm)


def can_halve(size: int) -> bool:
    """Whether pictures of that size can be halved, at least once, until SMALLEST pixels or fewer are left."""
    return size > SMALLEST and size % 2 ** halvings(size) == 0


def can_block(size: int) -> bool:
    """Whether pictures of that size can be cut into blocks of BLOCK pixels, joined by fours until few are left."""
    return can_halve(size) and halvings(size) >= 2


def halvings(size: int) -> int:
    """How often `same` halves a picture."""
    return 0 if size <= SMALLEST else 1 + halvings(size // 2)


class PictureActivation(nn.Module):
    """`Activation` over the channels: [N, C, H, W] -> [N, C, H, W]."""

    def __init__(self, channels: int, *, norm: bool) -> None:
        super().__init__()
        self.activation = Activation(channels, norm=norm)

    def forward(self, x: Tensor) -> Tensor:
        if self.activation.norm is None:
            return F.elu(x)
        y: Tensor = self.activation(x.permute(0, 2, 3, 1))  # no copy: channels come last in memory
        return y.permute(0, 3, 1, 2)


def activations(channels: list[int], *, norm: bool) -> nn.ModuleList:
    return nn.ModuleList(PictureActivation(c, norm=norm) for c in channels)


class HalvingEncoder(nn.Module):
    """Convolutions (kernel 4, stride 2, padding 1) down to 4..7 pixels: [N, C, s, s] -> [N, outputs]; dreamerv3."""

    def __init__(self, channels: int, depth: int, *, size: int, norm: bool) -> None:
        super().__init__()
        times = halvings(size)
        sizes = [channels] + [depth * 2**n for n in range(times)]
        self.convs = nn.ModuleList(nn.Conv2d(i, o, 4, stride=2, padding=1) for i, o in pairwise(sizes))
        self.activations = activations(sizes[1:], norm=norm)
        channels_last(self.convs)
        self.outputs = sizes[-1] * (size >> times) ** 2

    def forward(self, image: Tensor) -> Tensor:
        x = image.contiguous(memory_format=torch.channels_last)
        for conv, activation in zip(self.convs, self.activations, strict=True):
            x = activation(conv(x))
        return x.permute(0, 2, 3, 1).flatten(1)


class DoublingDecoder(nn.Module):
    """A dense layer, then transposed convolutions (kernel 4, stride 2): [N, F] -> float32 [N, C, s, s]; dreamerv3."""

    def __init__(self, inputs: int, channels: int, depth: int, *, size: int, norm: bool) -> None:
        super().__init__()
        times = halvings(size)
        sizes = [depth * 2**n for n in reversed(range(times))]
        self.side = size >> times
        self.dense = nn.Linear(inputs, sizes[0] * self.side**2)
        self.convs = nn.ModuleList(
            nn.ConvTranspose2d(i, o, 4, stride=2, padding=1) for i, o in pairwise([*sizes, channels])
        )
        self.activations = activations(sizes, norm=norm)
        channels_last(self.convs)

    def forward(self, feat: Tensor) -> Tensor:
        x: Tensor = self.dense(feat)
        x = x.view(len(feat), self.side, self.side, -1).permute(0, 3, 1, 2)
        for conv, activation in zip(self.convs, self.activations, strict=True):
            x = conv(activation(x))
        return x.float()


class BlockEncoder(nn.Module):
    """Blocks of 4x4 pixels, then of 2x2 blocks, down to 4..7: [N, C, s, s] -> [N, outputs]."""

    def __init__(self, channels: int, depth: int, *, size: int, norm: bool) -> None:
        super().__init__()
        times = halvings(size) - 1
        sizes = [channels * BLOCK**2] + [depth * 2**n for n in range(1, times + 1)]
        inputs = [sizes[0]] + [4 * i for i in sizes[1:-1]]
        self.layers = nn.ModuleList(nn.Linear(i, o) for i, o in zip(inputs, sizes[1:], strict=True))
        self.activations = nn.ModuleList(Activation(o, norm=norm) for o in sizes[1:])
        self.outputs = sizes[-1] * (size >> (times + 1)) ** 2

    def forward(self, image: Tensor) -> Tensor:
        x, side = image.permute(0, 2, 3, 1), BLOCK
        for layer, activation in zip(self.layers, self.activations, strict=True):
            x = activation(layer(into_blocks(x, side)))
            side = 2
        return x.flatten(1)


class BlockDecoder(nn.Module):
    """A dense layer, then each place becomes 2x2, then 4x4 pixels: [N, F] -> float32 [N, C, s, s]."""

    def __init__(self, inputs: int, channels: int, depth: int, *, size: int, norm: bool) -> None:
        super().__init__()
        times = halvings(size) - 1
        sizes = [depth * 2**n for n in reversed(range(1, times + 1))]
        outputs = [4 * o for o in sizes[1:]] + [channels * BLOCK**2]
        self.side = size >> (times + 1)
        self.dense = nn.Linear(inputs, sizes[0] * self.side**2)
        self.layers = nn.ModuleList(nn.Linear(i, o) for i, o in zip(sizes, outputs, strict=True))
        self.activations = nn.ModuleList(Activation(i, norm=norm) for i in sizes)

    def forward(self, feat: Tensor) -> Tensor:
        x: Tensor = self.dense(feat)
        x = x.view(len(feat), self.side, self.side, -1)
        *others, last = zip(self.layers, self.activations, strict=True)
        for layer, activation in others:
            x = out_of_blocks(layer(activation(x)), 2)
        layer, activation = last
        return out_of_blocks(layer(activation(x)), BLOCK).permute(0, 3, 1, 2).float()


def into_blocks(x: Tensor, side: int) -> Tensor:
    """Cuts pictures into blocks of side x side: [N, H, W, C] -> [N, H/side, W/side, side*side*C]."""
    n, high, wide, channels = x.shape
    cut = x.reshape(n, high // side, side, wide // side, side, channels).transpose(2, 3)
    return cut.reshape(n, high // side, wide // side, -1)


def out_of_blocks(x: Tensor, side: int) -> Tensor:
    """The way back: [N, H, W, side*side*C] -> [N, side*H, side*W, C]."""
    n, high, wide, _ = x.shape
    cut = x.reshape(n, high, wide, side, side, -1).transpose(2, 3)
    return cut.reshape(n, side * high, side * wide, -1)


class Encoder(nn.Module):
    """Four convolutions, 64 -> 31 -> 14 -> 6 -> 2: [N, C, 64, 64] -> [N, 32*depth]."""

    def __init__(self, channels: int, depth: int, *, norm: bool = False) -> None:
        super().__init__()
        sizes = [channels, depth, 2 * depth, 4 * depth, 8 * depth]
        self.convs = nn.ModuleList(nn.Conv2d(i, o, kernel_size=4, stride=2) for i, o in pairwise(sizes))
        self.activations = activations(sizes[1:], norm=norm)
        channels_last(self.convs)
        self.outputs = 2 * 2 * 8 * depth

    def forward(self, image: Tensor) -> Tensor:
        x = image.contiguous(memory_format=torch.channels_last)
        *others, last = self.convs
        *between, final = self.activations
        for conv, activation in zip(others, between, strict=True):
            x = activation(conv(x))
        y: Tensor = final(conv_to_2x2(x, last))
        return y.flatten(1)


class Decoder(nn.Module):
    """A dense layer without activation, then four transposed convolutions, 1 -> 5 -> 13 -> 30 -> 64.

    [N, F] -> float32 [N, C, 64, 64], the mean of a unit-variance normal per pixel.
    """

    def __init__(self, inputs: int, channels: int, depth: int, *, norm: bool = False) -> None:
        super().__init__()
        self.dense = nn.Linear(inputs, 32 * depth)
        sizes, kernels = [32 * depth, 4 * depth, 2 * depth, depth, channels], [5, 5, 6, 6]
        self.convs = nn.ModuleList(
            nn.ConvTranspose2d(i, o, kernel_size=k, stride=2)
            for (i, o), k in zip(pairwise(sizes), kernels, strict=True)
        )
        self.activations = activations(sizes[1:-1], norm=norm)
        channels_last(self.convs[:-1])

    def forward(self, feat: Tensor) -> Tensor:
        first, *others, last = self.convs
        x = self.activations[0](transposed_conv_of_one_pixel(self.dense(feat), first))
        for conv, activation in zip(others, self.activations[1:], strict=True):
            x = activation(conv(x))
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
