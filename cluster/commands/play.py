"""`play`: the page on which a person plays inside the dream; Ctrl-C ends it."""

from __future__ import annotations

import os
import sys
import threading
import webbrowser

import torch

from actors.game import resolve
from cluster import assemble
from cluster.commands.options import PlayOptions, parse
from cluster.play.session import Session
from cluster.play.starts import about, check_policy, find_starts
from replay.ports import free_port


def play(arguments: list[str]) -> int:
    """Serves the page until a signal. Raises UserError where it cannot begin."""
    options = parse(PlayOptions, arguments, command="play")
    from cluster.play.server import Address, Offer, check_address, serving  # what it imports no other command needs

    address = Address(options.host, options.port, options.token)
    check_address(address)
    free_port(options.port, option="--port")  # before the seconds that follow
    torch.set_num_threads(1)  # one state at a time is too little to share out
    agent, config, found = assemble.load(options.run, path=options.checkpoint)
    check_policy(agent)
    env = resolve(config.env)
    print("the agent plays some seconds, for real moments to begin from ...", file=sys.stderr, flush=True)
    starts = find_starts(agent, env, seed=options.seed)
    page = about(agent, env, starts, update=found.update, live=True)
    offer = Offer(page, lambda number: Session(agent, env, starts, seed=options.seed + number))
    with serving(offer, address):
        print(f"play inside the dream of update {found.update:,}: {address.url}", file=sys.stderr)
        print("Ctrl-C ends it", file=sys.stderr, flush=True)
        if options.browser and has_screen():
            webbrowser.open(address.url)
        threading.Event().wait()
    return 0


def has_screen() -> bool:
    """Without one webbrowser would start a browser of the terminal, and wait for its end."""
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
