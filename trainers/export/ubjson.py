"""Universal Binary JSON (ubjson.org, draft 12), as much of it as XGBoost writes: objects, arrays, typed arrays, numbers, text.

Read here rather than by XGBoost, which ends the process on a file cut short.
"""

from __future__ import annotations

from typing import Any

import numpy as np

_NUMBERS = {"i": ">i1", "U": ">u1", "I": ">i2", "l": ">i4", "L": ">i8", "d": ">f4", "D": ">f8"}
_WORDS = {"Z": None, "T": True, "F": False}


def decode(data: bytes) -> Any:
    """The value; a typed array as a numpy array. Raises ValueError where the bytes are no such value, whole and alone."""
    reader = _Reader(data)
    value = reader.value(reader.mark())
    if reader.at != len(data):
        raise ValueError(f"{len(data) - reader.at} bytes behind the end")
    return value


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, n: int) -> bytes:
        if not 0 <= n <= len(self.data) - self.at:
            raise ValueError(f"{n} bytes wanted at {self.at} of {len(self.data)}")
        self.at += n
        return self.data[self.at - n : self.at]

    def mark(self) -> str:
        return self.take(1).decode("latin-1")

    def value(self, mark: str) -> Any:
        if mark == "{":
            return self.members()
        if mark == "[":
            return self.items()
        if mark == "S":
            return self.text(self.mark())
        if mark in _WORDS:
            return _WORDS[mark]
        return self.number(mark)

    def number(self, mark: str) -> Any:
        return self.numbers(mark, 1)[0].item()

    def numbers(self, mark: str, n: int) -> Any:
        if mark not in _NUMBERS:
            raise ValueError(f"no value begins with {mark!r} at {self.at}")
        dtype = np.dtype(_NUMBERS[mark])
        return np.frombuffer(self.take(n * dtype.itemsize), dtype).astype(dtype.newbyteorder("="))

    def text(self, mark: str) -> str:
        """mark: of its length."""
        return self.take(self.number(mark)).decode()

    def members(self) -> dict[str, Any]:
        found = {}
        while (mark := self.mark()) != "}":
            name = self.text(mark)
            found[name] = self.value(self.mark())
        return found

    def items(self) -> Any:
        mark = self.mark()
        if mark == "$":                        # of one type: [ $ type # count, then the bare values
            kind, sign = self.mark(), self.mark()
            if sign != "#":
                raise ValueError(f"a typed array without its count at {self.at}")
            return self.numbers(kind, self.number(self.mark()))
        if mark == "#":
            return [self.value(self.mark()) for _ in range(self.number(self.mark()))]
        found = []
        while mark != "]":
            found.append(self.value(mark))
            mark = self.mark()
        return found
