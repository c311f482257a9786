"""What can go wrong, by who can do something about it.

`UserError` is everybody's: it lives here because all packages but `dreamer` may import this one, and this file imports
nothing.
"""

from __future__ import annotations


class UserError(ValueError):
    """The request is wrong and the user can mend it: the command line prints this one line, exit code 2."""


class ReplayTimeout(RuntimeError):
    """No batch came in time; the text says who is waited for. Trying again is fine."""


class ReplayUnavailable(RuntimeError):
    """The replay server has been silent for longer than the patience that was asked for."""


class ReplayCorrupt(RuntimeError):
    """A saved replay cannot be read back."""
