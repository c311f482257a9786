"""From a screen to an observation: (maximum of two frames), crop, perturbation and contrast, binary, smaller."""

from __future__ import annotations

import cv2
import numpy as np

from actors.config import EnvConfig

BACKGROUND = 48  # gray level that black becomes; Breakout's own are 85 (blue bricks), 110 (ball), 124 ... 148
BRIGHTNESS = 0.7  # factor of every level


def one_thread() -> None:
    """Several actors share the cores: OpenCV's own threads would fight for them."""
    cv2.setNumThreads(0)


def as_screen(picture: np.ndarray, grayscale: bool) -> np.ndarray:
    """uint8 [H, W], [H, W, 1] or [H, W, 3] -> uint8 [H, W] if grayscale, else [H, W, 3]."""
    if picture.ndim == 3 and picture.shape[2] == 1:
        picture = picture[:, :, 0]
    if grayscale:
        return picture if picture.ndim == 2 else cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_RGB2GRAY)
    return picture if picture.ndim == 3 else np.stack([picture] * 3, axis=2)


def level_table(config: EnvConfig) -> np.ndarray:
    """uint8 [256]: what every level of the raw screen becomes, first by the perturbation and then by the contrast.

    A colour is changed channel by channel. Only black may then have a channel of 0; in Breakout that is so.
    """
    levels = np.arange(256, dtype=np.uint8)
    if config.perturb == "background":
        levels[0] = BACKGROUND
    if config.perturb == "brightness":
        levels = contrast_table(BRIGHTNESS)
    return contrast_table(config.contrast)[levels]


def contrast_table(contrast: float) -> np.ndarray:
    """uint8 [256]: the new value of every gray level. Clipped before it becomes uint8, which would overflow."""
    return np.clip(np.rint(np.arange(256) * contrast), 0, 255).astype(np.uint8)


def foreground(screen: np.ndarray) -> np.ndarray:
    """uint8 [H, W] -> uint8 [H, W]: 0 where the level is the most frequent one (the background), 255 elsewhere.

    What the game looks like no longer matters, only what stands out: any even background, any light, gives one picture.
    """
    background = cv2.calcHist([screen], [0], None, [256], [0, 256]).argmax()
    return cv2.compare(screen, float(background), cv2.CMP_NE)


def shrink(screen: np.ndarray, config: EnvConfig, table: np.ndarray) -> np.ndarray:
    """screen: uint8 [H, W] or [H, W, 3], table: uint8 [256] (`level_table`) -> uint8 [size, size, C]."""
    top, bottom, left, right = config.crop
    screen = screen[top : screen.shape[0] - bottom, left : screen.shape[1] - right]
    if config.contrast != 1 or config.perturb != "none":
        screen = cv2.LUT(screen, table)
    if config.binary:
        screen = foreground(screen)
    if config.shrink == "max":
        high, wide = (side // config.size for side in screen.shape[:2])
        block = np.ones((high, wide), np.uint8)
        screen = cv2.dilate(screen, block, anchor=(0, 0))[::high, ::wide]  # of the block that begins at each pixel
    elif screen.shape[:2] != (config.size, config.size):
        # The mean over the area keeps a ball of one pixel; other ways may step over it. Only shrinking has an area.
        how = cv2.INTER_AREA if min(screen.shape[:2]) >= config.size else cv2.INTER_LINEAR
        screen = cv2.resize(screen, (config.size, config.size), interpolation=how)
    return screen.reshape(config.size, config.size, -1)
