"""`python -m cluster` and the console script `dreamer`: the command line, and one line where it cannot be loaded."""

import sys

from cluster.errors import what_is_missing


def main() -> int:
    """Runs the command line; 2 if a package or a library is missing."""
    try:
        from cluster.cli import main as command_line

        return command_line()
    except (ImportError, OSError) as error:
        if (line := what_is_missing(error)) is None:
            raise
        print(f"error: {line}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
