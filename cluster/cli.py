"""The command line: `python -m cluster COMMAND`, or `dreamer COMMAND`. Exit codes: 0 done, 2 wrong request, 1 failed,
130 / 143 interrupted after saving."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable

from cluster import doctor
from cluster.errors import HeadLost
from learner.config import Diverged
from replay.config import UserError

# How long torch's threads spin for the next piece of work before they sleep. Spinning takes the cores from games and
# other processes, sleeping delays the next piece. Preset cpu (batch 16) on two cores, seconds per update alone and
# beside one busy process: 0: 0.42, 0.56; 10000: 0.29, 0.86; 100000: 0.32, 1.30. Actors mostly wait.
# Measured before the update was made faster; in whole runs since then 0 to 100000 differ by less than the noise.
SPIN = "10000"

USAGE = """usage: dreamer COMMAND [options]     (dreamer COMMAND --help tells a command's options)

  train      learn a game
  status     say how a run is going, or how it ended
  evaluate   play full games with a trained agent, beside a random one
  record     film a game, its reconstruction, or a dream
  export     make a small copy of a trained agent to give away
  bench      measure the speed of every part, and how near it is to what the machine can do
  config     print every value of a preset with its source
  params     print parameter counts
  monitor    watch a training that runs, with Prometheus
  doctor     check this machine
"""


def main(argv: list[str] | None = None) -> int:
    """Runs one command; returns the exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    screen = logging.StreamHandler()
    screen.setLevel(logging.WARNING)
    logging.basicConfig(format="%(levelname)s: %(message)s", handlers=[screen])
    try:
        return _run(arguments)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (Diverged, HeadLost) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader of our output has seen enough
        return 0


def _run(arguments: list[str]) -> int:
    # Read when torch is imported; see SPIN.
    os.environ.setdefault("GOMP_SPINCOUNT", SPIN)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(USAGE, end="")
        return 0
    # Imported late: torch alone takes two seconds, and --help should not; doctor must work where it is missing.
    if arguments[0] == "doctor":
        return doctor.doctor(arguments[1:])
    from cluster import agent_commands, commands, monitor, status
    from cluster.bench.command import bench

    table: dict[str, Callable[[list[str]], int]] = {
        "train": commands.train,
        "status": status.status,
        "evaluate": agent_commands.evaluate,
        "record": agent_commands.record,
        "export": agent_commands.export,
        "bench": bench,
        "config": commands.config,
        "params": commands.params,
        "monitor": monitor.monitor,
    }
    name, *rest = arguments
    if name not in table:
        raise UserError(f"there is no command {name!r}: use one of {', '.join([*table, 'doctor'])}")
    return table[name](rest)
