"""The page in a real browser, live and as a folder: what a person presses, sees and is told."""

from __future__ import annotations

import functools
import http.server
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import psutil
import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from cluster.play.folder import write_page
from cluster.play.server import Address, serving
from cluster.play.starts import about, first_frames
from replay.ports import free_port
from tests.cluster.play.conftest import Shipped
from tests.deploy.tools import need

SECONDS = 60.0
DREAM = "() => Array.from(document.getElementById('dream').getContext('2d').getImageData(0, 0, 40, 40).data)"
pytestmark = pytest.mark.xdist_group("browser")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = need("chromium")
    with sync_playwright() as playwright:
        options = {"executable_path": program, "args": ["--no-sandbox", "--disable-gpu"]}
        browser = playwright.chromium.launch(**options)
        yield browser
        browser.close()


class Visitor:
    """A page that is open, and all that it should not have done."""

    def __init__(self, browser: Browser, url: str, **context: Any) -> None:
        self.faults: list[str] = []
        self._context = browser.new_context(**context)
        self.page: Page = self._context.new_page()
        self.page.set_default_timeout(1000 * SECONDS)
        self.page.on("console", lambda said: self._fault(said.text) if said.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda error: self._fault(str(error)))
        self.page.on("request", lambda request: None if request.url.startswith(url) else self._fault(request.url))
        self.page.goto(url)

    def _fault(self, what: str) -> None:
        if "willReadFrequently" not in what:  # the tests read pictures back, the page does not
            self.faults.append(what)

    def close(self) -> None:
        self._context.close()

    def ask(self, script: str) -> Any:
        return self.page.evaluate(script)

    def says(self, name: str) -> str:
        return self.page.locator(f"#{name}").inner_text()

    def steps(self) -> int:
        return int(self.ask("() => document.body.dataset.steps ?? -1"))

    def wait(self, what: str, condition: Callable[[], Any]) -> None:
        deadline = time.monotonic() + SECONDS
        while not condition():
            assert time.monotonic() < deadline, f"waited in vain for {what}; {self.faults}"
            self.page.wait_for_timeout(30)

    def wait_for_steps(self, number: int) -> None:
        self.wait(f"step {number}", lambda: self.steps() >= number)

    def stands(self) -> bool:
        """Whether nothing has come for a while; at most one answer can be under way."""
        before = self.steps()
        self.page.wait_for_timeout(500)
        return self.steps() == before

    def picture(self) -> np.ndarray:
        """The dream: uint8 [40, 40]."""
        return np.array(self.ask(DREAM), np.uint8).reshape(40, 40, 4)[:, :, 0]

    def paddle(self) -> float:
        """The column of its middle; NaN where the dream has lost it."""
        columns = np.flatnonzero(self.picture()[38, 2:38] > 128)
        return float(columns.mean()) if len(columns) else np.nan

    def press(self, key: str) -> None:
        self.page.keyboard.press(key)


@contextmanager
def visit(browser: Browser, url: str, **context: Any) -> Iterator[Visitor]:
    """Fails where the page has complained, or asked for anything elsewhere."""
    visitor = Visitor(browser, url, **context)
    try:
        yield visitor
        assert not visitor.faults
    finally:
        visitor.close()


@pytest.fixture(scope="module")
def live(shipped: Shipped) -> Iterator[str]:
    address = Address("127.0.0.1", free_port(0))
    with serving(shipped.offer(), address):
        yield address.url


