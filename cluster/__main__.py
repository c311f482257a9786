"""`python -m cluster` and the console script `dreamer`: the command line, and one line where it cannot be loaded."""

import sys

from cluster.console import signals
from cluster.console.missing import what_is_missing


def main() -> None:
    """Runs the command line and ends the process; exit code 2 if a package or a library is missing."""
    signals.take(signals.quit_at_once)  # before anything is imported that takes its time
    try:
        from cluster.cli import program

        program()
    except (ImportError, OSError) as error:
        if (line := what_is_missing(error)) is None:
            raise
        print(f"error: {line}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
