"""Films the page on which one plays inside a dream: `python docs/results/film.py OUT.gif [--start N] [--steps N]`.

Needs Debian's chromium. First serve the page: `make play ARGS="--no-browser"`. The agent plays, a frame for each step.
"""

from __future__ import annotations

import argparse
import io
import shutil
from collections.abc import Iterator
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

WIDTH, HEIGHT = 1000, 1000  # of the window
STEPS = "() => Number(document.body.dataset.steps ?? -1)"


def frames(page: Page, *, start: int, steps: int) -> Iterator[Image.Image]:
    """The page after each step since the real moment number `start`."""
    page.wait_for_function(f"({STEPS})() > 0")
    page.keyboard.press("1")  # two steps a second: time enough for a picture of each
    page.locator("#gallery button").nth(start).click()
    below = page.locator(".dream .controls").bounding_box()
    assert below is not None
    above = {"x": 0, "y": 0, "width": WIDTH, "height": below["y"]}  # what is above the buttons
    for step in range(steps + 1):
        page.wait_for_function(f"({STEPS})() === {step}")
        shot = Image.open(io.BytesIO(page.screenshot(clip=above))).convert("RGB")
        yield shot.resize((shot.width * 3 // 4, shot.height * 3 // 4), Image.Resampling.LANCZOS).quantize(64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--url", default="http://127.0.0.1:8080")
    parser.add_argument("--start", type=int, default=0, help="number of the real moment to begin from")
    parser.add_argument("--steps", type=int, default=90)
    options = parser.parse_args()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        size = {"width": WIDTH, "height": HEIGHT}
        page = browser.new_page(viewport=size, bypass_csp=True)  # the page forbids to wait for an expression
        page.goto(options.url)
        shots = list(frames(page, start=options.start, steps=options.steps))
        browser.close()
    held = [80] * (len(shots) - 1) + [2000]  # milliseconds; the end can be looked at
    shots[0].save(options.out, save_all=True, append_images=shots[1:], duration=held, loop=0, optimize=True)


if __name__ == "__main__":
    main()
