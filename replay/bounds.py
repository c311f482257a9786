"""What a setting may be: said in its type, beside its value, and checked in one loop.

    batch: Annotated[int, "1 <= x <= 1e9"] = 16
    unimix: Annotated[float, "0 <= x < 1", "a uniform policy learns nothing"] = 0.0  # what goes wrong otherwise
    precision: Literal["float32", "bfloat16"] = "float32"

Plain strings, so that a package which imports nobody of ours (dreamer) has its settings checked as well.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Callable, Iterator
from types import UnionType
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias, Union, get_args, get_origin, get_type_hints

Rule: TypeAlias = tuple[bool, str]  # what must hold of several values together, and what to say where it does not
WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
_BOUNDS = re.compile(r"(?:(?P<low>\S+) (?P<above><=?) )?x(?: (?P<below><=?) (?P<high>\S+))?")


class Bounds(NamedTuple):
    """An interval, its ends as they are written."""

    low: str = "-inf"
    low_is_in: bool = False
    high: str = "inf"
    high_is_in: bool = False

    def hold(self, value: float) -> bool:
        """Whether a number is inside; nan and infinity never are."""
        low, high = float(self.low), float(self.high)
        return low < value < high or (self.low_is_in and value == low) or (self.high_is_in and value == high)

    def __str__(self) -> str:
        """Such as "1 to 16" or "above 0 and at most 1"."""
        if self.low_is_in and self.high_is_in:
            return f"{self.low} to {self.high}"
        low = f"{'at least' if self.low_is_in else 'above'} {self.low}" if self.low != "-inf" else ""
        high = f"{'at most' if self.high_is_in else 'below'} {self.high}" if self.high != "inf" else ""
        return " and ".join(end for end in (low, high) if end)


def read_bounds(text: str) -> Bounds:
    """The interval that is written "0 < x <= 1", or with one end "1 <= x"."""
    found = _BOUNDS.fullmatch(text)
    if found is None:
        raise ValueError(f'bounds are written "0 < x <= 1", not {text!r}')
    return Bounds(found["low"] or "-inf", found["above"] == "<=", found["high"] or "inf", found["below"] == "<=")


class Kind(NamedTuple):
    """A field's type, taken apart."""

    plain: Any  # bool, int, float, str, a Literal; of anything else (a path, a whole section) nothing is checked here
    bounds: Bounds | None = None
    why: str = ""  # what goes wrong outside the bounds
    times: int = 0  # values of a tuple; 0 = it is none
    optional: bool = False

    def __str__(self) -> str:
        """What is allowed, in words: "0 to 1", "tanh, clip or none", "4 times 0 to 1000"."""
        one = str(self.bounds) if self.bounds else self.type_in_words()
        return f"{self.times} times {one}" if self.times else one

    def in_full(self) -> str:
        """What is allowed, and of which type: "a whole number, 1 to 16"."""
        return f"{self.type_in_words()}, {self}" if self.bounds and not self.times else str(self)

    def type_in_words(self) -> str:
        if get_origin(self.plain) is Literal:
            *others, last = get_args(self.plain)
            return f"{', '.join(others)} or {last}" if others else str(last)
        return WORDS.get(self.plain, "a path")

    def wrong(self, value: Any) -> str:
        """What a value must be; "" if that is what it is."""
        if self.times:
            good = isinstance(value, tuple) and len(value) == self.times
            return "" if good and not any(map(self._replace(times=0).wrong, value)) else str(self)
        if not self.has_type(value):
            return self.in_full()
        if self.bounds is None or value is None or self.bounds.hold(value):
            return ""
        return str(self.bounds) + (f" ({self.why})" if self.why else "")

    def has_type(self, value: Any) -> bool:
        """A whole number is a number, too; true and false are none."""
        if self.times:
            one = self._replace(times=0)
            return isinstance(value, tuple) and len(value) == self.times and all(map(one.has_type, value))
        if value is None:
            return self.optional
        if get_origin(self.plain) is Literal:
            return value in get_args(self.plain)
        return self.plain not in WORDS or type(value) is self.plain or (self.plain is float and type(value) is int)


def read_kind(hint: Any) -> Kind:
    """What a type hint allows; a tuple's values are all of the kind of the first one."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return read_kind(parts[0])._replace(optional=True)
    if origin is tuple:
        return read_kind(parts[0])._replace(times=len(parts))
    if origin is Annotated:
        texts = [part for part in parts[1:] if isinstance(part, str)]
        return Kind(parts[0], read_bounds(texts[0]), " ".join(texts[1:])) if texts else read_kind(parts[0])
    return Kind(hint)


def kinds(settings: type[Any]) -> dict[str, Kind]:
    """Field -> what it may be, of a dataclass."""
    return {name: read_kind(hint) for name, hint in get_type_hints(settings, include_extras=True).items()}


def misfits(settings: Any) -> Iterator[tuple[str, str]]:
    """(field, "must be 1 to 16, not 0") for each value of a dataclass that its type does not allow."""
    values = vars(settings)
    for name, kind in kinds(type(settings)).items():
        if must := kind.wrong(values[name]):
            yield name, f"must be {must}, not {reprlib.repr(values[name])}"


def first_fault(section: str, settings: Any, rules: Callable[[Any], list[Rule]]) -> str:
    """One line on the first setting that is wrong, by itself or beside the others; "" if none is.

    `rules` are asked only where each value is right by itself.
    """
    for name, must in misfits(settings):
        return f"{section}.{name} {must}"
    return next((message for holds, message in rules(settings) if not holds), "")
