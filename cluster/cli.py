"""The command line: `python -m cluster COMMAND`, or `dreamer COMMAND`. Exit codes: 0 done, 2 wrong request, 1 failed,
129 / 130 / 143 interrupted (SIGHUP, Ctrl-C, SIGTERM); a training has saved then."""

from __future__ import annotations

import atexit
import logging
import os
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

from actors import strays
from cluster.console import signals, terminal

Command = Callable[[list[str]], int]


USAGE = """usage: dreamer COMMAND [options]     (dreamer COMMAND --help tells a command's options)

  train      learn a game
  dream      learn a new behaviour in the world model of a run
  status     say how a run is going, or how it ended
  evaluate   play full games with a trained agent, beside a random one
  record     film a game, its reconstruction, or a dream
  play       play inside the dream of a trained agent, in a browser
  export     make a small copy of a trained agent to give away, or a web page of its dream
  bench      measure the speed of every part, and how near it is to what the machine can do
  config     print every value of a preset with its source
  params     print parameter counts
  monitor    watch a training that runs, with Prometheus
  doctor     check this machine, or with --env ID a game
"""


HELP = (["-h"], ["--help"], ["help"])


def program() -> NoReturn:
    """The whole life of the process."""
    atexit.register(signals.ignore)  # the first that is registered is the last that is called
    terminal.keep_result_apart()
    strays.tell()
    code = main()
    signals.take(signals.quit_with(code))
    strays.leave(code)
    sys.exit(code)


def main(argv: list[str] | None = None) -> int:
    """Runs one command; returns the exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    with signals.as_before():
        signals.take(signals.quit_at_once)
        terminal.prepare()
        screen = logging.StreamHandler()
        screen.setLevel(logging.WARNING)
        logging.basicConfig(format="%(levelname)s: %(message)s", handlers=[screen])
        return _run(_import_commands(arguments[:1]), arguments)


def _run(commands: dict[str, Command], arguments: list[str]) -> int:
    """The command that is asked for. What ends it is one line; raises what nobody has foreseen."""
    from cluster.errors import ENDS, in_one_line
    from replay.errors import UserError

    interrupt = signals.Interrupt()
    signals.take(interrupt)
    try:
        code = _choose(commands, arguments)
        terminal.flush_result()
        return code
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except ENDS as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except BaseException as error:
        if interrupt.signal:  # whatever libraries have made of Interrupted
            return 128 + interrupt.signal
        if isinstance(error, SystemExit) and error.code == signal.SIGTERM:  # Ray's answer to it while it starts
            return 128 + signal.SIGTERM
        if isinstance(error, BrokenPipeError) and terminal.result_is_unwanted():
            terminal.drop_result()  # the reader of our output has seen enough
            return 0
        if isinstance(error, OSError):  # the machine's, not the program's
            print(f"error: {in_one_line(error)}", file=sys.stderr)
            terminal.drop_result()
            return 1
        raise


def _choose(commands: dict[str, Command], arguments: list[str]) -> int:
    from replay.errors import UserError

    if arguments[:1] in ([], *HELP):
        print(USAGE, end="")
        return 0
    name, *rest = arguments
    if name not in commands:
        raise UserError(f"there is no command {name!r}: use one of {', '.join(commands)}")
    return commands[name](rest)


def _import_commands(asked: list[str]) -> dict[str, Command]:
    """All of them by name; for doctor and help no others, which work where torch or the games cannot be loaded."""
    from cluster.commands import doctor

    if asked in ([], ["doctor"], *HELP):
        return {"doctor": doctor.doctor}
    from learner.config import SPIN

    os.environ.setdefault("GOMP_SPINCOUNT", SPIN)  # read when torch is imported
    from cluster.commands import agent, describe, dream, monitor, play, status, train
    from cluster.commands.bench import bench

    return {
        "train": train.train,
        "dream": dream.dream,
        "status": status.status,
        "evaluate": agent.evaluate,
        "record": agent.record,
        "play": play.play,
        "export": agent.export,
        "bench": bench,
        "config": describe.config,
        "params": describe.params,
        "monitor": monitor.monitor,
        "doctor": doctor.doctor,
    }
