"""Drawing: pictures of the game side by side with words around them, and films of such frames.

Pictures are uint8 numpy arrays [H, W, 1 or 3], frames are uint8 [H, W, 3].
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import BinaryIO, NamedTuple

import imageio.v3 as iio
import numpy as np
from PIL import Image, ImageDraw, ImageFont

WHITE, GRAY = (235, 235, 235), (150, 150, 150)
GREEN, AMBER, RED = (90, 220, 120), (255, 180, 60), (255, 95, 85)  # seen, dreamt, over
BACKGROUND = (24, 26, 32)
GAP = 4  # pixels between panels
LINE = 20  # pixels, height of a line of text
TILE_GAP = 2  # pixels between the tiles of a strip
MARGIN = 52  # pixels left of a strip, for the names of its rows

Colour = tuple[int, int, int]


class Label(NamedTuple):
    """A few words and their colour."""

    text: str
    colour: Colour = WHITE


class Panel(NamedTuple):
    """One picture of a frame, and what is written above it."""

    label: Label
    picture: np.ndarray  # uint8 [H, W, 1 or 3]


def frame(panels: list[Panel], caption: list[list[Label]], *, scale: int) -> np.ndarray:
    """Panels of one size side by side, enlarged without smoothing, a label above each, lines of labels below them."""
    height, width = (scale * side for side in panels[0].picture.shape[:2])
    canvas = np.full(
        (2 * LINE + height + LINE * len(caption), (width + GAP) * len(panels) - GAP, 3), BACKGROUND, np.uint8
    )
    for n, panel in enumerate(panels):
        left = n * (width + GAP)
        canvas[LINE : LINE + height, left : left + width] = enlarge(panel.picture, scale)
    draw, picture = pencil(canvas)
    for n, panel in enumerate(panels):
        write(draw, n * (width + GAP) + GAP, LINE // 2, [panel.label])
    for n, line in enumerate(caption):
        write(draw, GAP, LINE + height + LINE // 2 + n * LINE + LINE // 2, line)
    return np.asarray(picture)


def grid(rows: dict[str, np.ndarray], times: list[Label], *, marker: int | None) -> np.ndarray:
    """Sequences of pictures, time goes right: name -> uint8 [T, B, H, W, 1 or 3]; `times` [T] stands above the columns.

    The rows of one sequence stand together. `marker`: the column before which an amber line goes from top to bottom.
    """
    sequences, side_h, side_w = next(iter(rows.values())).shape[1:4]
    row, column = side_h + TILE_GAP, side_w + TILE_GAP
    block = row * len(rows) + 3 * TILE_GAP
    canvas = np.full((LINE + block * sequences, MARGIN + column * len(times), 3), BACKGROUND, np.uint8)
    if marker is not None:
        left = MARGIN + marker * column
        canvas[:, left - TILE_GAP : left] = AMBER
    tops = {(name, b): LINE + b * block + n * row for n, name in enumerate(rows) for b in range(sequences)}
    for (name, b), top in tops.items():
        for t, picture in enumerate(rows[name][:, b]):
            left = MARGIN + t * column
            canvas[top : top + side_h, left : left + side_w] = as_rgb(picture)
    draw, picture = pencil(canvas)
    for t, label in enumerate(times):
        write(draw, MARGIN + t * column + GAP, LINE // 2, [label])
    for (name, _), top in tops.items():
        write(draw, GAP, top + side_h // 2, [Label(name)])
    return np.asarray(picture)


def pencil(canvas: np.ndarray) -> tuple[ImageDraw.ImageDraw, Image.Image]:
    """A copy of the canvas as a Pillow image, and what draws on it."""
    picture = Image.fromarray(canvas)
    return ImageDraw.Draw(picture), picture


def write(draw: ImageDraw.ImageDraw, left: float, middle: float, labels: list[Label]) -> None:
    """Labels after each other on one line; `middle` is the height of its middle."""
    for label in labels:
        draw.text((left, middle), label.text, label.colour, font(), anchor="lm")
        left += draw.textlength(label.text + "   ", font())


@cache
def font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=14)


def as_rgb(picture: np.ndarray) -> np.ndarray:
    """uint8 [..., H, W, 1 or 3] -> uint8 [..., H, W, 3]."""
    return np.broadcast_to(picture, (*picture.shape[:-1], 3))


def enlarge(picture: np.ndarray, scale: int) -> np.ndarray:
    """uint8 [H, W, 1 or 3] -> uint8 [scale*H, scale*W, 3]; every pixel becomes a square."""
    return as_rgb(picture).repeat(scale, 0).repeat(scale, 1)


def difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """How far two pictures are apart, pixel by pixel: black where they agree. uint8 [...] twice -> uint8 [...]."""
    return np.abs(a.astype(np.int16) - b.astype(np.int16)).astype(np.uint8)


# --- Films ---


def write_gif(frames: Iterable[np.ndarray], path: Path | BinaryIO, fps: float) -> None:
    """256 colours per frame, no dithering (it would flicker). Equal neighbours become one frame that stays longer."""
    pictures = (Image.fromarray(f).quantize(256, dither=Image.Dither.NONE) for f in frames)
    first = next(pictures)
    first.save(path, format="GIF", save_all=True, append_images=pictures, duration=1000 / fps, loop=0)


def write_mp4(frames: Iterable[np.ndarray], path: Path, fps: float) -> None:
    """H.264 as every browser plays it; its colour format needs even sides, so an odd one grows by a pixel."""
    with iio.imopen(path, "w", plugin="pyav") as video:
        video.init_video_stream("libx264", fps=fps, pixel_format="yuv420p")
        for picture in frames:
            height, width = picture.shape[:2]
            video.write_frame(np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge"))
