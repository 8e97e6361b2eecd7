"""What is kept per symbol: one contiguous row of 64-bit words, so that a snapshot of a symbol is its bytes.

Kernels see the rows twice, as int64 and as float64, over the same memory; each part of a row belongs to one of the
two. Rows are zero until a symbol's first tick.
"""

from __future__ import annotations

import numpy as np

from .types import F64, I64


class SymbolRows:
    """A growing (symbols, words) matrix; `ints` and `floats` are two views of it."""

    ints: I64
    floats: F64

    def __init__(self, words: int) -> None:
        self.words = words
        self._see(np.zeros((4, words), np.int64))

    def _see(self, rows: I64) -> None:
        self.ints = rows
        self.floats = rows.view(np.float64)

    def ensure(self, symbols: int) -> None:
        """Have at least so many rows; new ones are zero."""
        have = len(self.ints)
        if symbols > have:
            rows = np.zeros((max(symbols, 2 * have), self.words), np.int64)
            rows[:have] = self.ints
            self._see(rows)

    def snapshot(self, sid: int) -> bytes:
        return bytes(self.ints[sid].tobytes())

    def clear(self, sid: int) -> None:
        """Back to before the symbol's first tick."""
        self.ensure(sid + 1)
        self.ints[sid] = 0

    def restore(self, sid: int, blob: bytes) -> None:
        """Put a snapshot back. Raises ValueError where the length differs."""
        self.ensure(sid + 1)
        row = np.frombuffer(blob, np.int64)
        if row.size != self.words:
            raise ValueError(f"a row of {row.size} words, {self.words} expected")
        self.ints[sid] = row
