"""What fails again and again is said once, and once more when it works again."""

from __future__ import annotations

import logging


class Trouble:
    """One thing that can fail, in words for both cases: "cannot write curves", "can write curves again"."""

    def __init__(self, failing: str, working: str, log: logging.Logger) -> None:
        self._failing, self._working, self._log = failing, working, log
        self.why = ""  # it fails now; "" = it does not, as far as is known

    def failed(self, error: Exception | str, then: str = "training goes on") -> None:
        """Says so, unless it was said and has not worked since."""
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        said, self.why = bool(self.why), reason  # before it is said: saying it may be what fails
        if not said:
            self._log.error("%s (%s); %s", self._failing, reason, then)

    def over(self) -> None:
        """It worked just now."""
        if self.why:
            self.why = ""
            self._log.warning("%s", self._working)


def cannot_write(name: str, log: logging.Logger) -> Trouble:
    """The trouble with a file that is written again and again."""
    return Trouble(f"cannot write to {name}", f"{name} can be written again", log)
