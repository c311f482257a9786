"""The Ray process that holds the replay: a thin shell around the Reverb server, and how the others find it."""

from __future__ import annotations

import logging
import time

import ray

from cluster.every import Every
from cluster.metrics.recorders import ReplayRecorder
from cluster.on_ray.instruments import AGAIN_SECONDS, open_instruments
from cluster.on_ray.mailbox import NoteHandler
from cluster.on_ray.mailbox_client import MESSAGE_SECONDS
from cluster.on_ray.placement import Place
from replay import serve

REPLAY = "replay"  # the name under which the process is found, in the Ray namespace of the run


def replay_lives() -> bool:
    """Whether the replay's process is there; it may be loading what it had saved."""
    try:
        ray.get_actor(REPLAY)
    except ValueError:  # nobody has that name: it is dead, and not yet started again
        return False
    return True


@ray.remote(num_cpus=0, max_concurrency=4)
class ReplayRole:
    """Holds the Reverb server; starts from its newest checkpoint."""

    def __init__(self, place: Place) -> None:
        logging.getLogger().addHandler(NoteHandler(place.mailbox, "replay"))
        replay, run = place.config.replay, place.run
        host = place.config.cluster.host
        self._server = serve(replay, place.spec, directory=run.replay, run_id=run.id, host=host)
        self._mailbox = place.mailbox
        self._instruments = open_instruments(place.config.cluster, "replay", "replay")
        self._recorder = ReplayRecorder(self._instruments.meter, replay, self._server.stats())

    def where(self) -> str:
        """The address of its machine: answered as soon as it runs, and while it lives."""
        return ray.util.get_node_ip_address()

    def checkpoint(self) -> None:
        began = time.monotonic()
        self._server.checkpoint()
        self._recorder.saved(time.monotonic() - began)

    def run(self) -> None:
        """Never returns: whoever waits for it learns that the process has died. Says how the replay is."""
        self._instruments.announce(self._mailbox)
        again = Every(AGAIN_SECONDS)
        while True:
            time.sleep(MESSAGE_SECONDS)
            self._recorder.stats(self._server.stats())
            if again.due():
                self._instruments.announce(self._mailbox)