@pytest.fixture(scope="module")
def still(shipped: Shipped, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The folder, served by a plain web server."""
    need("npm")
    folder = tmp_path_factory.mktemp("web") / "page"
    page = about(shipped.agent, shipped.env, shipped.starts, update=7, live=False)
    sizes = write_page(shipped.agent, page | {"first": first_frames(shipped.agent, shipped.starts)}, folder)
    assert 1e6 < sizes.model < 12e6 < sizes.all
    with plain_server(folder) as url:
        yield url


@contextmanager
def plain_server(folder: Path) -> Iterator[str]:
    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


# --- Both ways ---


def check_play(visitor: Visitor) -> None:
    """What every page must do: the agent plays, a hand takes over, pause, single steps, restart, speed, temperature."""
    visitor.wait_for_steps(5)
    assert visitor.says("mode").startswith("The agent plays")
    visitor.press("p")
    assert visitor.says("mode") == "Paused"
    visitor.wait("a stand", visitor.stands)
    stands = visitor.steps()
    before = visitor.picture()
    visitor.press(".")
    visitor.wait("one step", lambda: visitor.steps() == stands + 1)
    assert (visitor.picture() != before).any()
    visitor.press("p")
    assert visitor.says("heat-says") == "0.5"  # the temperature that the policy was trained with
    visitor.press("t")
    visitor.press("t")
    assert visitor.says("heat-says") == "1.5"
    visitor.press("Shift+T")
    assert visitor.says("heat-says") == "1.0"
    visitor.press("9")
    assert visitor.says("speed-says") == "60 steps/s"
    visitor.press("5")
    assert visitor.says("speed-says") == "15 steps/s"

    visitor.page.keyboard.down("ArrowRight")
    visitor.wait("the paddle at the right", lambda: visitor.paddle() > 25)
    visitor.page.keyboard.up("ArrowRight")
    assert visitor.says("mode") == "You play"
    visitor.page.keyboard.down("ArrowLeft")
    visitor.wait("the paddle at the left", lambda: visitor.paddle() < 10)
    visitor.page.keyboard.up("ArrowLeft")

    visitor.press("p")
    visitor.page.get_by_label("Begin from real moment 4", exact=True).click()
    visitor.wait("the start", lambda: visitor.steps() == 0)
    assert visitor.ask("() => document.body.dataset.start") == "3"
    first = visitor.picture()
    visitor.press(".")
    visitor.wait("a step from there", lambda: visitor.steps() == 1)
    visitor.press("r")
    visitor.wait("the start again", lambda: visitor.steps() == 0)
    assert (visitor.picture() == first).all()
    visitor.press("p")
    visitor.press("a")
    assert visitor.says("mode").startswith("The agent plays")
    visitor.wait_for_steps(5)


def test_a_person_plays_live(browser: Browser, live: str) -> None:
    with visit(browser, live) as visitor:
        check_play(visitor)
        assert visitor.page.locator("#real").is_visible()
        assert "ball" in visitor.says("distance")
        assert visitor.page.locator("#plots figure").count() == 5


@pytest.mark.slow
def test_a_person_plays_in_the_folder(browser: Browser, still: str) -> None:
    with visit(browser, still) as visitor:
        check_play(visitor)
        assert not visitor.page.locator("#real").is_visible()
        assert visitor.page.locator("#plots figure").count() == 4


@pytest.mark.slow
def test_the_folder_keeps_up_with_the_game(browser: Browser, still: str) -> None:
    """15 steps a second on one core, drawing included: by the time of the CPU, whatever else this machine does."""
    with visit(browser, still) as visitor:
        visitor.press("9")
        visitor.wait_for_steps(20)
        before, spent = visitor.steps(), seconds_of_the_browser()
        visitor.wait_for_steps(before + 100)
        each = (seconds_of_the_browser() - spent) / (visitor.steps() - before)
    print(f"{1000 * each:.1f} ms of CPU for a step")
    assert each < 1 / 15


def seconds_of_the_browser() -> float:
    """CPU time of all its processes so far."""
    found = (each for each in psutil.Process().children(recursive=True) if "chrom" in each.name())
    return sum(times.user + times.system for times in (each.cpu_times() for each in found))


# --- Live ---


def test_a_server_that_goes_is_said_and_one_that_comes_back_is_found(browser: Browser, shipped: Shipped) -> None:
    address = Address("127.0.0.1", free_port(0))
    visitor = None
    try:
        with serving(shipped.offer(), address):
            visitor = Visitor(browser, address.url)
            visitor.wait_for_steps(3)
            visitor.press("1")  # two steps a second: what is new below can be told from what was before
        visitor.wait("the word that it is gone", lambda: visitor.page.locator("#trouble").is_visible())
        assert "is gone. Trying again" in visitor.says("trouble")
        with serving(shipped.offer(), address):
            visitor.wait("the connection", lambda: not visitor.page.locator("#trouble").is_visible())
            visitor.wait("a new dream", lambda: 0 <= visitor.steps() < 3)
            visitor.wait_for_steps(5)
        # A browser notes each try that fails; there is nothing else.
        assert all("WebSocket connection" in fault or "ws://" in fault for fault in visitor.faults), visitor.faults
    finally:
        if visitor:
            visitor.close()


def test_two_pages_are_played_at_once(browser: Browser, live: str) -> None:
    with visit(browser, live) as one, visit(browser, live) as other:
        one.page.keyboard.down("ArrowRight")
        other.page.keyboard.down("ArrowLeft")
        one.wait("a paddle at the right", lambda: one.paddle() > 25)
        other.wait("a paddle at the left", lambda: other.paddle() < 10)


def test_a_token_opens_the_page(browser: Browser, shipped: Shipped) -> None:
    address = Address("127.0.0.1", free_port(0), "a-word-nobody-guesses")
    with serving(shipped.offer(), address):
        visitor = Visitor(browser, address.url)
        visitor.wait_for_steps(3)
        assert not [fault for fault in visitor.faults if str(address.port) not in fault]
        visitor.close()


def test_a_phone_shows_all_of_it_and_is_played_by_touch(browser: Browser, live: str) -> None:
    phone = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
    with visit(browser, live, **phone) as visitor:
        visitor.wait_for_steps(3)
        assert visitor.ask("() => document.documentElement.scrollWidth") <= 390
        right = visitor.page.get_by_label("right", exact=True)
        assert right.is_visible()
        for _ in range(60):
            right.tap()
            visitor.page.wait_for_timeout(60)
            if visitor.paddle() > 25:
                break
        assert visitor.paddle() > 25
        assert visitor.says("mode") == "You play"


# --- One page that is looked at from all sides ---


@pytest.fixture(scope="module")
def shown(browser: Browser, live: str) -> Iterator[Visitor]:
    with visit(browser, live) as visitor:
        visitor.wait_for_steps(1)
        yield visitor


@pytest.mark.parametrize(("width", "height"), [(320, 300), (390, 844), (820, 600), (1280, 800), (2560, 1440)])
def test_nothing_sticks_out_of_any_window(shown: Visitor, width: int, height: int) -> None:
    shown.page.set_viewport_size({"width": width, "height": height})
    assert shown.ask("() => document.documentElement.scrollWidth") <= width
    box = shown.page.locator("#dream").bounding_box()
    assert box and box["width"] > 150 and abs(box["width"] - box["height"]) < 2


def test_every_control_has_a_name_for_a_screen_reader(shown: Visitor) -> None:
    for name in ("Agent plays", "Pause", "One step", "Restart"):
        assert shown.page.get_by_role("button", name=name).count() == 1
    for name in ("Temperature", "Speed"):
        assert shown.page.get_by_role("slider", name=name).count() == 1
    names = shown.ask("() => [...document.querySelectorAll('button')].map((b) => b.ariaLabel ?? b.innerText)")
    assert len(names) > 15 and all(name.strip() for name in names)
    assert shown.page.get_by_role("img", name="What the world model imagines").count() == 1
    assert shown.page.locator("#mode").get_attribute("aria-live") == "polite"


def test_the_keyboard_alone_is_enough(shown: Visitor) -> None:
    """A button in focus keeps its space bar, a slider its arrows."""
    shown.page.locator("#pause").focus()
    shown.press("Space")
    assert shown.says("mode") == "Paused"
    shown.page.locator("#heat").focus()
    shown.press("ArrowRight")
    assert shown.says("heat-says") == "0.6" and shown.says("mode") == "Paused"


STICK = """async ([names, ways]) => {
    const { Stick } = await import("./stick.js");
    const stick = new Stick(names);
    ways.forEach((way) => stick.turn(way, true));
    const first = names[stick.take()];
    ways.forEach((way) => stick.turn(way, false));
    return [first, names[stick.take()]];
}"""
ALL = ["NOOP", "FIRE", "UP", "RIGHT", "LEFT", "DOWN", "UPRIGHT", "UPLEFT", "DOWNRIGHT", "DOWNLEFT", "UPFIRE"]
ALL += ["RIGHTFIRE", "UPRIGHTFIRE"]


@pytest.mark.parametrize(
    ("names", "ways", "action"),
    [
        (ALL, "UP RIGHT FIRE", "UPRIGHTFIRE"),
        (ALL, "DOWN LEFT", "DOWNLEFT"),
        (ALL, "LEFT FIRE", "LEFT"),  # there is no LEFTFIRE here
        (ALL, "LEFT RIGHT UP", "UP"),  # against each other: neither
        (ALL, "UP DOWN", "NOOP"),
        (ALL[:5], "UP RIGHT", "RIGHT"),
        (ALL[:2], "UP RIGHT FIRE", "FIRE"),
        (["0", "1"], "UP", "0"),
    ],
)
def test_keys_together_are_one_action(shown: Visitor, names: list[str], ways: str, action: str) -> None:
    """And when all are let go it is none."""
    assert shown.page.evaluate(STICK, [names, ways.split()]) == [action, names[0]]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_can_be_read_in_any_light(shown: Visitor, scheme: Literal["light", "dark"]) -> None:
    """Contrast of text and ground, 4.5 at least (WCAG 2 AA)."""
    shown.page.emulate_media(color_scheme=scheme)
    paper = shown.ask("() => getComputedStyle(document.documentElement).backgroundColor")
    for name in ("#mode", "#of", "#gallery-name", "#dream-says", ".dream b", "#real-side b", "footer p"):
        ink = shown.page.locator(name).first.evaluate("(element) => getComputedStyle(element).color")
        assert contrast(paper, ink) >= 4.5, name


def contrast(one: str, other: str) -> float:
    """Of two colours such as rgb(1, 2, 3)."""

    def light(colour: str) -> float:
        parts = [int(part) / 255 for part in colour.removeprefix("rgb(").removesuffix(")").split(",")]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))

    low, high = sorted((light(one), light(other)))
    return (high + 0.05) / (low + 0.05)
