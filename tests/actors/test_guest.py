"""What a game changes of the process that it is played in is put back, and said."""

from __future__ import annotations

import logging
import logging.config
import signal
from collections.abc import Callable
from pathlib import Path

import gymnasium
import pytest
import torch

from actors.calling import Calling
from actors.config import EnvConfig
from actors.env import check_game
from actors.guest import look, put_back
from cluster.console import signals
from cluster.run.log_file import recording
from tests.actors import faulty_games

LOGGING = {
    "disable": lambda: logging.disable(logging.CRITICAL),
    "force": lambda: logging.basicConfig(force=True, level=logging.DEBUG),
    "dict": lambda: logging.config.dictConfig({"version": 1}),
    "clear": lambda: logging.getLogger().handlers.clear(),
    "one": lambda: setattr(logging.getLogger("run"), "disabled", True),
    "level": lambda: logging.getLogger().setLevel(logging.CRITICAL),
}
TORCH = {
    "gradients": lambda: torch.set_grad_enabled(False),
    "dtype": lambda: torch.set_default_dtype(torch.float64),
}


@pytest.mark.parametrize("way", LOGGING)
def test_log_txt_goes_on(way: str, tmp_path: Path) -> None:
    log = logging.getLogger("run")
    with recording([]) as file:
        file.open(tmp_path / "log.txt")
        log.warning("before")
        with (calling := Calling("a game", "reset()")):
            LOGGING[way]()
        log.warning("after")
    assert calling.changed == {"logging"}
    assert [line.split()[-1] for line in (tmp_path / "log.txt").read_text().splitlines()[1:]] == ["before", "after"]


@pytest.mark.parametrize("way", TORCH)
def test_torch_computes_as_before(way: str) -> None:
    with (calling := Calling("a game", "reset()")):
        TORCH[way]()
    weights = torch.ones(3, requires_grad=True)
    assert torch.rand(3).dtype == torch.float32 and (weights * 2).requires_grad
    assert calling.changed == {"torch's gradients or dtype"}


def test_chance_is_ours_and_a_game_has_its_own() -> None:
    """A seed in every reset, ours even, changes nothing of what training draws; what a game draws does not repeat."""
    torch.manual_seed(7)
    expected = torch.rand(3).tolist()
    torch.manual_seed(7)
    seeds, draws = Calling("a game", "reset()"), Calling("a game", "reset()")
    found, drawn = [], set()
    for _ in range(3):
        with seeds:
            torch.manual_seed(7)
        with draws:
            drawn.add(float(torch.rand(1)))
        found.append(float(torch.rand(1)))
    assert found == expected and len(drawn) == 3 and not seeds.changed


def test_signals_are_handled_as_before() -> None:
    before = look().signals
    with (calling := Calling("a game", "reset()")):
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    assert look().signals == before and calling.changed == {"who handles signals"}


def test_what_a_guest_brings_along_stays() -> None:
    """A logger or a handler of its own."""
    before, handler = look(), logging.NullHandler()
    logging.getLogger().addHandler(handler)
    logging.getLogger("the game's").setLevel(logging.DEBUG)
    try:
        assert put_back(before) == [] and handler in logging.getLogger().handlers
    finally:
        logging.getLogger().removeHandler(handler)


def game_that(does: Callable[[], object], name: str) -> EnvConfig:
    def reset(self: object, seen: object, told: object) -> tuple[object, object]:
        does()
        return seen, told

    if f"Guest/{name}-v0" not in gymnasium.registry:
        gymnasium.register(f"Guest/{name}-v0", faulty_games.Faulty, kwargs={"reset": reset})
    return EnvConfig(id=f"Guest/{name}-v0", frame_skip=1, noop_max=0, sticky=0.0)


def test_it_is_said_which_game_it_is() -> None:
    said: list[str] = []
    check_game(game_that(LOGGING["disable"], "Mute"), said.append)
    (line,) = said
    assert line.startswith("Guest/Mute-v0 changes logging of") and "put back" in line
    check_game(game_that(lambda: None, "Good"), said.append)
    assert len(said) == 1
    (line,) = said
    assert "\n" not in line


def test_a_game_that_asks_for_the_end_itself_is_a_game_that_broke() -> None:
    """Where Ctrl-C is ours it comes as another kind of error; from Python's own handler it is this one."""
    config = game_that(faulty_games.raises(KeyboardInterrupt("window closed")), "Closed")
    with pytest.raises(KeyboardInterrupt):
        check_game(config)
    with signals.as_before():
        signals.take(signals.Interrupt())
        with pytest.raises(Exception, match=r"reset\(\) raised KeyboardInterrupt: window closed"):
            check_game(config)
        with pytest.raises(signals.Interrupted), Calling("a game", "step()"):
            signal.raise_signal(signal.SIGINT)
